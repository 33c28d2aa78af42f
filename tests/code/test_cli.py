"The command `cd4ml`: it teaches, it loads little, and its errors are sentences."

import json, os, re, signal, socket, subprocess, sys, time
from pathlib import Path
import psutil, pytest
from copies import ROOT, copy_project, environment, run
from test_stage_runner import refused
from waiting import PATIENCE, answers, free_port, wait_for


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    "One copy of the project for all tests that write nothing."
    return copy_project(tmp_path_factory.mktemp("untouched") / "project")


def test_help_teaches(untouched):
    done = run(untouched, "cd4ml", "--help")
    assert done.returncode == 0
    for word in ("forecast", "data", "stage", "dashboard", "--item", "CD4ML_ROOT"):
        assert word in done.stdout
    done = run(untouched, "cd4ml", "forecast", "--help")
    for word in ("--item", "--store", "--date", "--promotion", "--json", "--input", "--output"):
        assert word in done.stdout
    assert run(untouched, "cd4ml").stdout.startswith("usage: cd4ml")


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


@pytest.mark.parametrize("command", ["forecast", "orders", "decisions", "data", "release", "deploy", "stage"])
def test_help_imports_nothing_heavy_and_only_its_group(untouched, command):
    found = modules_after(untouched, command, "--help")
    assert not found & HEAVY
    groups = {m.split(".")[2] for m in found if m.startswith("cd4ml_nb.cli.")} - {"parser"}
    assert groups == {{"stage": "pipeline"}.get(command, command)}


def test_the_list_of_commands_imports_no_group(untouched):
    assert {m for m in modules_after(untouched) if m.startswith("cd4ml_nb.cli.")} == {"cd4ml_nb.cli.parser"}


def test_the_words_of_machines_say_where_they_went(untouched):
    done = run(untouched, "cd4ml", "release", "publish", "--model", "trees-1")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.rstrip().endswith("cd4ml deploy publish")


@pytest.mark.parametrize(
    "words, said",
    [
        (["forecast"], "Give a product and a day"),
        (["forecast", "--item", "milk"], "Give a product and a day"),
        (["forecast", "--item", "milk", "--date", "tomorrow"], "'tomorrow' is not a day"),
        (["forecast", "--input", "a.csv"], "A batch needs both"),
        (["forecast", "--item", "milk", "--date", "2018-01-02"], "No model is live yet"),
        (["orders", "--store", "1", "--days", "3"], "No model is live yet"),
        (["orders", "--store", "1", "--days", "three"], "--days three: give a whole number"),
        (["orders", "--store", "1", "--days", "3", "--stock", "none.csv"], "none.csv is not there"),
        (["corrections", "list", "--store", ""], "--store is empty: give it a value, or leave it out."),
        (["decisions", "withdraw", "order 1", "--text", "why not"], "There is no decision 'order 1'"),
    ],
)
def test_errors_are_sentences(untouched, words, said):
    done = run(untouched, "cd4ml", *words)
    refused(done, said)
    assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "words, usage, said",
    [
        (["forecast", "--itm", "milk"], "usage: cd4ml forecast ", "there is no option --itm (did you mean --item"),
        (["orders", "--sotre", "9"], "usage: cd4ml orders ", "there is no option --sotre (did you mean --store?)"),
        (
            ["release", "aprove", "trees-1"],
            "usage: cd4ml release ",
            "no command 'aprove' (did you mean approve or promote?)",
        ),
        (["nigth"], "usage: cd4ml ", "there is no command 'nigth' (did you mean night"),
        (["forecast", "milk"], "usage: cd4ml forecast ", "more was given than is asked for: milk"),
    ],
)
def test_what_is_mistyped_is_answered_with_the_right_commands_usage(untouched, words, usage, said):
    done = run(untouched, "cd4ml", *words)
    assert done.returncode == 2 and done.stderr.startswith(usage) and said in done.stderr.splitlines()[-1], done.stderr


@pytest.fixture
def cd4ml(project, monkeypatch, capsys):
    "cd4ml(*words) inside the project, in this process: exit code, stdout, stderr."
    from cd4ml_nb import cli

    monkeypatch.chdir(project)
    monkeypatch.setenv("CD4ML_ROOT", str(project))
    capsys.readouterr()
    return lambda line: (cli.main(line.split()), *capsys.readouterr())


CHECK_SHOP = "data check --source favorita --path shop"
PREPARE_SHOP = "data prepare --source favorita --path shop --memory 500MB --out"


def test_data_check_and_prepare_of_a_folder(project, cd4ml):
    "Invent, check, prepare; then spoil a line: the same commands name it, and the good result stays."
    code, said, _ = cd4ml("data synthesize shop --rows 20000 --stores 3 --items 20")
    assert code == 0 and "20," in said
    code, said, wrong = cd4ml(CHECK_SHOP)
    assert code == 0 and "keep the contract" in said, wrong
    code, said, wrong = cd4ml(f"{PREPARE_SHOP} prepared")
    assert code == 0 and "zero-filling" in said, wrong
    good = (project / "prepared" / "version.json").read_bytes()
    train = project / "shop/train.csv"
    lines = train.read_text().splitlines()
    train.write_text("\n".join([*lines[:4], re.sub(r"\d{4}-\d\d", "2017-13", lines[4]), *lines[5:]]) + "\n")
    for line in (CHECK_SHOP, f"{PREPARE_SHOP} prepared"):
        code, _, wrong = cd4ml(line)
        assert code == 1 and "train.csv, column date" in wrong and "line 5" in wrong
    assert (project / "prepared" / "version.json").read_bytes() == good
    code, _, wrong = cd4ml(f"{PREPARE_SHOP} shop")
    assert code == 1 and "holds something else than prepared data" in wrong and train.exists()


def test_data_check_of_an_own_table(project, cd4ml):
    "A bad cell is named; a good table fits, and is prepared."
    mine, check = project / "mine.csv", "data check --source table --path mine.csv"
    mine.write_text("date;item;quantity\n2017-01-01;milk;3\n2017-01-02;milk;many\n")
    code, _, wrong = cd4ml(check)
    assert code == 1 and all(word in wrong for word in ("mine.csv", "line 3", "many"))
    mine.write_text("date;item;quantity\n2017-01-01;milk;3\n2017-01-02;milk;4\n")
    code, _, wrong = cd4ml(check)
    assert code == 1 and "The data have 2 days" in wrong and "169 are needed" in wrong
    days = [f"2017-{month:02}-{day:02};milk;{day}" for month in range(1, 13) for day in range(1, 29)]
    mine.write_text("\n".join(["date;item;quantity", *days]) + "\n")
    code, said, wrong = cd4ml(check)
    assert code == 0 and "Your table fits." in said, wrong
    code, said, wrong = cd4ml("data prepare --source table --path mine.csv --out prepared")
    assert code == 0 and re.search(r"duplicates +336 ", said), said + wrong


def test_who_asks_what_is_live_does_not_wait_for_pandas(untouched):
    code = "import sys; from cd4ml_nb.cli import main; main(['release', 'status']); print(*sys.modules)"
    done = run(untouched, sys.executable, "-c", code)
    assert done.stdout.startswith("No model is live yet") and not set(done.stdout.split()) & {*HEAVY, "mlflow"}


def test_nothing_to_fetch_loads_nothing_heavy(untouched):
    code = "import sys; from cd4ml_nb.cli import main; print(main(['data', 'fetch']), *sys.modules)"
    done = run(untouched, sys.executable, "-c", code)
    said = done.stdout.split()
    assert said[0] == "0" and not set(said) & {*HEAVY, "fsspec"}, done.stderr


def test_a_wrong_option_says_which_there_are(untouched):
    done = run(untouched, "cd4ml", "forecast", "--itm", "milk")
    assert done.returncode == 2 and "--itm" in done.stderr and "Traceback" not in done.stderr


def test_outside_a_project(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "CD4ML_ROOT"}
    done = subprocess.run(
        ["cd4ml", "report"], cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    refused(done, "No params.yaml", "CD4ML_ROOT")


def test_a_port_in_use_is_said(untouched):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(run(untouched, "cd4ml", "dashboard", "--port", port), f"Port {port} is in use", "make dashboard PORT=")


@pytest.mark.parametrize(
    "words, port",
    [
        (["dashboard", "PORT=9000"], 9000),
        (["review", "PORT=9000"], 9000),
        (["mlflow", "PORT=9000"], 9000),
        (["review", "PORT=9000", "REVIEW_PORT=9001"], 9001),
        (["review"], 8867),
    ],
)
def test_a_port_given_to_make_is_the_one(words, port):
    said = run(ROOT, "make", "--no-print-directory", "-n", *words).stdout
    assert said.endswith(f"cd4ml {words[0]} --port {port}\n")


MODEL = ROOT / "data" / "model"
ASK = ["cd4ml", "forecast", "--model", MODEL]
real = pytest.mark.pipeline


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
    assert forecaster.card["model_version"] in said.stdout
    answer = json.loads(run(ROOT, *words, "--json").stdout)
    two_ends = answer["q10"] >= 0.05
    when, number = r"\w+day \d+ \w+ \d{4}", r"[\d.,]+"
    most = f"at most {answer['q90']:.0f}" if answer["q90"] else "none"
    likely = f"likely {number} to {number}" if two_ends else f"9 times out of 10 {most}"
    assert re.search(rf", store {series.store_nbr}, {when}: about {number} units?, {likely}\n", said.stdout)
    asked = ["item_nbr", "store_nbr", "date", "horizon"]
    numbers, known = ["mean", "q10", "q50", "q90", "log_mean"], ["history", "note", "promotion_assumed", "is_open"]
    assert list(answer) == [*asked, *numbers, *known, "model_version", "data_version"]
    assert answer["mean"] == pytest.approx(
        float(forecaster.forecast(series.item_nbr, series.store_nbr, day)["mean"].iloc[0])
    )


@real
def test_all_stores_are_the_sum(forecaster):
    item, day = forecaster.series.iloc[0].item_nbr, forecaster.card["first_day"]
    answer = json.loads(run(ROOT, *ASK, "--item", item, "--date", day, "--json").stdout)
    stores, elsewhere = forecaster.forecast(item, None, day)["mean"].sum(), forecaster.remainder([item], None)[0]
    assert elsewhere > 0 and answer["mean"] == pytest.approx(stores + elsewhere, rel=1e-6)
    assert answer["q10"] <= answer["mean"] <= answer["q90"]


@real
def test_a_share_of_promotion_is_one(forecaster):
    for item in forecaster.index.by_item:
        shares = [forecaster.supposed(item, promotion=switch) for switch in (None, True, False)]
        assert all(0 <= share <= 1 and share == round(share, 4) for share in shares if share == share), item


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
    questions.loc[25, "store_nbr"] = "all"
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
    alone = forecaster.total(questions["item_nbr"][25], None, forecaster.card["last_day"])
    assert answers.loc[25, list(alone)].tolist() == pytest.approx(list(alone.values()), rel=1e-5)


@real
@pytest.mark.parametrize(
    "change, said",
    [({"--item": "unicorn"}, "unicorn"), ({"--store": "no-such"}, "no-such"), ({"--date": "1999-01-01"}, "1999-01-01")],
)
def test_an_unknown_product_store_or_day_says_what_is_possible(forecaster, change, said):
    series = forecaster.series.iloc[0]
    words = {"--item": series.item_nbr, "--store": series.store_nbr, "--date": forecaster.card["first_day"], **change}
    refused(run(ROOT, *ASK, *(w for pair in words.items() for w in pair)), said)


def test_a_verdict_is_told_of_the_model_that_is_here_only(project, cd4ml):
    "A fresh clone has the committed verdict and no model; after git pull the verdict may be somebody else's."
    from cd4ml_nb.core import write_json

    bias = {"check": "bias", "title": "Bias", "verdict": "failed", "says": "Forecasts are 5 % too low"}
    write_json(project / "reports/gate.json", {"model_version": "trees-1", "champion": None, "checks": [bias]})
    code, said, wrong = cd4ml("gate")
    assert (code, said) == (1, "") and "There is no model in" in wrong and "trees-1" not in wrong
    write_json(project / "data/model/forecaster.json", {"card": {"model_version": "trees-2"}})
    code, said, wrong = cd4ml("gate --json")
    assert (code, said) == (1, "") and "speaks of trees-1, and data/model holds trees-2" in wrong


def test_a_pipeline_whose_gate_said_no_says_what_follows(project, cd4ml, monkeypatch):
    from cd4ml_nb.core import write_json
    from cd4ml_nb.delivery import pipeline

    monkeypatch.setattr(pipeline, "run_pipeline", lambda *stages, force: {})
    bias = {"check": "bias", "title": "Bias", "verdict": "failed", "says": "Forecasts are 5 % too low"}
    write_json(project / "reports/gate.json", {"model_version": "trees-1", "champion": "trees-0", "checks": [bias]})
    assert cd4ml("pipeline") == (0, "", "")  # a verdict on a model that is not here
    write_json(project / "data/model/forecaster.json", {"card": {"model_version": "trees-1"}})
    code, _, said = cd4ml("pipeline")
    assert code == 0 and "The gate stopped trees-1: Bias. trees-0 stays live." in said and "reports/gate.html" in said
    assert cd4ml("pipeline evaluate") == (0, "", "")


@pytest.mark.parametrize("stage, said", [("accept", "is called 'gate' now"), ("evaluat", "there are: ingest, prepare")])
def test_a_stage_that_is_not_there_is_refused_in_our_words(cd4ml, stage, said):
    code, _, wrong = cd4ml(f"pipeline {stage}")
    assert code == 1 and said in wrong and "dvc" not in wrong.lower()


def test_a_second_pipeline_is_told_who_is_at_work(project, cd4ml, monkeypatch):
    from cd4ml_nb.core import hold_lock

    with hold_lock(project / "reports/.pipeline.lock", "'cd4ml pipeline'"):
        code, _, wrong = cd4ml("pipeline")
    assert code == 1 and f"'cd4ml pipeline' (process {os.getpid()}) is at work" in wrong and "remove" not in wrong


def test_a_dvc_that_is_at_work_is_named(project, cd4ml, monkeypatch):
    "As DVC says it, without its advice to remove the lock."
    said = "ERROR: failed to reproduce 'ingest': 'x' is busy, it is being blocked by:\n  (PID 269): /bin/dvc push"
    said += "\nIf there are no such processes, remove the lock"
    monkeypatch.setattr("cd4ml_nb.delivery.pipeline._tell_changes", lambda *_: print(said) or 1)
    code, _, wrong = cd4ml("pipeline")
    assert code == 1 and wrong.splitlines()[-1].startswith("'dvc push' (process 269) is at work"), wrong
    assert "remove" not in wrong


def test_the_apps_of_a_library_alone_say_what_they_need(tmp_path):
    import shutil

    shutil.copytree(ROOT / "cd4ml_nb", tmp_path / "lib/cd4ml_nb", ignore=shutil.ignore_patterns("__pycache__"))
    words = [sys.executable, "-c", "import cd4ml_nb.apps.widgets as w; print(w.Picker._esm is not None)"]
    env = {**{k: v for k, v in os.environ.items() if k != "CD4ML_ROOT"}, "PYTHONPATH": str(tmp_path / "lib")}
    alone = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "ImportError: The apps need the project's folder" in alone.stderr
    found = subprocess.run(words, cwd=tmp_path, env={**env, "CD4ML_ROOT": str(ROOT)}, capture_output=True, text=True)
    assert found.stdout == "True\n", found.stderr


@pytest.mark.parametrize("command, number", [("dashboard", signal.SIGINT), ("review", signal.SIGTERM)])
def test_a_server_that_is_stopped_while_it_starts_ends_without_a_word(untouched, command, number):
    "As a terminal sends Ctrl-C: to the server and to its kernels."
    port = free_port()
    words = ["cd4ml", command, "--port", str(port)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    server = subprocess.Popen(
        words, cwd=untouched, env=environment(untouched), start_new_session=True, text=True, **pipes
    )
    wait_for(lambda: answers(port), process=server)
    time.sleep(1)
    children = psutil.Process(server.pid).children(recursive=True)
    os.killpg(server.pid, number)
    said = server.communicate(timeout=PATIENCE)[0]
    assert len(said.splitlines()) == 1 and said.startswith("The ") and "Ctrl-C ends it" in said, said
    psutil.wait_procs(children, timeout=PATIENCE)
    assert not [child.pid for child in children if child.is_running()]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has loaded")
@pytest.mark.parametrize("command", ["dashboard", "review"])
@pytest.mark.parametrize("library", ["yaml", "zmq"])  # early and late
def test_a_server_that_is_stopped_before_it_began(untouched, command, library):
    "Ctrl-C in the first second, when nothing but Python's imports are under way."
    words = ["cd4ml", command, "--port", "0"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    server = subprocess.Popen(
        words, cwd=untouched, env=environment(untouched), start_new_session=True, text=True, **pipes
    )
    while f"site-packages/{library}/" not in Path(f"/proc/{server.pid}/maps").read_text():
        assert server.poll() is None, server.communicate()
        time.sleep(0.01)
    os.killpg(server.pid, signal.SIGINT)
    said = server.communicate(timeout=PATIENCE)[0]
    assert (server.returncode, said) == (130, "Stopped.\n"), said


@pytest.mark.parametrize("words", [["{}"], ["stage", "{}"], ["dashboard", "--port", "{}"], ["pipeline", "{}"]])
def test_what_was_typed_is_not_repeated_without_end(untouched, words):
    done = run(untouched, "cd4ml", *(word.format("y" * 20_000) for word in words))
    said = done.stderr
    assert done.returncode and "yyy" in said and "Traceback" not in said and len(said) < 900, said[:900]
