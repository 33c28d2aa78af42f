"Benchmarks take minutes: that each works on tiny data is a proof; that what they name exists is looked up in no time."

import ast
from functools import cache
import pytest
from copies import ROOT
from test_lessons import run_lessons
from test_notebooks import cells, name

BENCHMARKS = sorted((ROOT / "nbs/benchmarks").glob("*.ipynb"))
PLACES = (ROOT, ROOT / "tests", ROOT / "tests/serving")  # Where they import from


def module_file(dotted):
    "Where a module of ours is; None for one of others."
    for place in PLACES:
        path = place / dotted.replace(".", "/")
        for found in (path.with_suffix(".py"), path / "__init__.py"):
            if found.is_file():
                return found
    return None


@cache
def names_of(path):
    "What a module defines or imports, a package's modules too."
    found = {child.stem for child in path.parent.iterdir()} if path.name == "__init__.py" else set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def programs(code):
    "The code, and what it holds as text for processes of their own."
    tree = ast.parse(code)
    texts = [one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return [tree, *(ast.parse(text) for text in texts if "\nimport " in text or "\nfrom " in text)]


def missing(code):
    "What is taken from modules of ours and is not there."
    gone = []
    for tree in programs(code):
        known = {}  # Names of modules of ours in this program -> their files
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (file := module_file(node.module)):
                gone += [f"{node.module}.{one.name}" for one in node.names if one.name not in names_of(file)]
                known |= {one.asname or one.name: module_file(f"{node.module}.{one.name}") for one in node.names}
            elif isinstance(node, ast.Import):
                known |= {one.asname or one.name: module_file(one.name) for one in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and known.get(node.value.id):
                if node.attr not in names_of(known[node.value.id]):
                    gone.append(f"{node.value.id}.{node.attr}")
        gone += [f"the module {said}" for said in modules_of(tree) if not module_file(said)]
    return sorted(set(gone))


def modules_of(tree):
    "Modules of the library that are imported."
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "cd4ml_nb":
            yield node.module


@pytest.mark.parametrize("path", BENCHMARKS, ids=name)
def test_a_benchmark_takes_from_the_library_what_is_there(path):
    code = "\n".join("".join(cell["source"]) for cell in cells(path))
    assert not missing(code), f"{name(path)} takes what is not there: {missing(code)}"


def test_what_is_gone_is_seen():
    code = (
        "import shop\nfrom cd4ml_nb.core import project_root, gone_one\nfrom cd4ml_nb.gone import a\nshop.gone_two()\n"
    )
    code += 'SCRIPT = """\nfrom cd4ml_nb.delivery import night\nnight.gone_three, night.turn\n"""\n'
    assert missing(code) == ["cd4ml_nb.core.gone_one", "night.gone_three", "shop.gone_two", "the module cd4ml_nb.gone"]
    assert missing("import json\njson.whatever\n") == []


@pytest.mark.prove
@pytest.mark.parametrize("path", BENCHMARKS, ids=name)
def test_a_benchmark_works_on_tiny_data(path):
    done = run_lessons(path, timeout=1_800)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_a_benchmark_is_tiny_unless_it_is_told():
    tagged = [[cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])] for path in BENCHMARKS]
    assert len(BENCHMARKS) > 8 and all("".join(own["source"]).startswith("tiny = True") for (own,) in tagged)
