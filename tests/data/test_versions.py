"Versions of the data: listed, compared row by row, traced back; and the same through DVC itself, with S3."

import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from copies import copy_project, environment, run
from waiting import PATIENCE, answers, free_port, wait_for

from cd4ml_nb.core import UserError, run_git
from cd4ml_nb.data import history
from cd4ml_nb.data.sources import tiny
from cd4ml_nb.data.diff import diff_in_words, diff_versions
from cd4ml_nb.data.history import cache_folder, dvc_hash, find_version, version_files
from cd4ml_nb.delivery.provenance import list_used_versions, trace
from cd4ml_nb.delivery.provenance_words import trace_in_words, versions_in_words
from cd4ml_nb.tiny import put_in_cache
from cd4ml_nb.tiny import write_prepared as write_folder

KEYS = ["store_nbr", "item_nbr", "date"]


def write_prepared(folder, panel, **about):
    "A data/prepared in its layout, named by its rows; returns its data version."
    about = {"data_version": hashlib.sha256(panel.to_csv().encode()).hexdigest()[:12], "origin": "data/source", **about}
    write_folder(folder, panel, **{"raw": {"train.csv": "0" * 64}, **about})
    return about["data_version"]


def random_panel(seed, stores=("1", "2", "Añasco/West 7"), items=12, days=60):
    "Rows with sales of some series."
    random = np.random.default_rng(seed)
    grid = pd.MultiIndex.from_product(
        [stores, [f"{'ab'[n % 2]}{n}" for n in range(items)], pd.date_range("2017-01-01", periods=days).date],
        names=KEYS,
    ).to_frame(index=False)
    grid = grid[random.random(len(grid)) < 0.6].reset_index(drop=True)
    return grid.assign(
        unit_sales=random.integers(1, 20, len(grid)).astype(float),
        onpromotion=np.where(random.random(len(grid)) < 0.1, np.nan, random.integers(0, 2, len(grid))),
    )


def evolve(panel):
    "A night later: five new days, a corrected past, a new item and a new store, one item gone; store '1' as it was."
    random = np.random.default_rng(1)
    keep = (panel.store_nbr == "1") | ((random.random(len(panel)) < 0.95) & (panel.item_nbr != "a2"))
    later = panel[keep].copy()
    changed = (later.store_nbr == "2") & (random.random(len(later)) < 0.1)
    later.loc[changed, "unit_sales"] += 1
    promoted = (later.store_nbr == "2") & (random.random(len(later)) < 0.5)
    later.loc[promoted, "onpromotion"] = 1 - later.loc[promoted, "onpromotion"].fillna(0)
    more = random_panel(3, ("2",), 3, 5).assign(date=lambda t: t.date + pd.Timedelta(days=60))
    new = more.assign(item_nbr="new" + more.item_nbr, store_nbr="9")
    return pd.concat([later, more, new], ignore_index=True).sort_values(KEYS, ignore_index=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    "A project with two versions in the cache, the second one in the working folder."
    root = tmp_path_factory.mktemp("pair")
    whole = random_panel(0)
    late = whole.index[(whole.store_nbr == "2") & (whole.date == whole.date.max()) & (whole.item_nbr != "a2")][
        :1
    ]  # a row of the last day that comes a night late
    tables = (
        whole.drop(late),
        pd.concat([evolve(whole.drop(late)), whole.loc[late]]).sort_values(KEYS, ignore_index=True),
    )
    versions = []
    for table in tables:
        versions.append(write_prepared(root / "data/prepared", table))
        put_in_cache(root, root / "data/prepared")
    return root, versions, tables


def by_hand(before, after):
    "The differences as pandas finds them."
    both = before.merge(after, on=KEYS, how="outer", suffixes=("_a", "_b"), indicator=True)
    same = lambda c: (both[f"{c}_a"] == both[f"{c}_b"]) | (both[f"{c}_a"].isna() & both[f"{c}_b"].isna())
    inner = both._merge == "both"
    return both.assign(
        added=both._merge == "right_only",
        removed=both._merge == "left_only",
        changed=inner & ~(same("unit_sales") & same("onpromotion")),
        sales=inner & ~same("unit_sales"),
        promotion=inner & ~same("onpromotion"),
    )


def test_a_comparison_finds_what_pandas_finds(pair):
    root, (a, b), tables = pair
    diff, hand = diff_versions(root, a, b, memory="200MB"), by_hand(*tables)
    assert diff["rows"] == {
        "before": len(tables[0]),
        "after": len(tables[1]),
        **{k: int(hand[k].sum()) for k in ("added", "removed", "changed")},
    }
    assert (
        diff["cells"] == {"unit_sales": int(hand.sales.sum()), "onpromotion": int(hand.promotion.sum())}
        and hand.promotion.sum() > hand.sales.sum() > 0
    )
    assert diff["units"] == {"before": tables[0].unit_sales.sum(), "after": tables[1].unit_sales.sum()}
    assert (diff["stores"], diff["items"]["disappear"]) == ({"appear": ["9"], "disappear": []}, [])
    assert diff["items"]["appear"] == ["newa0", "newa2", "newb1"]
    differing = hand[hand.added | hand.removed | hand.changed]
    each = differing.groupby(["store_nbr", "item_nbr"])[["added", "removed", "changed"]].sum().astype(int)
    assert diff["series"]["changed"] == len(each) and "1" not in differing.store_nbr.values
    for row in diff["series"]["top"]:
        assert each.loc[(row["store_nbr"], row["item_nbr"])].tolist() == [row["added"], row["removed"], row["changed"]]
    assert (
        len(diff["series"]["top"]) == 10
        and diff["series"]["top"][0]["added"]
        + diff["series"]["top"][0]["removed"]
        + diff["series"]["top"][0]["changed"]
        == each.sum(axis=1).max()
    )
    each = differing.groupby("date")[["added", "removed", "changed", "unit_sales_a", "unit_sales_b"]].sum()
    assert (diff["days"]["changed"], diff["days"]["first"], diff["days"]["last"]) == (
        len(each),
        str(each.index.min()),
        "2017-03-06",
    )
    for row in diff["days"]["top"]:
        assert each.loc[pd.Timestamp(row["date"]).date()].tolist() == pytest.approx(
            [row[k] for k in ("added", "removed", "changed", "units_before", "units_after")]
        )


def test_shifts_are_named_only_where_there_are_some(pair):
    root, (a, b), tables = pair
    shifts = {s["column"]: s for s in diff_versions(root, a, b)["shifts"]}
    assert shifts["unit_sales"]["shift"] == "none" and shifts["family"]["shift"] == "large"  # there is a family "n" now
    assert shifts["onpromotion"]["before"]["missing"] == pytest.approx(tables[0].onpromotion.isna().mean(), rel=1e-4)
    assert shifts["unit_sales"]["after"]["mean"] == pytest.approx(tables[1].unit_sales.mean(), rel=1e-4)
    assert shifts["unit_sales"]["after"]["q90"] == np.quantile(tables[1].unit_sales, 0.9, method="inverted_cdf")
    write_prepared(root / "data/prepared", tables[1].assign(onpromotion=1.0, unit_sales=tables[1].unit_sales * 3))
    diff = diff_versions(root, b)
    assert {s["column"] for s in diff["shifts"] if s["shift"] == "large"} == {
        "unit_sales",
        "onpromotion",
    } and "Large shifts: " in diff["summary"]


def test_the_summary_says_what_matters(pair):
    root, (a, b), tables = pair
    summary, hand = diff_versions(root, a, b)["summary"], by_hand(*tables)
    new = int((hand.added & (hand.date > tables[0].date.max())).sum())
    past = f"1 row added, {hand.removed.sum()} removed, {hand.changed.sum()} changed (of {len(tables[0]):,})."
    assert summary.startswith(f"{new} rows on 5 new days up to 2017-03-06; in the past {past}")
    assert "1 store appears (9)." in summary and "3 items appear (newa0, newa2, newb1)." in summary
    assert summary in diff_in_words(diff_versions(root, a, b))
    assert diff_versions(root, a, a)["summary"] == f"{a} and {a} hold the same {len(tables[0]):,} rows of sales."


def test_versions_that_cannot_be_compared(pair):
    root, (a, b), _ = pair
    with pytest.raises(UserError, match=f"known are: .*{a}"):
        diff_versions(root, "nothing")
    version = find_version(list_used_versions(root)[0], a)
    lost = next(path for name, path in version_files(root, version).items() if name.startswith("panel/"))
    lost.rename(lost.with_suffix(".away"))
    with pytest.raises(UserError, match="not all on this machine.*They cannot be fetched .no DVC remote is set up"):
        diff_versions(root, a, b)
    lost.with_suffix(".away").rename(lost)
    lost_bytes = lost.read_bytes()
    lost.write_bytes(lost_bytes[:50])
    with pytest.raises(UserError, match="damaged"):
        diff_versions(root, a, b)
    lost.write_bytes(lost_bytes)


def lock(prepared, quality, model=None, trained_on=None, delisted_after=30):
    "A dvc.lock."
    stages = {
        "ingest": {"params": {"params.yaml": {"ingest": {"source": "favorita"}}}},
        "prepare": {
            "deps": [{"path": "data/raw", "md5": "1" * 32 + ".dir"}],
            "params": {"params.yaml": {"prepare": {"delisted_after": delisted_after}}},
            "outs": [
                {"path": "data/prepared", "md5": prepared},
                {"path": "reports/data_quality.json", "md5": hashlib.md5(quality).hexdigest()},
            ],
        },
    }
    if model:
        stages |= {
            "train": {"params": {"params.yaml": {"train": {"estimator": "ets"}}}},
            "package": {
                "deps": [{"path": "data/prepared", "md5": trained_on or prepared}],
                "outs": [{"path": "data/model", "md5": model}],
            },
        }
    return yaml.safe_dump({"schema": "2.0", "stages": stages}).encode()


def commit(root, commits):
    "Commits of files, all in one call."
    stream = b""
    for n, files in enumerate(commits):
        who, subject = f"me <me@example.invalid> {1_700_000_000 + 86_400 * n} +0000", f"Run {n}"
        stream += f"commit refs/heads/main\ncommitter {who}\ndata {len(subject)}\n{subject}\n".encode()
        for name, text in files.items():
            stream += f"M 100644 inline {name}\ndata {len(text)}\n".encode() + text + b"\n"
    for words, given in ((["init", "--quiet", "-b", "main"], None), (["fast-import", "--quiet"], stream)):
        subprocess.run(["git", *words], cwd=root, input=given, env=environment(root), check=True, capture_output=True)


@pytest.fixture
def trusted(monkeypatch):
    "Git reads folders of other users too."
    for name, value in environment("x").items():
        if name.startswith("GIT_CONFIG"):
            monkeypatch.setenv(name, value)


def quality(version, rows):
    return json.dumps({"data_version": version, "rows": {"panel": rows}}).encode()


def test_git_is_not_asked_once_for_each_of_a_hundred_versions(tmp_path, trusted, monkeypatch):
    commits, padding, cache = (
        [],
        {str(n): {"path": f"reports/{n}.html", "md5": "0" * 32} for n in range(150)},
        cache_folder(tmp_path),
    )
    write_prepared(tmp_path / "data/prepared", random_panel(0), data_version="099aaaaaaaaa")
    about = json.loads((tmp_path / "data/prepared/version.json").read_text()) | {
        "schema": {"scales": {str(k): float(k) for k in range(200)}}
    }
    for n in range(100):
        version, name, report = f"{n:03}aaaaaaaaa", f"{n:032x}.dir", quality(f"{n:03}aaaaaaaaa", n)
        files = [
            {"md5": f"ff{n:030}", "relpath": "version.json"},
            *({"md5": f"{k:032}", "relpath": f"panel/store_nbr={k}/series.parquet"} for k in range(60)),
        ]
        for target, text in ((name, files), (f"ff{n:030}", {**about, "data_version": version})):
            (cache / target[:2]).mkdir(parents=True, exist_ok=True)
            if n != 7:
                (cache / target[:2] / target[2:]).write_text(json.dumps(text))  # of one only Git knows
        commits.append(
            {
                "dvc.lock": lock(name, report, f"ee{n:030x}.dir") + yaml.safe_dump({"more": padding}).encode(),
                "reports/data_quality.json": report,
            }
        )
    commit(tmp_path, commits)
    asked = []
    monkeypatch.setattr(history, "run_git", lambda *words, **given: asked.append(words) or run_git(*words, **given))
    versions, notes = list_used_versions(tmp_path)
    assert len(asked) <= 3 and len(versions) == 100 and not notes
    assert versions[0]["current"] and [v["data_version"] for v in versions[1:3]] == ["098aaaaaaaaa", "097aaaaaaaaa"]
    away = find_version(versions, "007")
    assert (away["available"], away["rows"], [r["subject"] for r in away["runs"]], away["when"]) == (
        False,
        7,
        ["Run 7"],
        "2023-11-21 22:13",
    )
    assert all(len(v["models"]) == 1 and v["models"][0]["estimator"] == "ets" for v in versions)
    said = versions_in_words(versions, notes, tmp_path)
    assert "1 version known from dvc.lock only (007aaaaaaaaa)" in said
    assert "no DVC remote is set up" in said and "dvc fetch" not in said
    assert find_version(versions, versions[5]["runs"][0]["revision"][:8]) == versions[5]


def test_without_git_cache_or_data(tmp_path):
    versions, notes = list_used_versions(tmp_path)
    assert (
        versions == []
        and len(notes) == 1
        and "Git" in notes[0]
        and "make pipeline" in versions_in_words(versions, notes)
    )
    with pytest.raises(UserError, match="make pipeline"):
        trace(tmp_path)
    write_prepared(tmp_path / "data/prepared", random_panel(0), data_version="abc")
    assert [(v["data_version"], v["current"]) for v in list_used_versions(tmp_path)[0]] == [("abc", True)]
    assert trace(tmp_path)["data"]["data_version"] == "abc"


def test_damage_costs_one_version_and_is_said(pair, tmp_path):
    root, (a, b), _ = pair
    shutil.copytree(root, tmp_path / "copy")
    root, cache = tmp_path / "copy", cache_folder(tmp_path / "copy")
    (cache / "00").mkdir(exist_ok=True)
    (tmp_path / "outside.json").write_text('{"data_version": "outside"}')
    for n, text in enumerate(
        (
            json.dumps([{"relpath": "version.json", "md5": f"..{tmp_path}/outside.json"}]).encode(),
            b'[{"relpath": "version.json"',
            b"\xff\xfe",
            b'{"relpath": "version.json"}',
            b'["relpath"]',
        )
    ):
        (cache / "00" / f"{n:030}.dir").write_bytes(text)
    found = find_version(list_used_versions(root)[0], a)
    broken = version_files(root, found)["version.json"]
    broken.write_bytes(b"{")
    versions, notes = list_used_versions(root)
    assert [v["data_version"] for v in versions if v["available"] and v["data_version"] in (a, b)] == [
        b
    ] and "cannot be read" in notes[0]
    assert "outside" not in str(versions)
    (root / "data/prepared/version.json").write_text("[]")
    assert any("dvc checkout data/prepared" in note for note in list_used_versions(root)[1])
    (root / ".dvc/config").write_text("[cache\n dir")
    assert list_used_versions(root)[0]


def test_the_cache_may_lie_elsewhere(pair, tmp_path):
    root, versions, _ = pair
    shutil.copytree(cache_folder(root), tmp_path / "shared" / "files" / "md5")
    (tmp_path / "project" / ".dvc").mkdir(parents=True)
    (tmp_path / "project" / ".dvc" / "config").write_text(
        "[core]\n    remote = local\n[cache]\n    dir = ../../shared\n"
    )
    assert {v["data_version"] for v in list_used_versions(tmp_path / "project")[0]} == set(versions)


@pytest.fixture
def traced(tmp_path, trusted):
    "A project with two committed runs, and the first one's bytes in the cache only."
    commits, cards = [], []
    for n in range(2):
        version = write_prepared(
            tmp_path / "data/prepared",
            random_panel(n),
            data_version=f"{n}{n}cccccccccc",
            raw={"train.csv": hashlib.sha256(b"old").hexdigest()},
            parameters={"delisted_after": 30 + n},
        )
        (tmp_path / "data/model").mkdir(exist_ok=True)
        cards.append(
            {
                "model_version": f"ets-{n}dddddd",
                "data_version": version,
                "estimator": "ets",
                "parameters": {"processes": n},
                "trained_at": f"2017-05-0{n + 1}",
                "trained_to": "2017-03-01",
            }
        )
        (tmp_path / "data/model/forecaster.json").write_text(json.dumps({"card": cards[-1]}))
        names = [put_in_cache(tmp_path, tmp_path / f"data/{name}") for name in ("prepared", "model")]
        report = quality(version, 5)
        commits.append(
            {
                "dvc.lock": lock(names[0], report, names[1], delisted_after=30 + n),
                "reports/data_quality.json": report,
                "data/source/train.csv.dvc": b"outs:\n- md5: %deeee\n  size: 5\n  hash: md5\n  path: train.csv\n" % n,
            }
        )
    commit(tmp_path, [*commits, commits[0]])  # a rollback to the first run comes last
    (tmp_path / "dvc.lock").write_bytes(commits[-1]["dvc.lock"])
    (tmp_path / "data/raw").mkdir()
    (tmp_path / "data/raw/train.csv").write_bytes(b"old")
    return tmp_path, cards


@pytest.mark.parametrize("asked", ["ets-0dddddd", "0dddddd", "00cccccccccc", "00cc"])
def test_from_a_forecast_back_to_the_raw_files(traced, asked):
    root, cards = traced
    origin = trace(root, asked)
    first = subprocess.run(
        ["git", "rev-list", "main"], cwd=root, env=environment(root), capture_output=True, text=True
    ).stdout.split()[-1]
    assert origin["model"] == (None if "cc" in asked else cards[0]) and origin["data"]["data_version"] == "00cccccccccc"
    assert (
        origin["revision"]["committed"] == first[:10]
        and origin["how_to_get_it_back"] == f"git checkout {first[:10]} && dvc pull"
    )
    assert origin["raw"] == [
        {"file": "train.csv", "sha256": hashlib.sha256(b"old").hexdigest(), "data/raw now": "same"}
    ]
    assert origin["source_files"] == [
        {"path": "data/source/train.csv", "md5": "0eeee", "size": 5, "dvc_file": "data/source/train.csv.dvc"}
    ]
    assert origin["parameters"]["prepare"] == {"delisted_after": 30} and "0eeee" in trace_in_words(origin)


def test_the_model_in_use_is_the_default_and_a_recorded_revision_is_told(traced):
    root, cards = traced
    assert trace(root)["model"] == cards[1] and trace(root)["source_files"][0]["md5"] == "1eeee"
    (root / "data/model/forecaster.json").write_text(
        json.dumps({"card": {**cards[1], "git_revision": "abc+changes", "model_version": "ets-77777777"}})
    )
    (root / "data/raw/train.csv").write_bytes(b"new")
    origin = trace(root)
    assert origin["raw"][0]["data/raw now"] == "other content"
    assert (
        origin["revision"] == {"recorded": "abc+changes", "committed": None, "subject": None}
        and "in no commit" in origin["how_to_get_it_back"]
    )
    with pytest.raises(UserError, match="known here"):
        trace(root, "ets-99")


# --- DVC itself: dvc add, repro, push to S3, a fresh clone, pull -------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    "An S3 server on loopback with a bucket; what a user would have in the environment."
    port = free_port()
    log = (tmp_path_factory.mktemp("s3") / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(port), Path(log.name).read_text, server)
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=PATIENCE)
        yield (
            url,
            {
                "AWS_ACCESS_KEY_ID": "key-in-the-environment",
                "AWS_SECRET_ACCESS_KEY": "secret-in-the-environment",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
        )
    finally:
        server.terminate()
        server.wait()


def stages_run(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]


def must(root, *words, **more):
    done = run(root, *words, **more)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done


STEP = """
import sys, yaml
from pathlib import Path
from cd4ml_nb.data.quality import write_quality
from cd4ml_nb.delivery.parameters import stage_values
from cd4ml_nb.tiny import stage_function
stage, root = sys.argv[1], Path.cwd()
done = stage_function(stage)(root, **stage_values(stage, yaml.safe_load((root / "params.yaml").read_text())))
if stage == "prepare": write_quality(root, done)
"""


def data_stages(to):
    "The project as it is, but its first two stages call the library without a notebook, which saves most of the time."
    root = copy_project(to)
    params, pipeline = (yaml.safe_load((root / name).read_text()) for name in ("params.yaml", "dvc.yaml"))
    params["ingest"] |= {"source": "favorita", "until": None}
    for stage in ("ingest", "prepare"):
        pipeline["stages"][stage]["cmd"] = f"python step.py {stage}"
        pipeline["stages"][stage]["outs"] = [
            out for out in pipeline["stages"][stage]["outs"] if not next(iter(out)).endswith((".ipynb", ".html"))
        ]
    for name, value in (("params.yaml", params), ("dvc.yaml", pipeline)):
        (root / name).write_text(yaml.safe_dump(value, sort_keys=False))
    (root / "step.py").write_text(STEP)
    return root


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A project whose raw files the user put under DVC; run up to prepare, committed; a night later once more."
    root = data_stages(tmp_path_factory.mktemp("dvc") / "project")
    source = root / "data/source"
    source.mkdir(parents=True, exist_ok=True)
    tiny(source)
    must(root, "git", "init", "--quiet", "-b", "main")
    must(root, "dvc", "add", "--quiet", *sorted(source.glob("*.csv")))
    ran = [stages_run(run(root, "dvc", "repro", "prepare"))]
    must(root, "git", "add", "."), must(root, "git", "commit", "--quiet", "-m", "First night")
    os.utime(source / "train.csv")
    ran.append(stages_run(run(root, "dvc", "repro", "prepare")))
    lines = (source / "train.csv").read_text().splitlines(keepends=True)
    (source / "train.csv").write_text("".join(lines[:40] + lines[41:]))
    must(root, "dvc", "add", "--quiet", "data/source/train.csv")
    ran.append(stages_run(run(root, "dvc", "repro", "prepare")))
    must(root, "git", "add", "."), must(root, "git", "commit", "--quiet", "-m", "Second night")
    return root, ran


def test_another_content_is_another_version_and_runs_what_depends_on_it(project, trusted):
    root, ran = project
    assert ran == [["ingest", "prepare"], [], ["ingest", "prepare"]]
    versions, notes = list_used_versions(root)
    assert (
        len(versions) == 2
        and not notes
        and [[r["subject"] for r in v["runs"]] for v in versions] == [["Second night"], ["First night"]]
    )
    diff = diff_versions(root, "previous")
    assert (diff["rows"]["added"], diff["rows"]["removed"], diff["rows"]["changed"]) == (0, 1, 0)
    must(root, "git", "check-ignore", "data/source/train.csv")
    tracked = must(root, "git", "ls-files", "data/source").stdout.split()
    assert "data/source/train.csv.dvc" in tracked and "data/source/train.csv" not in tracked


def test_every_raw_file_is_traced_to_what_was_put_under_dvc(project, trusted):
    root, _ = project
    for version, when in zip(list_used_versions(root)[0], ("main", "main~1")):
        origin = trace(root, version["data_version"])
        under_dvc = yaml.safe_load(must(root, "git", "show", f"{when}:data/source/train.csv.dvc").stdout)["outs"][0]
        assert len(origin["source_files"]) == 6
        assert origin["source_files"][-2:-1] == [
            {
                "path": "data/source/train.csv",
                "md5": under_dvc["md5"],
                "size": under_dvc["size"],
                "dvc_file": "data/source/train.csv.dvc",
            }
        ]
        assert [f["file"] for f in origin["raw"] if f["data/raw now"] != "same"] == (
            [] if when == "main" else ["train.csv"]
        )
        assert must(root, "git", "rev-parse", "--short=10", when).stdout.strip() in origin["how_to_get_it_back"]


def test_our_hash_of_a_folder_is_dvcs(project):
    root, _ = project
    outs = yaml.safe_load((root / "dvc.lock").read_text())["stages"]["prepare"]["outs"]
    assert dvc_hash(root / "data/prepared") == next(out["md5"] for out in outs if out["path"] == "data/prepared")


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }


def test_to_s3_and_back_in_a_fresh_clone(project, s3, trusted, tmp_path):
    root, _ = project
    url, keys = s3
    must(root, "dvc", "remote", "add", "--force", "--default", "--local", "shared", "s3://bucket/cd4ml")
    must(root, "dvc", "remote", "modify", "--local", "shared", "endpointurl", url)
    must(root, "dvc", "push", "--quiet", "--all-commits", **keys)
    must(tmp_path, "git", "clone", "--quiet", root, "clone")
    clone = tmp_path / "clone"
    versions, _ = list_used_versions(clone)
    assert [(v["available"], v["rows"] is not None) for v in versions] == [(False, True)] * 2
    assert "cannot be fetched" in versions_in_words(versions, [], clone)
    shutil.copy(root / ".dvc/config.local", clone / ".dvc/config.local")
    assert "dvc fetch --all-commits" in versions_in_words(versions, [], clone)
    must(clone, "dvc", "pull", "--quiet", "ingest", "prepare", *sorted((clone / "data/source").glob("*.dvc")), **keys)
    for folder in ("data/prepared", "data/raw", "data/source"):
        assert hashes(clone / folder) == hashes(root / folder), folder
    must(clone, "dvc", "fetch", "--quiet", "--all-commits", **keys)
    assert [v["available"] for v in list_used_versions(clone)[0]] == [True, True]
    kept = [p for p in root.rglob("*") if p.is_file() and ".git/" not in str(p)]
    assert not [p for p in kept if b"in-the-environment" in p.read_bytes()]
