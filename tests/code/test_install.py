"What an installation needs: forecasts run on the bare requirements, and nothing is imported that is not declared."

import ast, configparser, json, os, re, shutil, subprocess, sys
from importlib.metadata import packages_distributions
from pathlib import Path
import nbformat, numpy as np, pytest
from cd4ml_nb.model.block import ARRAYS as BLOCK
from cd4ml_nb.model.forecaster import load_forecaster
from cd4ml_nb.model.package import read_state
from cd4ml_nb.tiny import tiny_project
from copies import ROOT

MOST_DISTRIBUTIONS, MOST_BYTES = 15, 350_000_000
ASK = """import json, sys
import cd4ml_nb
from cd4ml_nb.model.block import take_series
from cd4ml_nb.model.forecaster import load_forecaster
f = load_forecaster(sys.argv[1])
store, item = f.series.iloc[0]
few = f.with_block(take_series(f.block, slice(1, None)))  # the first series was never sold in it
print(json.dumps({
    "where": cd4ml_nb.__file__,
    "answer": f.answer(item, store, f.card["first_day"]),
    "new": few.answer(item, store, f.card["last_day"], True)["mean"],
    "rows": len(f.forecast()),
    "total": f.total(item)["mean"],
}))"""
# What a server does that wants no tables at all
ARRAYS = """import json, sys
from pathlib import Path
from cd4ml_nb.model.block import Block
from cd4ml_nb.model.kernel import OnnxModels, day_quantiles, dispersion, forecast_horizon
from cd4ml_nb.model.kernel import open_curves, sells_whole_units
import numpy as np
folder, given = Path(sys.argv[1]), dict(np.load(sys.argv[2]))
sealed = json.loads((folder / "forecaster.json").read_text())
names = {name[7:]: given.pop(name) for name in list(given) if name.startswith("series_")}
block, serving, horizon = Block(names, given.pop("first_day"), **given), sealed["serving"], sealed["card"]["horizon"]
origin = block.day(sealed["card"]["forecast_origin"])
mean, _ = forecast_horizon(OnnxModels(folder, serving), block, origin, horizon, np.arange(block.n_series))
habits = sells_whole_units(block, origin), dispersion(block, origin)
q = day_quantiles(open_curves(serving["calibration"])["series"], mean, *habits, np.arange(1, horizon + 1))
heavy = {"pandas", "pyarrow", "sklearn", "ibis", "jinja2"} & set(sys.modules)
print(json.dumps({"mean": mean.tolist(), "q90": q[..., 2].tolist(), "heavy": sorted(heavy)}))"""


def run(*command, **given):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **given)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def model():
    "A packaged model."
    return tiny_project("gate") / "data/model"


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    "An empty environment into which the wheel was installed, with its bare requirements in the versions of the lock."
    folder = tmp_path_factory.mktemp("light")
    source, pins = folder / "source", folder / "pins.txt"
    source.mkdir()
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "cd4ml_nb", source / "cd4ml_nb", ignore=shutil.ignore_patterns("__pycache__"))
    pins.write_text(re.sub(r" \\$", "", "\n".join(re.findall(r"^[a-z0-9].*", lock(), re.M)), flags=re.M))
    uv = Path(sys.executable).parent / "uv"
    run(uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, source)
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "env")
    wheel, python = next(folder.glob("*.whl")), folder / "env/bin/python"
    install = [uv, "pip", "install", "--quiet", "--python", python, "--constraint", pins, wheel]
    if subprocess.run([*map(str, install), "--offline"], capture_output=True).returncode:
        run(*install)
    return folder / "env"


def lock():
    return (ROOT / "requirements.lock").read_text()


def test_the_light_installation_forecasts(light, model, tmp_path):
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    said = json.loads(run(light / "bin/python", "-I", "-c", ASK, model, cwd=tmp_path, env=environment))
    f = load_forecaster(model)
    store, item = f.series.iloc[0]
    assert Path(said["where"]).is_relative_to(light)
    assert said["answer"] == f.answer(item, store, f.card["first_day"])
    assert said["rows"] == len(f.series) * f.horizon and said["new"] > 0 and said["total"] == f.total(item)["mean"]
    assert list(tmp_path.rglob("*")) == []


def test_arrays_need_no_tables(light, model, tmp_path):
    f, block = load_forecaster(model), read_state(model / "state.parquet")
    needed = ("item_nbr", "family", "class", "type")
    series = {f"series_{name}": block.series[name].astype(str) for name in needed}
    series["series_perishable"] = block.series["perishable"]
    arrays = {name: getattr(block, name) for name in ("first_day", *BLOCK)}
    np.savez(tmp_path / "given.npz", **arrays, **series)
    said = json.loads(run(light / "bin/python", "-I", "-c", ARRAYS, model, tmp_path / "given.npz", cwd=tmp_path))
    expected, offered = f.arrays(), f.offered
    for name in ("mean", "q90"):
        answers = np.array(said[name])
        assert (answers[offered] == expected[name]).all() and (answers[~offered] == 0).all()
    assert said["heavy"] == [] and 0 < offered.sum() < len(offered)


def test_the_light_installation_is_light(light):
    packages = next((light / "lib").glob("python*/site-packages"))
    distributions = sorted(path.name.split("-")[0] for path in packages.glob("*.dist-info"))
    files = (path for path in packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    size = sum(path.stat().st_size for path in files)
    assert "cd4ml_nb" in distributions and len(distributions) <= MOST_DISTRIBUTIONS, distributions
    assert size <= MOST_BYTES, f"{size / 1e6:.0f} MB"


def test_a_forecaster_loads_nothing_that_only_others_need():
    "Neither engines nor estimators nor pages; that is what makes it start in a moment."
    heavy = (
        "sklearn",
        "skops",
        "joblib",
        "scipy",
        "ibis",
        "duckdb",
        "jinja2",
        "tabulate",
        "matplotlib",
        "dvc",
        "mlflow",
    )
    ask = f"import sys, cd4ml_nb.model.forecaster; print(sorted(set({heavy}) & set(sys.modules)))"
    assert run(sys.executable, "-c", ask, cwd=ROOT).strip() == "[]"


# declared


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared():
    "Names of the distributions that each list in settings.ini asks for; an extra brings those that it refers to."
    config = configparser.ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    lists = {key: text.split() for key, text in config["DEFAULT"].items() if key.endswith("requirements")}

    def names(key):
        found = set()
        for line in lists[key]:
            own = re.fullmatch(r"cd4ml_nb\[([\w,]+)\]", line)
            extras = own[1].split(",") if own else []
            found |= set().union(*(names(f"{extra}_requirements") for extra in extras))
            found |= set() if own else {canonical(re.match(r"[\w.-]+", line)[0])}
        return found

    return {key.removesuffix("requirements").rstrip("_"): names(key) for key in lists}


def outside(code):
    "Top-level names of the packages that a piece of code imports, without Python's own and ours."
    for node in ast.walk(ast.parse(code)):
        whole = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            whole = [node.module]
        for name in {module.split(".")[0] for module in whole}:
            if name not in sys.stdlib_module_names and name != "cd4ml_nb":
                yield name


def sources(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield path, path.read_text()
    for path in sorted((ROOT / folder).rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            yield from ((path, cell.source) for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")


# Which part of the house runs on which extra; what is not named here runs on the pipeline's
ROOMS = {
    "cd4ml_nb/core.py": "",
    "cd4ml_nb/model/block.py": "",
    "cd4ml_nb/model/features.py": "",
    "cd4ml_nb/model/kernel.py": "",
    "cd4ml_nb/model/package.py": "",
    "cd4ml_nb/model/forecaster.py": "",
    "cd4ml_nb/data": "data",
    "cd4ml_nb/look.py": "train",
    "cd4ml_nb/style.py": "train",
    "cd4ml_nb/model": "train",
    "cd4ml_nb/quality": "train",
    "cd4ml_nb/serving": "serve",
    "cd4ml_nb/apps": "dashboard",
    "nbs/apps": "dashboard",
    "cd4ml_nb": "pipeline",
    "nbs/stages": "pipeline",
}


def test_every_import_is_declared():
    "In the extra of its room, or in the bare requirements; Spark's and the broker's in extras of their own."
    known, installed, missing = declared(), packages_distributions(), []
    for folder in ("cd4ml_nb", "nbs/apps", "nbs/stages"):
        for path, code in sources(folder):
            where = str(path.relative_to(ROOT))
            extra = next(extra for part, extra in ROOMS.items() if where == part or where.startswith(part + "/"))
            allowed = known[""] | known["spark"] | known["broker"] | (known[extra] if extra else set())
            for name in outside(code):
                if not {canonical(found) for found in installed.get(name, [name])} & allowed:
                    missing.append(f"{where} imports {name}, which [{extra}] does not declare")
    assert missing == []


def test_all_is_all():
    "The extra `all` brings what five others do, and every extra is in the lock."
    known = declared()
    assert known["all"] == set().union(*(known[name] for name in ("data", "train", "pipeline", "dashboard", "serve")))
    locked = {canonical(name) for name in re.findall(r"^([\w.-]+)==", lock(), re.M)}
    assert set().union(*known.values()) - locked == set()


@pytest.mark.parametrize("damage", ["none", "the holdout", "the model"])
def test_a_consumer_embeds_the_live_model(light, tmp_path, damage):
    "The example application and its contract test, where nothing but the light installation is."
    sys.path.insert(0, str(ROOT / "tests" / "serving"))
    from shop import make_shop, put_live

    root, example = make_shop(tmp_path / "shop"), tmp_path / "consumer"
    if damage == "the holdout":
        spoil_holdout(root / "made")
    put_live(root, "trees-1")
    if damage == "the model":
        path = root / "data/registry/trees-1/package/mean.onnx"
        path.write_bytes(path.read_bytes() + b" ")
    shutil.copytree(ROOT / "examples/embedded", example)
    model = load_forecaster(tiny_project("gate") / "data/model")
    store = model.series.loc[0, "store_nbr"]

    def start(*words):
        command = [light / "bin/python", "-P", *words]
        env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(example)}
        return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=tmp_path, env=env)

    checked, packed = start(example / "check_contract.py", root), start(example / "trucks.py", root, store, 3)
    if damage == "none":
        assert (checked.returncode, checked.stderr) == (0, "") and "trees-1 keeps the contract" in checked.stdout
        assert packed.stdout.endswith("Model trees-1 on data data of trees-1.\n") and "packs of" in packed.stdout
    else:
        says = {"the holdout": "the holdout says that totals are wrong by", "the model": "trees-1, is refused"}[damage]
        assert checked.returncode == 1 and says in checked.stderr and len(checked.stderr.splitlines()) == 1


def spoil_holdout(package):
    "Forecasts on the holdout that are a fifth too high, sealed as if they were the model's."
    import pandas as pd
    from cd4ml_nb.core import sha256_of
    from cd4ml_nb.model.package import _seal_of

    path, about = package / "holdout.parquet", package / "forecaster.json"
    table = pd.read_parquet(path)
    table.assign(mean=table["mean"] * 1.2).to_parquet(path)
    told = json.loads(about.read_text())
    told["files"]["holdout.parquet"] = sha256_of(path)
    told["seal"] = _seal_of(told)
    about.write_text(json.dumps(told))
