"""Write into dvc.yaml which library files each stage depends on: those that its notebook imports, also through another.

`make tidy` runs it."""

import ast, json, re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def imported(
    source,  # Python code
    package="",  # The package that relative imports start from
):
    "Files that a piece of code imports, also inside functions; not under `if tiny:`, which no pipeline enters."
    found, todo = set(), [ast.parse(source)]
    while todo:
        node = todo.pop()
        tiny = isinstance(node, ast.If) and ast.unparse(node.test) == "tiny"
        todo += node.orelse if tiny else ast.iter_child_nodes(node)
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package.split(".")[: -(node.level - 1) or None] if node.level else []
        module = ".".join([*base, *filter(None, [node.module])])
        if module.split(".")[0] != "cd4ml_nb":
            continue
        path = module.replace(".", "/")
        if (ROOT / f"{path}.py").exists():
            found.add(f"{path}.py")
        else:
            found |= {f"{path}/{alias.name}.py" for alias in node.names}
    return found


def imports_of(
    path,  # A library file, relative to the project's folder
):
    "Library files that a library file imports."
    return imported((ROOT / path).read_text(encoding="utf-8"), ".".join(Path(path).with_suffix("").parts[:-1]))


def library_of(
    stage,  # Name of a stage
):
    "Every library file behind a stage's notebook, in order."
    cells = json.loads((ROOT / "nbs" / "stages" / f"{stage}.ipynb").read_text(encoding="utf-8"))["cells"]
    todo = imported("\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code"))
    seen = set()
    while todo := todo - seen:
        path = todo.pop()
        seen.add(path)
        todo |= imports_of(path)
    return sorted(seen)


def with_dependencies(
    text,  # dvc.yaml
):
    "The same with each stage's library files brought up to date; everything else stays as it is."
    lines, stage = [], None
    for line in text.splitlines():
        if name := re.fullmatch(r"  (\w+):", line):
            stage = name[1]
        if re.fullmatch(r"      - cd4ml_nb/\S+\.py", line):
            continue
        lines.append(line)
        if re.fullmatch(r"      - nbs/stages/\w+\.ipynb", line):
            lines += [f"      - {path}" for path in library_of(stage)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    pipeline = ROOT / "dvc.yaml"
    pipeline.write_text(with_dependencies(pipeline.read_text(encoding="utf-8")), encoding="utf-8")
