"The command `cd4ml`: it teaches, it is quick, and its errors are sentences."

import json, os, re, socket, subprocess, sys, time
import pytest
from copies import ROOT, run
from test_stage_runner import refused


def test_help_teaches_and_is_quick(project):
    began = time.perf_counter()
    done = run(project, "cd4ml", "--help")
    assert done.returncode == 0 and time.perf_counter() - began < 1.5  # 0.15 s on a quiet machine; the budget is 0.5 s
    for word in ("forecast", "data", "stage", "dashboard", "--item", "CD4ML_ROOT"):
        assert word in done.stdout
    done = run(project, "cd4ml", "forecast", "--help")
    for word in ("--item", "--store", "--date", "--promotion", "--json", "--input", "--output"):
        assert word in done.stdout
    assert run(project, "cd4ml").stdout.startswith("usage: cd4ml")


HEAVY = {"pandas", "numpy", "duckdb", "papermill", "sklearn", "nbconvert"}


def modules_after(project, *words):
    "What a command's help has imported."
    code = """import sys, atexit
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from cd4ml_nb.cli import main
main(sys.argv[1:])"""
    done = run(project, sys.executable, "-c", code, *words)
    assert done.stdout.startswith("usage: cd4ml"), done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("command", ["forecast", "data", "release", "deploy", "stage"])
def test_help_imports_nothing_heavy_and_only_its_group(project, command):
    found = modules_after(project, command, "--help")
    assert not found & HEAVY
    groups = {m.split(".")[2] for m in found if m.startswith("cd4ml_nb.cli.")} - {"parser"}
    assert groups == {{"stage": "pipeline"}.get(command, command)}


def test_the_list_of_commands_imports_no_group(project):
    assert {m for m in modules_after(project) if m.startswith("cd4ml_nb.cli.")} == {"cd4ml_nb.cli.parser"}


def test_the_words_of_machines_say_where_they_went(project):
    done = run(project, "cd4ml", "release", "publish", "--model", "trees-1")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.rstrip().endswith("cd4ml deploy publish")


@pytest.mark.parametrize(
    "words, said",
    [
        (["forecast"], "Give a product and a day"),
        (["forecast", "--item", "milk"], "Give a product and a day"),
        (["forecast", "--item", "milk", "--date", "tomorrow"], "'tomorrow' is not a day"),
        (["forecast", "--input", "a.csv"], "A batch needs both"),
        (["forecast", "--item", "milk", "--date", "2018-01-02"], "No model is live yet"),
    ],
)
def test_errors_are_sentences(project, words, said):
    done = run(project, "cd4ml", *words)
    refused(done, said)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr


def test_data_check_and_prepare_of_a_folder(project):
    "Invent, check, prepare; then spoil a line: the same commands name it, and the good result stays."
    done = run(project, "cd4ml", "data", "synthesize", "shop", "--rows", "20000", "--stores", "3", "--items", "20")
    assert done.returncode == 0 and "20," in done.stdout, done.stderr
    done = run(project, "cd4ml", "data", "check", "--source", "favorita", "--path", "shop")
    assert done.returncode == 0 and "keep the contract" in done.stdout, done.stderr
    prepare = [
        "cd4ml",
        "data",
        "prepare",
        "--source",
        "favorita",
        "--path",
        "shop",
        "--out",
        "prepared",
        "--memory",
        "500MB",
    ]
    done = run(project, *prepare)
    assert done.returncode == 0 and "zero-filling" in done.stdout, done.stderr
    good = (project / "prepared" / "version.json").read_bytes()
    train = project / "shop/train.csv"
    lines = train.read_text().splitlines()
    train.write_text("\n".join([*lines[:4], re.sub(r"\d{4}-\d\d", "2017-13", lines[4]), *lines[5:]]) + "\n")
    refused(
        run(project, "cd4ml", "data", "check", "--source", "favorita", "--path", "shop"),
        "train.csv, column date",
        "line 5",
    )
    refused(run(project, *prepare), "train.csv, column date", "line 5")
    assert (project / "prepared" / "version.json").read_bytes() == good
    refused(run(project, *prepare[:-3], "shop"), "holds something else than prepared data")
    assert train.exists()


def test_data_check_of_an_own_table(project):
    (project / "mine.csv").write_text("date;item;quantity\n2017-01-01;milk;3\n2017-01-02;milk;many\n")
    refused(
        run(project, "cd4ml", "data", "check", "--source", "table", "--path", "mine.csv"), "mine.csv", "line 3", "many"
    )
    (project / "mine.csv").write_text("date;item;quantity\n2017-01-01;milk;3\n2017-01-02;milk;4\n")
    done = run(project, "cd4ml", "data", "check", "--source", "table", "--path", "mine.csv")
    assert done.returncode == 0 and "Your table fits." in done.stdout, done.stderr
    (project / "mine.csv").write_text(
        "date;item;quantity\n"
        + "".join(f"2017-{month:02}-{day:02};milk;{day}\n" for month in range(1, 13) for day in range(1, 29))
    )
    done = run(project, "cd4ml", "data", "prepare", "--source", "table", "--path", "mine.csv", "--out", "prepared")
    assert done.returncode == 0 and "336 rows" in done.stdout, done.stderr


def test_nothing_to_fetch_is_quick(project):
    done = run(
        project,
        sys.executable,
        "-X",
        "importtime",
        "-c",
        "from cd4ml_nb.cli import main; print('exit code', main(['data', 'fetch']))",
    )
    assert "exit code 0" in done.stdout and not re.search(r"\| +(pandas|numpy|duckdb|fsspec)$", done.stderr, re.M)


def test_a_wrong_option_says_which_there_are(project):
    done = run(project, "cd4ml", "forecast", "--itm", "milk")
    assert done.returncode == 2 and "--itm" in done.stderr and "Traceback" not in done.stderr


def test_outside_a_project(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "CD4ML_ROOT"}
    done = subprocess.run(
        ["cd4ml", "report"], cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    refused(done, "No params.yaml", "CD4ML_ROOT")


def test_a_port_in_use_is_said(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(run(project, "cd4ml", "dashboard", "--port", port), f"Port {port} is in use", "make dashboard PORT=")


MODEL = ROOT / "data" / "model"
ASK = ["cd4ml", "forecast", "--model", MODEL]
real = pytest.mark.skipif(not MODEL.exists(), reason="no packaged model: make pipeline first")


@pytest.fixture(scope="module")
def forecaster():
    from cd4ml_nb.model.forecaster import load_forecaster

    return load_forecaster(MODEL)


@real
def test_a_forecast_in_words_and_as_json(forecaster):
    series, day = forecaster.series.iloc[0], forecaster.card["first_day"]
    words = [*ASK, "--item", series.item_nbr, "--store", series.store_nbr, "--date", day]
    said = run(ROOT, *words)
    assert said.returncode == 0, said.stderr
    assert (
        re.search(
            rf", store {series.store_nbr}, \w+day \d+ \w+ \d{{4}}: about [\d.,]+ units, likely [\d.,]+ to [\d.,]+\n",
            said.stdout,
        )
        and forecaster.card["model_version"] in said.stdout
    )
    answer = json.loads(run(ROOT, *words, "--json").stdout)
    assert list(answer) == [
        "item_nbr",
        "store_nbr",
        "date",
        "horizon",
        "mean",
        "q10",
        "q50",
        "q90",
        "log_mean",
        "model_version",
        "data_version",
    ]
    assert answer["mean"] == pytest.approx(
        float(forecaster.forecast(series.item_nbr, series.store_nbr, day)["mean"].iloc[0])
    )


@real
def test_all_stores_are_the_sum(forecaster):
    item, day = forecaster.series.iloc[0].item_nbr, forecaster.card["first_day"]
    answer = json.loads(run(ROOT, *ASK, "--item", item, "--date", day, "--json").stdout)
    assert (
        answer["mean"] == pytest.approx(forecaster.forecast(item, None, day)["mean"].sum(), rel=1e-6)
        and answer["q10"] <= answer["mean"] <= answer["q90"]
    )


@real
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_batch_answers_in_order(forecaster, tmp_path, kind):
    import pandas as pd

    questions = (
        forecaster.series.head(50)[["item_nbr", "store_nbr"]]
        .assign(date=forecaster.card["last_day"])
        .sample(frac=1, random_state=0)
        .reset_index(drop=True)
    )
    getattr(questions, f"to_{kind}")(tmp_path / f"in.{kind}", index=False)
    done = run(ROOT, *ASK, "--input", tmp_path / f"in.{kind}", "--output", tmp_path / f"out.{kind}")
    assert done.returncode == 0, done.stderr
    answers = getattr(pd, f"read_{kind}")(
        tmp_path / f"out.{kind}", **({"dtype": {"item_nbr": str, "store_nbr": str}} if kind == "csv" else {})
    )
    assert (answers[["item_nbr", "store_nbr"]].to_numpy() == questions[["item_nbr", "store_nbr"]].to_numpy()).all()
    assert answers["mean"].to_numpy() == pytest.approx(
        forecaster.forecast_table(questions)["mean"].to_numpy(), rel=1e-5
    )


@real
@pytest.mark.parametrize(
    "change, said",
    [({"--item": "unicorn"}, "unicorn"), ({"--store": "no-such"}, "no-such"), ({"--date": "1999-01-01"}, "1999-01-01")],
)
def test_an_unknown_product_store_or_day_says_what_is_possible(forecaster, change, said):
    series = forecaster.series.iloc[0]
    words = {"--item": series.item_nbr, "--store": series.store_nbr, "--date": forecaster.card["first_day"], **change}
    refused(run(ROOT, *ASK, *(w for pair in words.items() for w in pair)), said)
