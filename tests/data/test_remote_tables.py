"Tables in a real PostgreSQL and a real S3 server, both started here: whole or not at all, no password told."

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from buckets import s3_server
from own_tables import DAYS, Shop, tiny_sales, up_to
from waiting import PATIENCE, free_port

from cd4ml_nb.core import UserError, replace_folder
from cd4ml_nb.data.fetch import Reading, fetch, without_user
from cd4ml_nb.data.deliveries import table
from cd4ml_nb.data.table import check_table

pytestmark = [
    pytest.mark.prove,
    pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning"),  # Ibis 12 on DuckDB 2
]
PROGRAMS = (
    max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda folder: int(folder.parent.name))
    if Path("/usr/lib/postgresql").is_dir()
    else None
)
SECRET = "correct-horse-battery"
COLUMNS = {"date": "day", "item": "sku", "quantity": "pieces", "promotion": "promo"}


def end(process):
    "End a server that we started, with its children."
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(family, timeout=PATIENCE)


class Postgres:
    "A PostgreSQL server of our own, which wants a password."

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if self.user:
            shutil.chown(folder, "postgres")
        (folder / "password").write_text(SECRET)
        self.run(
            "initdb",
            "-D",
            folder / "data",
            "-U",
            "shop",
            "--auth=scram-sha-256",
            f"--pwfile={folder / 'password'}",
            "--no-sync",
            "--locale=C.UTF-8",
            "--encoding=UTF8",
        )
        with open(folder / "data" / "postgresql.conf", "a") as file:
            file.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nfsync = "
                "off\nlogging_collector = off\ndatestyle = 'German'\n"
            )
        self.start()

    def run(self, program, *words):
        subprocess.run(
            [*self.user, PROGRAMS / program, *map(str, words)], check=True, capture_output=True, cwd=self.folder
        )

    def start(self):
        self.run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-t", str(PATIENCE), "start")
        self.process = psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0]))

    def url(self, user="shop", database="postgres"):
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def execute(self, *statements):
        import psycopg

        with psycopg.connect(self.url(), password=SECRET, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="module")
def postgres():
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    if os.getuid() == 0 and not any(entry.pw_name == "postgres" for entry in pwd.getpwall()):
        pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
    with tempfile.TemporaryDirectory(prefix="cd4ml-postgres-", ignore_cleanup_errors=True) as folder:
        server = Postgres(Path(folder))
        server.execute(
            "CREATE TABLE sold (day date, sku text, pieces numeric(9, 2), promo boolean, at timestamptz)",
            "INSERT INTO sold VALUES ('2018-01-02', 'milk; \"fresh\", 1 l', 2.5, true, '2018-01-03 04:00:00+00'), "
            "('2018-01-01', 'bread', 3, NULL, '2018-01-01 12:00:00+00'), ('2018-01-01', 'Käse', -1, false, "
            "'2018-01-01 12:00:00+00')",
            'CREATE TABLE "Goods" (sku text, "group" text)',
            "INSERT INTO \"Goods\" VALUES ('bread', 'Bakery'), ('milk; \"fresh\", 1 l', 'Dairy'), ('Käse', 'Dairy')",
        )
        try:
            yield server
        finally:
            end(server.process)


@pytest.fixture
def password(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", SECRET)


def bring(root, mapping):
    fetch(root, mapping)
    with replace_folder(root / "data" / "raw") as folder:
        rules = table(folder, root=root, **mapping)
    return rules, (root / "data" / "raw" / "train.csv").read_text().splitlines()[1:]


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_a_query_and_a_table_of_a_database(postgres, password, tmp_path):
    mapping = {
        "sales": postgres.url(),
        "query": "SELECT day, sku, pieces, promo FROM sold;",
        "columns": COLUMNS,
        "items": {"table": postgres.url(), "query": "Goods", "columns": {"item": "sku", "family": "group"}},
    }
    rules, train = bring(tmp_path, mapping)
    assert train == [
        "2018-01-01,all,Käse,-1.0,0.0",
        "2018-01-01,all,bread,3.0,",
        '2018-01-02,all,"milk; ""fresh"", 1 l",2.5,1.0',
    ]
    assert (tmp_path / "data" / "raw" / "items.csv").read_text().splitlines()[1] == "Käse,Dairy,Dairy,0,"
    assert SECRET not in str(contents(tmp_path / "data"))


def test_the_same_rows_in_another_order_give_the_same_bytes(postgres, password, tmp_path):
    mapping = {
        "sales": postgres.url(),
        "query": "SELECT day, sku, pieces FROM sold ORDER BY pieces",
        "columns": {**COLUMNS, "promotion": None},
    }
    fetch(tmp_path, mapping)
    first = contents(tmp_path)
    postgres.execute("UPDATE sold SET pieces = pieces WHERE sku = 'bread'")
    fetch(tmp_path, mapping)
    assert contents(tmp_path) == first
    other = {**mapping, "query": mapping["query"] + " DESC"}
    fetch(tmp_path, other)
    rows = {name: rows for name, rows in first.items() if name.endswith(".csv")}
    assert rows and contents(tmp_path) | rows == contents(tmp_path)
    with pytest.raises(UserError, match="Fetch it with: cd4ml data fetch"):
        table(tmp_path, root=tmp_path, **mapping)


def test_points_in_time_become_local_days(postgres, password, tmp_path):
    _, train = bring(
        tmp_path,
        {
            "sales": postgres.url(),
            "query": "SELECT at, sku, pieces FROM sold",
            "columns": {"date": "at", "item": "sku", "quantity": "pieces"},
            "time_zone": "America/Guayaquil",
        },
    )
    assert sorted(row[:10] for row in train) == ["2018-01-01", "2018-01-01", "2018-01-02"]


REFUSALS = {  # what is wrong: (URL's parts, query, password, what is said)
    "a wrong password": ({}, "sold", "hunter-two-wrong", ["password authentication failed", "~/.pgpass or PGPASSWORD"]),
    "no password": ({}, "sold", None, ["no password supplied", "~/.pgpass or PGPASSWORD"]),
    "an unknown user": ({"user": "nobody"}, "sold", SECRET, ["authentication failed", "user in the URL"]),
    "an unknown database": (
        {"database": "shoe"},
        "sold",
        SECRET,
        ['database "shoe" does not exist', "name of the database at the end of the URL"],
    ),
    "an unknown table": ({}, "solt", SECRET, ['relation "solt" does not exist', "table.query"]),
    "an unknown column": ({}, "SELECT day, skew FROM sold", SECRET, ['column "skew" does not exist', "table.query"]),
    "no SQL": ({}, "SELEKT * FROM sold", SECRET, ['syntax error at or near "SELEKT"']),
    "a query that writes": (
        {},
        "DELETE FROM sold RETURNING day",
        SECRET,
        ["would change the database", "only reading is allowed"],
    ),
    "a query that ends the transaction": (
        {},
        "SELECT 1) TO STDOUT; COMMIT; DELETE FROM sold; COPY (SELECT 1",
        SECRET,
        ["does not accept the query"],
    ),
    "two statements": (
        {},
        "SELECT day FROM sold; DELETE FROM sold",
        SECRET,
        ["does not accept the query", "multiple commands"],
    ),
    "two columns of one name": (
        {},
        "SELECT day, day FROM sold",
        SECRET,
        ["more than one column named day", "Name them apart with AS"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_database_that_refuses(postgres, tmp_path, monkeypatch, case):
    parts, query, secret, said = REFUSALS[case]
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    monkeypatch.setenv("PGPASSWORD", SECRET)
    fetch(tmp_path, {"sales": postgres.url(), "query": "sold", "columns": COLUMNS})
    before = contents(tmp_path)
    if secret is None:
        monkeypatch.delenv("PGPASSWORD")
    else:
        monkeypatch.setenv("PGPASSWORD", secret)
    with pytest.raises(UserError) as error:
        fetch(tmp_path, {"sales": postgres.url(**parts), "query": query, "columns": COLUMNS})
    for words in said:
        assert words in str(error.value), str(error.value)
    assert (
        SECRET not in str(error.value) and (secret or SECRET) not in str(error.value) and "\n" not in str(error.value)
    )
    assert contents(tmp_path) == before
    monkeypatch.setenv("PGPASSWORD", SECRET)
    assert (
        len(bring(tmp_path, {"sales": postgres.url(), "query": "sold", "columns": COLUMNS})[1]) == 3
    )  # nothing was deleted


def test_a_host_that_does_not_exist_and_one_that_does_not_listen(tmp_path):
    for host in ("no-such-host.invalid", f"127.0.0.1:{free_port()}"):
        with pytest.raises(UserError, match="Check the name of the host, the port and whether the server runs"):
            fetch(tmp_path, {"sales": f"postgresql://shop@{host}/shop", "query": "sold"})


def in_the_middle(root, reading, break_off):
    "Run a fetch in a thread, break off when its first bytes are on the disk; returns what it raised."
    raised = []

    def run():
        try:
            reading()
        except BaseException as e:
            raised.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.time() + PATIENCE
    while (
        thread.is_alive()
        and time.time() < deadline
        and not any(
            path.is_file() and path.stat().st_size for path in (root / "data" / "source").glob(".fetched.*.tmp/**/*")
        )
    ):
        time.sleep(0.002)
    assert thread.is_alive(), f"over before it could be broken off: {raised}"
    break_off()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    return raised[0] if raised else None


def test_a_database_killed_in_mid_read(postgres, password, tmp_path):
    mapping = {"sales": postgres.url(), "query": "sold", "columns": COLUMNS}
    bring(tmp_path, mapping)
    before = contents(tmp_path)
    slow = "SELECT i, repeat('x', 4000) AS filler, pg_sleep(0.001)::text AS nap FROM generate_series(1, 60000) t(i)"
    try:
        error = in_the_middle(
            tmp_path, lambda: fetch(tmp_path, {**mapping, "query": slow}), lambda: end(postgres.process)
        )
    finally:
        postgres.start()
    assert (
        isinstance(error, UserError)
        and "went away in the middle of the read" in str(error)
        and "What was fetched before is untouched" in str(error)
    ), error
    assert contents(tmp_path) == before and not list((tmp_path / "data" / "source").glob(".*"))
    assert len(bring(tmp_path, mapping)[1]) == 3


@pytest.fixture
def sent(monkeypatch):
    "How many bytes a database sent, each time."
    sizes, own = [], Reading.copy
    monkeypatch.setattr(Reading, "copy", lambda *given: own(*given) or sizes.append(given[2].stat().st_size))
    return sizes


@pytest.fixture(scope="module")
def sales(tmp_path_factory):
    return tiny_sales(tmp_path_factory.mktemp("tiny"))


def till(postgres, rows, new=False):
    "Put rows into the table `till`, which is made anew where asked."
    import psycopg

    if new:
        columns = "day date, at timestamptz, moment timestamp, word text, store text, sku text, pieces double precision"
        postgres.execute("DROP TABLE IF EXISTS till", f"CREATE TABLE till ({columns})")
    with psycopg.connect(postgres.url(), password=SECRET, autocommit=True) as connection:
        with connection.cursor().copy("COPY till FROM STDIN") as copy:
            for day, item, units, store in rows.itertuples(index=False):  # noon in New York, and in the UTC evening
                evening = f"{day} 21:30:00"
                copy.write_row((day, f"{evening} America/New_York", evening, day, store, item, float(units)))


FORMS = {
    "day": ("day", {}, True),
    "point in time": ("at", {"time_zone": "America/New_York"}, True),
    "local time": ("moment", {}, True),
    "time of another zone": ("moment", {"time_zone": {"from": "America/New_York", "to": "America/New_York"}}, True),
    "text": ("word", {}, False),
}


@pytest.mark.parametrize("form", FORMS)
def test_nights_on_a_database_are_sent_the_days_that_are_new(postgres, password, sales, sent, tmp_path, form):
    "And give what a fresh prepare gives; the day that has just begun is there in part, and whole the night after."
    column, zone, known = FORMS[form]
    columns = {"date": column, "item": "sku", "quantity": "pieces", "store": "store"}
    shop = Shop(tmp_path, sales=postgres.url(), query="till", columns=columns, **zone)
    till(postgres, up_to(sales, DAYS[0]), new=True)
    said = []
    for day, tomorrow in zip(DAYS, DAYS[1:]):
        rows = sales[sales["date"] == tomorrow]
        till(postgres, rows.head(4))
        fetch(tmp_path, shop.mapping)
        said.append(shop.night(day))
        till(postgres, rows.iloc[4:])
    assert ["only what came" in one for one in said] == [False] + [True] * (len(said) - 1), said
    assert not known or max(sent[1:]) < sent[0] / 20, sent


def test_an_old_row_of_a_database_that_changed_has_all_fetched_and_read(
    postgres, password, sales, sent, tmp_path, capfd
):
    "Whatever of it: another number that leaves the sum as it was, a row more, a row less."
    columns = {"date": "day", "item": "sku", "quantity": "pieces", "store": "store"}
    shop = Shop(tmp_path, sales=postgres.url(), query="SELECT day, sku, pieces, store FROM till", columns=columns)
    till(postgres, up_to(sales, DAYS[0]), new=True)
    swapped = "UPDATE till SET pieces = pieces + {} WHERE day = '2017-05-05' AND store = '1' AND sku = '{}'"
    changes = [
        [],
        [swapped.format(2, 101), swapped.format(-2, 102)],
        ["INSERT INTO till (day, store, sku, pieces) VALUES ('2017-05-05', '3', '106', 3)"],
        ["DELETE FROM till WHERE day = '2017-05-05' AND store = '3' AND sku = '106'"],
    ]
    for number, (day, statements) in enumerate(zip(DAYS, changes)):
        if number:
            till(postgres, sales[sales["date"] == day])
        postgres.execute(*statements)
        fetch(tmp_path, shop.mapping)
        said = shop.night(day)
        told = capfd.readouterr().err
        assert number == 0 or "All is fetched: the rows of 2017-05-05 are not what they were." in told
        assert number == 0 or "read whole: data/source/fetched/sales/2016-11-01.csv is not what it was" in said, said
    assert min(sent) > sent[0] * 0.9
    fetch(tmp_path, shop.mapping)
    assert sent[-1] < sent[0] / 20


def test_a_copy_that_was_damaged_is_fetched_again(postgres, password, sales, sent, tmp_path):
    columns = {"date": "day", "item": "sku", "quantity": "pieces", "store": "store"}
    mapping = {"sales": postgres.url(), "query": "till", "columns": columns}
    till(postgres, up_to(sales, DAYS[0]), new=True)
    fetch(tmp_path, mapping)
    before = contents(tmp_path)
    path = tmp_path / "data/source/fetched/sales/2016-11-01.csv"
    path.write_bytes(path.read_bytes()[:-10])
    fetch(tmp_path, mapping)
    assert contents(tmp_path) == before and sent[0] == sent[1]
    fetch(tmp_path, mapping)
    assert contents(tmp_path) == before and sent[2] < sent[0] / 20


@pytest.fixture(scope="module")
def s3():
    "An S3 server's address, and its process."
    with s3_server() as (address, process):
        yield address, psutil.Process(process.pid)


@pytest.fixture
def bucket(s3, monkeypatch):
    "The bucket `shop` and how to put an object into it."
    for name, value in {
        "AWS_ENDPOINT_URL": s3[0],
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    store = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    if not store.exists("shop"):
        store.mkdir("shop")
    return lambda name, content: store.pipe(f"shop/{name}", content.encode() if isinstance(content, str) else content)


MINE = {"date": "day", "item": "sku", "quantity": "pieces"}
HEADER = "day,sku,pieces\n"


def test_an_object_and_a_prefix(bucket, tmp_path):
    bucket("one.csv", HEADER + "2018-01-01,milk,2\n")
    assert bring(tmp_path, {"sales": "s3://shop/one.csv", "columns": MINE})[1] == ["2018-01-01,all,milk,2.0,"]
    bucket("nights/1.csv", HEADER + "2018-01-01,milk,2\n2018-01-02,milk,9\n")
    bucket("nights/2.csv", HEADER + "2018-01-02,milk,3\n2018-01-01,milk,2\n")
    bucket("nights/notes.txt", "not a table")
    for place in ("s3://shop/nights", "s3://shop/mine/"):
        rules, train = bring(tmp_path, {"sales": place, "columns": MINE})
        assert train == ["2018-01-01,all,milk,2.0,", "2018-01-02,all,milk,3.0,"] and (
            rules["twice"]["rows"],
            rules["corrected"]["rows"],
        ) == (1, 1)
    first = contents(tmp_path)
    bring(tmp_path, {"sales": "s3://shop/mine/", "columns": MINE})
    assert contents(tmp_path) == first
    bucket("nights/3.csv", HEADER + "2018-01-03,milk,many\n")
    fetch(tmp_path, {"sales": "s3://shop/mine/", "columns": MINE})
    assert [(f["file"], f["kind"]) for f in check_table({"sales": "s3://shop/mine/", "columns": MINE}, tmp_path)] == [
        ("data/source/fetched/sales/3.csv", "wrong type")
    ]


@pytest.mark.parametrize(
    "place, said",
    [
        ("s3://shop/nothing.csv", "is not there"),
        ("s3://shoe/sales.csv", "is not there"),
        ("s3://shop/empty/", "is not there"),
        ("s3://shop/only/", "holds no table"),
        ("s3://shop/only/notes.txt", "should end in .csv, .csv.gz or .parquet"),
        ("s3://shop/climb/", "would leave the folder"),
    ],
)
def test_a_bucket_without_the_table(bucket, tmp_path, place, said):
    bucket("only/notes.txt", "not a table")
    bucket("climb/../../../../escaped.csv", HEADER)
    bucket("kept.csv", HEADER)
    fetch(tmp_path, {"sales": "s3://shop/kept.csv"})
    before = contents(tmp_path)
    with pytest.raises(UserError) as error:
        fetch(tmp_path, {"sales": place})
    assert said in str(error.value) and "\n" not in str(error.value), str(error.value)
    assert contents(tmp_path) == before


def test_wrong_credentials_are_not_told(s3, bucket, tmp_path, monkeypatch):
    import urllib.request

    bucket("private.csv", HEADER)
    ask = lambda count: urllib.request.urlopen(
        urllib.request.Request(
            f"{s3[0]}/moto-api/reset-auth", data=str(count).encode(), headers={"Content-Type": "text/plain"}
        )
    ).read()
    try:
        ask(0)  # from now on the server wants keys that it knows
        with pytest.raises(UserError) as error:
            fetch(tmp_path, {"sales": "s3://shop/private.csv"})
    finally:
        ask("Infinity")
    assert (
        "may not be read" in str(error.value)
        and "AWS_ACCESS_KEY_ID" in str(error.value)
        and SECRET not in str(error.value)
        and "AKIATEST" not in str(error.value)
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="may not be read .*AWS_ACCESS_KEY_ID"):
        fetch(tmp_path, {"sales": "s3://shop/private.csv"})


def test_a_store_that_does_not_answer(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="cannot be read.*AWS_ENDPOINT_URL"):
        fetch(tmp_path, {"sales": "s3://shop/sales.csv"})


def test_places_that_need_another_package(tmp_path):
    for place, package in (("gs://shop/sales.csv", "gcsfs"), ("az://shop/sales.csv", "adlfs")):
        try:
            __import__(package)
        except ImportError:
            with pytest.raises(UserError, match=f"pip install '{package}'"):
                fetch(tmp_path, {"sales": place})


def test_nights_on_a_bucket_copy_and_read_the_objects_that_are_new(bucket, sales, tmp_path, monkeypatch):
    "And give what a fresh prepare gives; an object that changed is copied again, one that is gone is said."
    import s3fs

    copied, own = [], s3fs.S3FileSystem._get_file

    async def get(self, name, *given, **named):
        copied.append(name)
        return await own(self, name, *given, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_get_file", get)
    shop = Shop(tmp_path, sales="s3://shop/mine/")
    first = "mine/2017-08-20.csv"
    said = []
    for number, day in enumerate(DAYS[:4]):
        rows = sales[sales["date"] == day] if number else up_to(sales, day)
        bucket(f"mine/{day}.csv", rows.to_csv(index=False))
        if number == 2:  # an old row is another
            bucket(first, up_to(sales, DAYS[0]).to_csv(index=False).replace("2017-05-05,101,", "2017-05-05,101,1"))
        fetch(tmp_path, shop.mapping)
        said.append(shop.night(day))
    assert copied == [f"shop/mine/{name}.csv" for name in (*DAYS[:2], DAYS[0], *DAYS[2:4])]
    assert ["only what came" in one for one in said] == [False, True, False, True]
    assert f"data/source/fetched/sales/{DAYS[0]}.csv is not what it was" in said[2]
    place = tmp_path / f"data/source/fetched/sales/{DAYS[1]}.csv"
    place.write_bytes(b"damaged")
    fetch(tmp_path, shop.mapping)
    assert copied[-1] == f"shop/mine/{DAYS[1]}.csv" and len(copied) == 6


def test_a_store_killed_in_mid_read(s3, bucket, tmp_path):  # the last test with the store
    bucket("kept.csv", HEADER + "2018-01-01,milk,2\n")
    bucket("many/1.csv", HEADER)
    for number in range(2, 30):
        bucket(f"many/{number}.csv", HEADER + "2018-01-01,milk,2\n" * 10_000)
    bring(tmp_path, {"sales": "s3://shop/kept.csv", "columns": MINE})
    before = contents(tmp_path)
    error = in_the_middle(tmp_path, lambda: fetch(tmp_path, {"sales": "s3://shop/many/"}), lambda: end(s3[1]))
    assert (
        isinstance(error, UserError)
        and "What was fetched before is untouched" in str(error)
        and SECRET not in str(error)
    ), error
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://shop:{0}@127.0.0.1/shop",
        "postgres://shop@127.0.0.1/shop?password={0}",
        "postgresql://127.0.0.1/shop?user=shop&sslpassword={0}",
        "s3://AKIA:{0}@shop/sales.csv",
        "az://shop/sales.csv?sig={0}",
    ],
)
def test_a_secret_in_params_is_refused_and_not_told(tmp_path, place):
    with pytest.raises(UserError, match="the URL holds a password or a key") as error:
        fetch(tmp_path, {"sales": place.format(SECRET), "query": "sold"})
    assert SECRET not in str(error.value) and SECRET not in without_user(place.format(SECRET))


def test_nothing_remote_is_quick():
    "Without a remote table, fetch imports nothing heavy."
    code = """
import sys
from pathlib import Path
from cd4ml_nb.data.fetch import fetch
assert fetch(Path('.'), {'sales': 'sales.csv'}) == {}
print([name for name in ('duckdb', 'ibis', 'pandas', 'psycopg', 'fsspec') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
