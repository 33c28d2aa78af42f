"Models in other formats: equal where this library is not, and nothing half-written where they cannot be."

import gzip, json, os, shutil, site, subprocess, sys
import numpy as np
import pytest
from copies import ROOT
from forward_and_search import brought, kept, lacking
from cd4ml_nb.core import UserError, sha256_of
from cd4ml_nb.delivery import export as exports
from cd4ml_nb.delivery.checking import check_program
from cd4ml_nb.delivery.export import export
from cd4ml_nb.delivery.formula import ANSWERS, NAMES, NUMBERS, read_formula
from cd4ml_nb.delivery.graph import make_graph
from cd4ml_nb.delivery.onnx import onnx_pair
from cd4ml_nb.delivery.pmml import make_pmml
from cd4ml_nb.delivery.registry import registry_folder
from cd4ml_nb.delivery.state import state
from cd4ml_nb.delivery.travelling import write_rows
from cd4ml_nb.model.blend import same_weekday
from cd4ml_nb.model.estimators import ESTIMATORS
from cd4ml_nb.model.features import CLOSABLE, FEATURES
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.kernel import OnnxModels, open_session
from cd4ml_nb.model.package import check_settings, unseal
from cd4ml_nb.tiny import tiny_live

# Python without what a .pth file adds: the packages of this environment, and not this library, which is linked to it.
ELSEWHERE = """
import importlib.util, runpy, sys
sys.path.append(sys.argv[1])
assert importlib.util.find_spec("cd4ml_nb") is None
try:
    runpy.run_path(sys.argv[2], run_name="__main__")
finally:
    print(getattr(sys.modules.get("cd4ml_nb"), "__file__", "no library"))
"""


@pytest.fixture(scope="module")
def shop():
    return tiny_live("2017-08-20")


@pytest.fixture(scope="module")
def name(shop):
    return state(shop)["champion"]["model_version"]


@pytest.fixture(scope="module")
def graph(shop, name, tmp_path_factory):
    return export(shop, name, "onnx", tmp_path_factory.mktemp("onnx") / "graph").folder


def check(folder):
    "What check.py says, where this library is not; exit code, lines."
    words = [sys.executable, "-I", "-S", "-B", "-c", ELSEWHERE, site.getsitepackages()[0], folder / "check.py"]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip().splitlines()


def test_a_graph_is_equal_elsewhere(graph, name):
    code, (said, library) = check(graph)
    assert (code, library) == (0, "no library") and said.startswith(
        "Equal: 240 rows, 0 of them different by more than 0.01 %"
    )
    about = json.loads((graph / "export.json").read_text())
    assert (about["model_version"], about["format"]) == (name, "onnx")
    assert {path.name for path in graph.iterdir()} == {*about["files"], "export.json"}


@pytest.mark.parametrize("file", ["forecaster.onnx", "holdout.csv.gz"])
def test_an_export_that_was_changed_says_so(graph, tmp_path, file):
    folder = tmp_path / "copy"
    shutil.copytree(graph, folder)
    (folder / file).write_bytes((folder / file).read_bytes() + b" ")
    code, lines = check(folder)
    assert code == 1 and f"The file {file} is not what was exported." in lines


def test_one_answer_that_differs_is_found(graph, tmp_path):
    "Not by the seal: whoever changes a row and its sha256 is told by the model."
    folder = tmp_path / "copy"
    shutil.copytree(graph, folder)
    head, first, *rest = gzip.decompress((folder / "holdout.csv.gz").read_bytes()).decode().splitlines()
    first = first.rpartition(",")[0] + ",1.5"
    (folder / "holdout.csv.gz").write_bytes(gzip.compress("\n".join([head, first, *rest]).encode()))
    about = json.loads((folder / "export.json").read_text())
    about["files"]["holdout.csv.gz"] = sha256_of(folder / "holdout.csv.gz")
    (folder / "export.json").write_text(json.dumps(about))
    code, lines = check(folder)
    assert code == 1 and lines[0].startswith("Not equal: 240 rows, 1 of them different")


@pytest.mark.parametrize(
    "version, format, says",
    [
        ("nobody", "onnx", "There is no registered version 'nobody'"),
        ("gradient", "onxx", "There is no format 'onxx' (did you mean onnx?)"),
        ("", "onnx", "There is no registered version ''"),
    ],
)
def test_what_is_not_there_is_not_exported(shop, tmp_path, version, format, says):
    with pytest.raises(UserError) as refused:
        export(shop, version, format, tmp_path / "out")
    assert says in str(refused.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", ["undecided", "rejected", "rolled back"])
def test_what_is_not_approved_stays_in_the_house(shop, name, tmp_path, monkeypatch, status):
    monkeypatch.setattr(exports, "state", lambda root: {"versions": [{"model_version": name, "status": status}]})
    with pytest.raises(UserError, match=f"is {status}, and only an approved version is exported. Approve it with"):
        export(shop, name, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(shop, name, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty, so nothing is exported to it"):
        export(shop, name, "onnx", tmp_path)
    with pytest.raises(UserError, match="is no folder, so nothing is exported to it"):
        export(shop, name, "onnx", tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_full_disk_leaves_nothing(shop, name, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports, "write_rows", full)
    with pytest.raises(UserError, match="the disk is full"):
        export(shop, name, "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.prove
@pytest.mark.parametrize("format", ["onnx", "mlflow"])
def test_a_disk_that_is_really_full_leaves_nothing(shop, name, tmp_path, format):
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "none", tmp_path]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        with pytest.raises(UserError, match="the disk is full"):
            export(shop, name, format, tmp_path / "out")
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.prove
def test_objects_of_another_run_are_not_this_version(shop, name, tmp_path, monkeypatch):
    "joblib keeps what data/fitted holds; where that is not the version's, the check stops it."
    fitted = exports.load_fitted(shop)
    fitted.mean, fitted.log_mean = fitted.log_mean, fitted.mean
    monkeypatch.setattr(exports, "load_fitted", lambda root: fitted)
    with pytest.raises(
        UserError, match="does not answer as the model does, so it is not exported. Not equal: 240 rows"
    ):
        export(shop, name, "joblib", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.prove
@pytest.mark.parametrize("format", ["mlflow", "mlflow-onnx", "pmml", "joblib"])
def test_each_format_is_equal_elsewhere(shop, name, tmp_path, format):
    "MLflow's model brings the library along, and uses its own; the others need none."
    done = export(shop, name, format, tmp_path / format)
    code, lines = check(done.folder)
    assert code == 0, lines
    carried = str(done.folder / "model/code/cd4ml_nb/__init__.py")
    assert (carried if format == "mlflow" else "no library") in lines
    assert any(line.startswith("Equal: ") for line in lines)
    pickles = {path.name for path in done.folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".joblib")}
    assert pickles == ({"models.joblib"} if format == "joblib" else set())
    assert ("Not for serving" in (done.folder / "README.md").read_text()) == bool(done.warning) == (format == "joblib")


@pytest.mark.prove
@pytest.mark.parametrize(
    "kind, closed", [("decision_tree", []), ("random_forest", CLOSABLE), ("gradient_boosting", CLOSABLE)]
)
def test_each_kind_of_trees_is_equal(tmp_path, kind, closed):
    "Trees that meet a number in place of unknown, averages of trees, sums in logs, and gaps that are closed."
    rng = np.random.default_rng(1)
    x = rng.gamma(1, 2, size=(3000, len(FEATURES))).astype(np.float32)
    sold = rng.poisson(x[:, 0]).astype(float)
    how = {"random_forest": {"n_estimators": 5}, "gradient_boosting": {"max_iter": 20}}.get(kind, {})
    fitted = ESTIMATORS[kind]({}, random_state=0, **how).learn(x.copy(), sold)
    x[rng.random(x.shape) < 0.2] = np.nan
    fitted.closed = closed
    for answer, graph in zip(ANSWERS, onnx_pair(fitted)):
        (tmp_path / f"{answer}.onnx").write_bytes(graph)
    names = {"family": ["a", "b<&"], "class": ["1"], "type": [""]}
    serving = {"encoding": names, "fill": fitted.fill, "log_link": fitted.log_link, "relative": fitted.relative}
    serving |= {"levels": {"milk": 1.5, "": 0.5}}
    formula = read_formula(tmp_path, {"card": {"model_version": "", "estimator": ""}, "serving": serving})
    columns = {name: x[:, FEATURES.index(name)] for name in NUMBERS}
    columns |= {name: rng.choice(np.array(["a", "b<&", "1", "", "milk"], object), len(x)) for name in NAMES}
    for column in ("family", "class", "type"):
        code = {name: number for number, name in enumerate(names[column])}
        x[:, FEATURES.index(column)] = [code.get(name, np.nan) for name in columns[column]]
    models = OnnxModels(tmp_path, serving)
    expected = {name: models.on_features({"item_nbr": columns["item_nbr"]}, x[:, None], name)[:, 0] for name in ANSWERS}

    (tmp_path / "forecaster.onnx").write_bytes(make_graph(formula))
    for answer in ANSWERS:
        (tmp_path / f"{answer}.pmml").write_bytes(make_pmml(formula, answer, ""))
    write_rows(tmp_path / "holdout.csv.gz", columns, expected)
    about = {"text": NAMES, "answers": ANSWERS, "files": {}}
    (tmp_path / "export.json").write_text(json.dumps(about))
    for format in ("onnx", "pmml"):
        (tmp_path / "check.py").write_text(check_program(format, 1e-4, 0.01))
        code, lines = check(tmp_path)
        assert code == 0 and lines[0].startswith("Equal: 3,000 rows, 0 of them"), (format, lines)


# Another evaluator of PMML

EVALUATOR = ROOT / "tests/peers/pmml"
JARS = kept("pmml", EVALUATOR / "pom.xml", EVALUATOR / "jars.sha256")


def bring_jars(folder):
    "The evaluator's jars, by Maven; each is one that is known."
    where = [f"-DoutputDirectory={folder}", "-f", str(EVALUATOR / "pom.xml")]
    words = ["mvn", "-q", "-B", "-C", "dependency:copy-dependencies", *where]
    done = subprocess.run(words, capture_output=True, text=True)
    if not done.returncode:
        known = dict(line.split()[::-1] for line in (EVALUATOR / "jars.sha256").read_text().splitlines())
        assert {jar.name: sha256_of(jar) for jar in folder.glob("*.jar")} == known, "not the jars that are known"
    return done


@pytest.mark.prove
def test_pmml_is_equal_to_another_evaluator(shop, name, tmp_path):
    if missing := lacking(["javac", "mvn"], "openjdk-17-jdk-headless maven"):
        pytest.skip(missing)
    if trouble := brought(JARS, bring_jars):
        pytest.skip(f"jpmml-evaluator could not be brought: {trouble}")
    folder = export(shop, name, "pmml", tmp_path / "pmml").folder
    asked = ["java", "-cp", f"{JARS}/*", str(EVALUATOR / "Evaluate.java"), str(folder)]
    done = subprocess.run(asked, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = np.array([line.split(",") for line in done.stdout.splitlines()], float)
    rows = gzip.decompress((folder / "holdout.csv.gz").read_bytes()).decode().splitlines()[1:]
    expected = np.array([line.split(",")[-2:] for line in rows], float)
    assert said.shape == expected.shape == (240, 2)
    assert (np.abs(said - expected) / np.maximum(expected, 0.01)).max() < 1e-4


def test_service_graph_and_pmml_mix_alike(shop, name):
    "The kernel, ONNX's runtime and the formula of PMML give the rule the same share, gaps included."
    package = registry_folder(shop) / name / "package"
    f, sealed = load_forecaster(package), unseal(package)
    rng, rows = np.random.default_rng(0), 200
    x = rng.gamma(2, size=(rows, len(FEATURES))).astype(np.float32)
    for name in ("weekday_mean_8", "weekday_log_mean_4", "log_mean_28", "mean_28"):
        x[rng.random(rows) < 0.3, FEATURES.index(name)] = np.nan
    items = np.array(["nobody"] * rows, object)
    f.models.serving = {**sealed["serving"], "blend": {}}
    plain = {name: f.models.on_features({"item_nbr": items}, x[:, None], name)[:, 0] for name in ANSWERS}
    f.models.serving = sealed["serving"] = {**sealed["serving"], "blend": {"mean": 0.6, "log_mean": 0.25}}
    said = {name: f.models.on_features({"item_nbr": items}, x[:, None], name)[:, 0] for name in ANSWERS}
    rule = same_weekday(x, "log_mean")
    expected = np.where(np.isnan(rule), plain["log_mean"], np.expm1(0.75 * np.log1p(plain["log_mean"]) + 0.25 * rule))
    np.testing.assert_allclose(said["log_mean"], expected, rtol=1e-6)
    formula = read_formula(package, sealed)
    given = {name: x[:, FEATURES.index(name)] for name in NUMBERS} | {name: items for name in NAMES}
    lookup = {name: formula.lookups[name][1] for name in NAMES if name in FEATURES}
    for name, number in lookup.items():  # names that nobody knows
        x[:, FEATURES.index(name)] = number
    said = {name: f.models.on_features({"item_nbr": items}, x[:, None], name)[:, 0] for name in ANSWERS}
    session = open_session(make_graph(formula))
    for name, answer in zip(ANSWERS, session.run(list(ANSWERS), given)):
        np.testing.assert_allclose(answer, said[name], rtol=1e-4, atol=1e-5)
    assert all(b"weekday_log_mean_4" in make_pmml(formula, name, "") for name in ANSWERS)


@pytest.mark.parametrize("wrong", [{"mean": 1.5}, {"wape": 0.5}, {"mean": True}])
def test_a_package_with_another_share_is_refused(shop, name, wrong):
    sealed = unseal(package := registry_folder(shop) / name / "package")
    with pytest.raises(UserError, match="blend is not shares from 0 to 1"):
        check_settings(package, {**sealed, "serving": {**sealed["serving"], "blend": wrong}})
