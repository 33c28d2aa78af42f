"Asking for a forecast tells nobody and leaves nothing in HOME."

import ast, os, re, shutil, subprocess, sys
from contextlib import redirect_stderr
from io import StringIO
import nbformat, pytest
from cd4ml_nb.tiny import tiny_project
from cd4ml_nb.delivery.package import package
from copies import ROOT

ASK = """import sys
from cd4ml_nb.model.forecaster import load_forecaster
f = load_forecaster(sys.argv[1])
store, item = f.series.iloc[0]
print(f.answer(item, store, f.card["first_day"])["mean"])"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tiny_project("package")
    with redirect_stderr(StringIO()):
        package(root)
    return shutil.copytree(root / "data/model", tmp_path_factory.mktemp("packed") / "model")


def asked(model, home, code=ASK):
    "What a process with a fresh HOME, and no word about telemetry in its environment, prints."
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, model], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_forecast_leaves_nothing_in_home(model, tmp_path):
    assert float(asked(model, tmp_path)) > 0
    assert list(tmp_path.rglob("*")) == []


def test_the_runtime_is_told_by_whatever_is_imported_first(tmp_path):
    "Also by what imports mlflow or skl2onnx, which could load the runtime by themselves."
    for module in ("core", "model.kernel", "delivery.onnx", "model.estimators"):
        said = asked("", tmp_path, f"import cd4ml_nb.{module}, os; print(os.environ['ORT_DISABLE_TELEMETRY'])")
        assert said == "1", module


def sources():
    "Python of the library, of its notebooks, of tests and scripts: (where, code)."
    for folder in ("cd4ml_nb", "tests", "scripts"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, path.read_text()
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            for cell in nbformat.read(path, 4).cells:
                if cell.cell_type == "code":
                    yield path, cell.source


def imports(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_one_module_alone_imports_the_runtime():
    "All others ask `model.kernel`, so that nothing can load the runtime before it is told."
    found = {
        str(path.relative_to(ROOT))
        for path, code in sources()
        if re.search(r"\bonnxruntime\b", code) and any(name.split(".")[0] == "onnxruntime" for name in imports(code))
    }
    assert found == {"cd4ml_nb/model/kernel.py", "nbs/model/03b_kernel.ipynb"}
