"The same results on Spark: a real session of two cores, on this machine."

import gzip, json, os, shutil
import numpy as np, pandas as pd, pytest
from cd4ml_nb.core import UserError
from cd4ml_nb.data.engines import connect
from cd4ml_nb.data.prepare import prepare_folder
from cd4ml_nb.data.session import _require_spark, spark_session
from cd4ml_nb.data.tasks import run_tasks
from cd4ml_nb.model.training import load_fitted, train
from cd4ml_nb.tiny import tiny_project
from cd4ml_nb.model.loading import load_block
from cd4ml_nb.model.features import build_features, make_encoding
from cd4ml_nb.quality.backtest import backtest

pytestmark = pytest.mark.prove

try:
    _require_spark()
except UserError as missing:
    pytest.skip(f"No Spark here: {missing}", allow_module_level=True)

BOOSTING = dict(max_iter=10, min_samples_leaf=20, random_state=0)
ROWS = dict(first=56, every=7, rows=None, unknown_plan=0.1, seed=0, max_series=None)


@pytest.fixture(scope="module", autouse=True)
def session():
    "One Spark session for this file."
    before, os.environ["SPARK_MASTER"] = os.environ.get("SPARK_MASTER"), "local[2]"
    spark = spark_session("1GB")
    yield spark
    spark.stop()
    os.environ.pop("SPARK_MASTER") if before is None else os.environ.update(SPARK_MASTER=before)


@pytest.fixture(scope="module")
def project():
    return tiny_project("backtest")


def test_spark_is_set_up_as_our_expressions_need_it(session):
    assert session.version.startswith("4.") and session.sparkContext.defaultParallelism == 2
    assert (
        session.conf.get("spark.sql.session.timeZone") == "UTC" and session.conf.get("spark.sql.ansi.enabled") == "true"
    )
    assert session.sparkContext.getConf().get("spark.driver.bindAddress") == "127.0.0.1"
    con = connect("spark")
    con.disconnect()
    assert session.sql("SELECT 1 AS one").collect()[0].one == 1, "others still use the session"


def unknown_to_workers(number):
    return number


def test_tasks_run_on_spark_in_order_and_name_what_fails(capfd):
    def half(number):
        if number % 2:
            raise UserError(f"{number} is odd.")
        return number // 2

    assert run_tasks(half, [8, 2, 6], engine="spark") == [4, 1, 3]
    with pytest.raises(UserError, match=r"3 is odd. \(In the task 'three'.\)"):
        run_tasks(half, [8, 3], engine="spark", names=["eight", "three"])
    with pytest.raises(UserError, match="The task '1' failed with TypeError"):
        run_tasks(half, ["x"], engine="spark")
    with pytest.raises(
        UserError, match="No module named 'test_spark' Every worker needs Python with cd4ml_nb installed"
    ):
        run_tasks(unknown_to_workers, [1], engine="spark", what="counting")
    assert capfd.readouterr() == ("", ""), "Spark keeps its chatter to itself"


def parquet(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def raw():
    return tiny_project("prepare") / "data" / "raw"


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory):
    "The raw folder prepared by DuckDB; a zipped copy with Windows line ends and a byte-order mark by Spark."
    folder = tmp_path_factory.mktemp("spark")
    zipped = shutil.copytree(raw, folder / "raw")
    text = (zipped / "train.csv").read_bytes().replace(b"\n", b"\r\n")
    (zipped / "train.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + text))
    (zipped / "train.csv").unlink()
    steps = [
        prepare_folder(source, folder / engine, engine=engine)
        for engine, source in (("duckdb", raw), ("spark", zipped))
    ]
    return folder, steps


def test_prepare_on_spark_gives_the_same_bytes(prepared):
    folder, (here, there) = prepared
    one, other = parquet(folder / "duckdb"), parquet(folder / "spark")
    assert list(one) == list(other) and len(one) > 6
    for name in one:
        assert one[name] == other[name], name
    assert here == there
    about = [json.loads((folder / engine / "version.json").read_text()) for engine in ("duckdb", "spark")]
    assert about[0]["data_version"] == about[1]["data_version"] and about[0]["rows"] == about[1]["rows"] > 1000
    assert not (folder / "spark" / "heaps").exists()


def test_features_from_what_spark_prepared_are_the_same(prepared):
    blocks = [load_block(prepared[0] / engine) for engine in ("duckdb", "spark")]
    features = [build_features(block, block.n_days - 20, 16, make_encoding(block.series)) for block in blocks]
    np.testing.assert_array_equal(features[0].x, features[1].x)
    np.testing.assert_array_equal(features[0].y, features[1].y)


def test_all_faults_are_told_with_their_lines_and_the_last_good_data_stay(raw, prepared, tmp_path):
    folder, good = shutil.copytree(raw, tmp_path / "raw"), shutil.copytree(prepared[0] / "duckdb", tmp_path / "out")
    lines = (folder / "train.csv").read_text().splitlines()
    columns = lines[0].split(",")

    def with_cell(line, column, value):
        return ",".join(value if name == column else cell for name, cell in zip(columns, line.split(",")))

    lines[2], lines[3], lines[4] = (
        with_cell(lines[2], "unit_sales", "1.5d"),
        with_cell(lines[3], "store_nbr", "99"),
        lines[4] + ",extra",
    )
    lines[5], lines[6] = with_cell(lines[5], "date", "2017-02-30"), lines[7]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError) as error:
        prepare_folder(folder, good, engine="spark")
    for part in (
        "line 3: '1.5d'",
        "line 4: '99'",
        "broken line",
        "line 5:",
        "line 6: '2017-02-30'",
        "duplicate key",
        "line 7:",
        "line 8:",
    ):
        assert part in str(error.value), part
    assert parquet(good) == parquet(prepared[0] / "duckdb")


def test_two_rows_of_one_day_alone_are_found(raw, tmp_path):
    folder = shutil.copytree(raw, tmp_path / "raw")
    lines = (folder / "train.csv").read_text().splitlines()
    (folder / "train.csv").write_text(
        "\n".join(
            [
                *lines,
                next(line for line in lines[1:] if float(line.split(",")[lines[0].split(",").index("unit_sales")]) > 0),
            ]
        )
        + "\n"
    )
    with pytest.raises(UserError, match="duplicate key"):
        prepare_folder(folder, tmp_path / "out", engine="spark")


@pytest.mark.parametrize(
    "estimator, parameters, per",
    [
        ("gradient_boosting", BOOSTING, None),
        ("ets", {"processes": 2}, None),
        ("gradient_boosting", BOOSTING, "store_nbr"),
    ],
)
def test_a_backtest_on_spark_gives_the_same_forecasts(project, estimator, parameters, per):
    tables = []
    for engine in ("duckdb", "spark"):
        backtest(project, estimator, parameters, ROWS, per=per, engine=engine, processes=1)
        tables.append(pd.read_parquet(project / f"data/evaluation/{estimator}.parquet"))
    pd.testing.assert_frame_equal(*tables)


def test_models_of_groups_fitted_on_spark_are_the_same(project):
    answers, block = [], load_block(project / "data/prepared")
    for engine in ("duckdb", "spark"):
        about = train(project, "gradient_boosting", BOOSTING, ROWS, per="family", engine=engine, processes=1)
        answers.append((about, *(part.tolist() for part in load_fitted(project).forecast(block, block.n_days - 1, 16))))
    assert answers[0] == answers[1]
