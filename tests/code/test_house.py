"The rules of the house, said by tools before a reviewer must (`make check`)."

import ast, json, re, sys
import pytest
from copies import ROOT, copy_project, run
from test_notebooks import NOTEBOOKS, STAGES, cells, name

LINES, CHARACTERS, IN_A_ROW = 30, 2000, 4


def source(cell):
    return "".join(cell["source"])


def is_export(cell):
    return cell["cell_type"] == "code" and re.match(r"#\|\s*export", source(cell))


def defines_functions(cell):
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    return any(isinstance(node, kinds) for node in ast.parse(source(cell)).body)


def is_lesson(cell):
    return cell["cell_type"] == "code" and not source(cell).startswith("#|")


def too_long(path):
    "Sentences on export cells that cannot be read at a glance."
    for cell in filter(is_export, cells(path)):
        text = source(cell)
        if len(text.splitlines()) > LINES or len(text) > CHARACTERS:
            first = next((line for line in text.splitlines() if line.startswith(("def ", "class "))), text[:60])
            yield f"{path.name}: {len(text.splitlines())} lines, {len(text):,} characters: {first!r}"


def without_lesson(path):
    "Sentences on long runs of exported functions without an example between them."
    row = 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if is_export(cell) and defines_functions(cell):
            row += 1
            if row == IN_A_ROW + 1:
                yield f"{path.name}: more than {IN_A_ROW} cells of functions in a row, at {source(cell)[:70]!r}"
        elif is_lesson(cell):
            row = 0


@pytest.mark.parametrize("rule", [too_long, without_lesson])
def test_export_cells_can_be_read_at_a_glance(rule):
    wrong = [sentence for path in NOTEBOOKS for sentence in rule(path)]
    assert not wrong, "\n".join(wrong)


def test_the_rules_for_cells_see_what_they_should(tmp_path):
    def notebook(*sources):
        made = [{"cell_type": "code", "source": [text], "metadata": {}, "outputs": []} for text in sources]
        (tmp_path / "x.ipynb").write_text(json.dumps({"cells": made}))
        return tmp_path / "x.ipynb"

    function = "#| export\ndef f():\n    pass"
    assert list(too_long(notebook(function + "\n    pass" * LINES)))
    assert not list(too_long(notebook(function)))
    assert list(without_lesson(notebook(*[function] * 5)))
    assert list(without_lesson(notebook(*[function.replace("def", "async def")] * 5)))
    assert not list(without_lesson(notebook(*[function] * 4, "f()", *[function] * 4)))


def known_words():
    "Every word of the project's code, parameters and commands."
    patterns = ["cd4ml_nb/**/*.py", "tests/**/*.py", "scripts/*", "ci/*", ".github/workflows/*"]
    files = [path for pattern in patterns for path in ROOT.glob(pattern)]
    files += [ROOT / file for file in ("Makefile", "params.yaml", "dvc.yaml", "settings.ini", "pyproject.toml")]
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file() and path.name != "_modidx.py"]
    texts += [source(cell) for path in NOTEBOOKS for cell in cells(path)]
    return set(re.findall(r"[A-Za-z_]\w*", "\n".join(texts)))


def named_in_prose(path):
    "Names in backticks, such as `read_series` or `data.panel`, with each of their parts."
    for cell in cells(path, "markdown"):
        prose = re.sub(r"```.*?```", "", source(cell), flags=re.S)
        for quoted in re.findall(r"`([^`\n]+)`", prose):
            if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*(\(\))?", quoted):
                yield quoted


def in_library(parts):
    "Whether `room.module`, or `room.module.name`, is there."
    module = ROOT / "cd4ml_nb" / parts[0] / f"{parts[1]}.py"
    return module.is_file() and all(re.search(rf"\b{part}\b", module.read_text(encoding="utf-8")) for part in parts[2:])


def is_known(quoted, words):
    "Whether a name in prose is one of the code; a module is looked for in its room."
    parts = quoted.removeprefix("cd4ml_nb.").rstrip("()").split(".")
    if len(parts) > 1 and (ROOT / "cd4ml_nb" / parts[0]).is_dir() and parts[-1] not in ENDINGS:
        return in_library(parts)
    return all(part in words or part.isdigit() for part in parts)


ENDINGS = {"ipynb", "html", "json", "csv", "parquet", "yaml", "md"}


def test_every_name_in_prose_exists():
    words = known_words() | {path.name for path in ROOT.iterdir()}
    gone = [f"{name(path)}: `{quoted}`" for path in NOTEBOOKS for quoted in named_in_prose(path)]
    gone = [said for said in gone if not is_known(said.split("`")[1], words)]
    assert not gone, f"Named in prose, but nowhere in the code: {gone}"


@pytest.mark.parametrize("gone", ["data.versions", "delivery.tracking", "data.panel.read_arrays", "read_arrays_of"])
def test_a_name_that_is_gone_is_seen(gone):
    assert not is_known(gone, known_words() - {"read_arrays_of"})


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_a_stage_notebook_is_stored_without_outputs(path):
    kept = [source(cell)[:60] for cell in cells(path) if cell["outputs"]]
    assert not kept, (
        f"{name(path)} stores outputs of {kept}. They show an invented panel and would be taken for a report: "
        "clear them in JupyterLab (Edit, Clear Outputs of All Cells)"
    )


def tool(*words, root=ROOT):
    return run(root, sys.executable, "-m", *words)


def test_lines_are_plain_and_formatted():
    for words in (
        ["ruff", "check", "--quiet", "."],
        ["ruff", "format", "--check", "--quiet", "nbs", "tests", "scripts"],
    ):
        done = tool(*words)
        assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-1000:]}\nMend with: make tidy"


def test_public_functions_have_the_types_that_they_state():
    done = tool("mypy")
    assert done.returncode == 0, done.stdout[-4000:]


def lint_imports(root):
    return run(root, "lint-imports", "--no-cache")


def test_imports_go_one_way():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


WRONG_IMPORTS = {
    "two modules of a room import each other": ("quality/metrics.py", "from cd4ml_nb.quality import gates"),
    "the panel needs an engine": ("data/panel.py", "import duckdb"),
    "a web framework beside the service": ("data/sources.py", "import starlette"),
    "a room imports from its right": ("data/panel.py", "from cd4ml_nb.delivery import ledger"),
    "also inside a function": ("model/block.py", "def late():\n    from cd4ml_nb.quality import metrics"),
    "a second module imports MLflow": ("delivery/release.py", "import mlflow"),
    "a second module imports papermill": ("quality/metrics.py", "import papermill"),
    "a forecast needs the pipeline": ("model/forecaster.py", "import duckdb"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("imports") / "project")


@pytest.mark.parametrize("why", WRONG_IMPORTS)
def test_a_wrong_import_is_seen(copy, why):
    file, line = WRONG_IMPORTS[why]
    path = copy / "cd4ml_nb" / file
    before = path.read_text()
    path.write_text(f"{before}\n{line}\n")
    try:
        assert lint_imports(copy).returncode != 0, why
    finally:
        path.write_text(before)
