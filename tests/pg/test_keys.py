#!/usr/bin/python3
"""Keys whose text depends on settings of the session, and processes with different ones: they share a table all the same.

  test_keys.py --vecmill PATH [NAME..]
"""
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
import runs  # noqa: E402
from runs import N_DIMENSIONS, begun, each_written_once, embedded, fresh, ingest, locked, log_writes, until, waiting  # noqa: E402
from servers import Bouncer, Server  # noqa: E402

N_ROWS = 600
KEYS = {  # of row i; the times meet the hour that Berlin has twice
    "timestamptz": "timestamptz '2024-10-26 22:00+00' + i * interval '13.000001 s'",
    "timestamp": "timestamp '2024-10-03 00:00' + i * interval '1 hour'",
    "date": "date '0040-01-02 BC' + i * 13",
    "float8": "1 + i / 3e15::float8",
    "real": "1 + i / 1e6::real",
    "interval": "i * interval '1 month -3 days 1.5 s'",
    "bytea": "decode(md5(i::text), 'hex')",
    "tstzrange": "tstzrange(timestamptz '2024-10-27 00:00+00' + i * interval '13 s', NULL)",
    "money": "i::money / 7",
    "moment": "timestamptz '2024-10-26 22:00+00' + i * interval '17 s'",
}
ROLES = {
    "plain": "",
    "odd": """ALTER ROLE odd SET timezone = 'Europe/Berlin'; ALTER ROLE odd SET datestyle = 'SQL, DMY'; ALTER ROLE odd SET intervalstyle = 'iso_8601';
        ALTER ROLE odd SET extra_float_digits = -4; ALTER ROLE odd SET bytea_output = 'escape';""",
    "german": "ALTER ROLE german SET datestyle = 'German'; ALTER ROLE german SET intervalstyle = 'sql_standard'; ALTER ROLE german SET extra_float_digits = 0;",
}


def fill(server, key: str) -> None:
    server.psql(f"""CREATE DOMAIN moment AS timestamptz;
        CREATE TABLE t(id {key} PRIMARY KEY, n integer, text text, embedding vector({N_DIMENSIONS}));
        INSERT INTO t SELECT {KEYS[key]}, i, 'star ' || i, NULL FROM generate_series(1, {N_ROWS}) AS i""")
    for role, settings in ROLES.items():
        server.psql(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN SUPERUSER; {settings}", options="-c client_min_messages=error")


def start(vecmill, db: str, *words, **environment):
    return vecmill.start("ingest", "t", *words, "--workers", 1, "--db", db, "--model", vecmill.model, env=vecmill.environment | environment)


ODD = {"PGTZ": "Asia/Kathmandu", "PGDATESTYLE": "Postgres, DMY"}


def share(vecmill, server, key: str) -> None:
    fill(server, key)
    log_writes(server, "t", "n")
    dead = start(vecmill, server.uri_of(user="odd"), 20, "--sleep", 0.3)
    begun(dead, 1)
    dead.kill()
    dead.communicate()
    n_before = int(server.psql("SELECT count(embedding) FROM t")[0][0])
    words = ["--sleep", 0.01]
    runs = [start(vecmill, server.uri_of(user="odd"), 20, *words), start(vecmill, server.uri_of(user="german"), 30, *words),
            start(vecmill, server.uri_of(user="plain"), 25, *words, **ODD)]
    expect(n_before < N_ROWS and sum(map(embedded, runs)) == N_ROWS - n_before, f"{key}: rows embedded twice, or never")
    each_written_once(server, N_ROWS)
    # the hashes that one has kept are those that the others look for
    for role, environment, i in (("plain", {}, 7), ("plain", ODD, 8), ("odd", {}, 9), ("german", {}, 10)):
        server.psql(f"UPDATE t SET text = text || ' again' WHERE n % 12 = {i}")
        done = start(vecmill, server.uri_of(user=role), 50, "--changed", **environment)
        expect(embedded(done) == N_ROWS // 12, f"{key}: --changed of {role}")
    expect(server.psql("SELECT count(*) FROM vecmill.hashes") == [(str(N_ROWS),)], f"{key}: more than one hash of a key")
    # and so are failures
    server.psql("UPDATE t SET embedding = NULL WHERE n IN (399, 400); ALTER TABLE t ADD CHECK (n <> 400 OR embedding IS NULL)")
    for n, (role, environment) in enumerate((("odd", {}), ("plain", ODD), ("german", {}), ("plain", {}))):
        done = start(vecmill, server.uri_of(user=role), 50, **environment)
        output, errors = done.communicate(timeout=60)
        expect(done.returncode == 3 and ("Embedded 1 rows" if n == 0 else "Nothing to embed") in output, f"{key}: a failure seen by {role}: {output} {errors}")


def found(vecmill, server, key: str) -> None:
    """What a search says of a key can be found again."""
    for role, environment in (("odd", {}), ("german", {}), ("plain", ODD)):
        for more in ([], ["--exact"], ["-k", "10001"]):
            done = vecmill.run("search", "t", "star 77", "--db", server.uri_of(user=role), "--json", "-k", 1, *more, environment=environment)
            row = json.loads(done.stdout.splitlines()[0], parse_float=str)
            expect(row["text"] == "star 77", f"{key}: {row}")
            expect(server.psql("SELECT n FROM t WHERE id = '{}'".format(row["id"].replace("'", "''"))) == [("77",)], f"{key}: {row} is none of its keys")


def test_keys(vecmill, folder):
    """A run that dies, three that go on side by side, edits and failures, each by another role: every row is written once, every key is known again."""
    for key in KEYS:
        with fresh() as server:
            share(vecmill, server, key)
            found(vecmill, server, key)


COLLATED = {  # columns of the key, and of the metrics' key where that is not made by the run
    'a text COLLATE "C", b text COLLATE "POSIX"': None,
    'a name, b text COLLATE "C.utf8"': None,
    'a name, b varchar': None,
    'a words, b text COLLATE "C"': None,
    'a words COLLATE "POSIX", b integer': None,
    'a text COLLATE "C.utf8", b char(9)': None,
    'a text COLLATE "C", b text': 'a text COLLATE "POSIX", b text COLLATE "C"',
    'a text, b text COLLATE "C.utf8"': 'a text COLLATE "C.utf8", b text',
    'a words, b integer': 'a text COLLATE "C", b integer',
}


def test_collations(vecmill, folder):
    """Columns that are compared each in its way make one key: edits, failures, metrics and searches find its rows."""
    for columns, metrics in COLLATED.items():
        with fresh() as server:
            server.psql(f"""CREATE DOMAIN words AS text COLLATE "C.utf8"; CREATE TABLE t({columns}, text text COLLATE "POSIX", PRIMARY KEY(a, b));
                INSERT INTO t SELECT i, i, 'star ' || i FROM generate_series(1, 20) AS i""")
            if metrics:
                server.psql(f"CREATE TABLE t_metrics({metrics}, hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, "
                            "frequency integer, updated_at timestamptz, PRIMARY KEY(a, b))")

            def run(said: str, *words, status: int = 0):
                done = vecmill.run("ingest", "t", 7, "--db", server.uri, "--model", vecmill.model, *words, status=status)
                expect(said in done.stdout, f"{columns}: no {said}: {done.stdout}{done.stderr}")

            run("Embedded 20 rows", "--create-metrics")
            server.psql("UPDATE t SET text = text || ' edited' WHERE text IN ('star 7', 'star 17'); UPDATE t SET text = '' WHERE text = 'star 8'")
            run("2 rows to embed", "--changed", "--dry-run")
            run("Embedded 2 rows", "--changed")
            run("Nothing to embed", "--changed")
            server.psql("UPDATE t SET embedding = NULL WHERE text IN ('star 3', 'star 4', 'star 5'); ALTER TABLE t ADD CHECK(text <> 'star 3' OR embedding IS NULL)")
            run("1 failed", "--limit", 15, status=3)
            run("1 failed", "--limit", 15, status=3)
            run("1 failed", "--retry-failed", "--where", "text LIKE 's%'", status=3)
            server.psql("DELETE FROM t_metrics WHERE a IN ('11', '12')")
            run("", "--metrics-only")
            expect(server.psql("SELECT count(*), count(frequency) FROM t JOIN t_metrics AS m ON (m.a::text, m.b::text) = (t.a::text COLLATE \"C\", t.b::text COLLATE \"C\")")
                   == [("19", "19")], f"{columns}: metrics")
            expect(server.psql("SELECT count(*) FROM vecmill.failures") == [("1",)], f"{columns}: failures")
            for more in ([], ["--exact"]):
                found = json.loads(vecmill.run("search", "t", "star 5", "--db", server.uri, "-k", 1, "--json", *more).stdout)
                expect(found["text"] == "star 5" and str(found["id"][0]) == "5", f"{columns}: {found}")


RANDOM = "(SELECT string_agg(md5(i || ' ' || j), '') FROM generate_series(1, 90) AS j)"  # 2,880 hexadecimal digits, which no compression makes short
LONG = (  # columns, a long key of i, a short one
    ("a bytea", f"decode(left({RANDOM}, 2800), 'hex')", "decode('0' || i, 'hex')"),
    ("a text", f"left({RANDOM}, 2670)", "i"),
    ("a text", f"left({RANDOM}, 2649)", "i"),
    ("a text", f"left({RANDOM}, 2648)", "i"),
    ('a text COLLATE "C"', "repeat('long ', 4000) || i", "i"),
    ("a text, b varchar", f"left({RANDOM}, 1330), left(md5(i::text) || {RANDOM}, 1330)", "i, i"),
    ('a name, b text COLLATE "C.utf8"', f"'name', left({RANDOM}, 2590)", "'s' || i, i"),
    ('a text, b text COLLATE "C.utf8"', f"'\U0001f642' || i, replace(left({RANDOM}, 1300), '1', '\u2019')", "i, i"),
)


def test_long_keys(vecmill, folder):
    """Keys that an index of the table can hold and one of the state's cannot, alone and in parts, beside short ones: edits, failures and rows that go."""
    for columns, long, short in LONG:
        key = "a, b" if ", b " in columns else "a"
        with fresh() as server:
            server.psql(f"""CREATE TABLE t({columns}, n integer, text text, PRIMARY KEY({key}));
                INSERT INTO t({key}, n, text) SELECT {long}, i, 'star ' || i FROM generate_series(1, 6) AS i;
                INSERT INTO t({key}, n, text) SELECT {short}, i, 'star ' || i FROM generate_series(7, 9) AS i""")

            def run(said: str, *words, status: int = 0):
                done = vecmill.run("ingest", "t", 2, "--db", server.uri, "--model", vecmill.model, *words, status=status)
                expect(said in done.stdout, f"{columns}: no {said}: {done.stdout}{done.stderr}")
                return done.stderr

            run("Embedded 9 rows", "--create-metrics")
            server.psql("UPDATE t SET text = text || ' edited' WHERE n IN (3, 8)")
            run("2 rows to embed", "--changed", "--dry-run")
            run("Embedded 2 rows", "--changed")
            server.psql("UPDATE t SET text = text || ' again' WHERE n IN (3, 7); UPDATE t SET text = '' WHERE n IN (4, 9); DELETE FROM t WHERE n = 2")
            run("Embedded 2 rows", "--changed")
            run("Nothing to embed", "--changed")
            expect(server.psql("SELECT n FROM t WHERE embedding IS NULL ORDER BY n") == [("4",), ("9",)], f"{columns}: blank rows")
            server.psql("UPDATE t SET embedding = NULL; ALTER TABLE t ADD CONSTRAINT pole CHECK(n NOT IN (1, 7) OR embedding IS NULL)")
            run("Embedded 4 rows", status=3)
            run("2 failed", "--workers", 1, status=3)
            run("2 failed", "--retry-failed", status=3)
            expect(server.psql("SELECT count(*) FROM vecmill.failures JOIN t ON left(key[1], 5) = left(t.a::text, 5) AND n IN (1, 7)")[0][0] != "0", "no failures")
            server.psql("ALTER TABLE t DROP CONSTRAINT pole")
            run("Embedded 2 rows", "--retry-failed")
            expect(server.psql("SELECT count(*) FROM vecmill.failures") == [("0",)], f"{columns}: failures that are mended")
            found = json.loads(vecmill.run("search", "t", "star 5", "--db", server.uri, "-k", 1, "--json").stdout)
            expect(found["text"] == "star 5", f"{columns}: {found}")


FACES = "".join(chr(0x1f600 + n) for n in range(16))


def part_of(column: int, kind: str, n_characters: int) -> str:
    """Of the key of row i, as SQL: the same for thirty rows on end; characters of four bytes."""
    if kind == "integer":
        return f"{column} * 7 + i / 30"
    digits = f"(SELECT string_agg(md5('{column} ' || i / 30 || ' ' || n), '') FROM generate_series(1, 3) AS n)"
    return f"translate(left({digits}, {n_characters}), '0123456789abcdef', '{FACES}')"


def test_wide_keys(vecmill, folder):
    """Keys of as many columns as an index can have, and such among them as an index of the state's cannot hold whole."""
    for n_columns, kinds, n_characters, is_long in ((20, ("text", "integer"), 5, "f"), (20, ("text", "integer"), 64, "t"), (32, ("text", "text"), 20, "t")):
        names = [f"k{column}" for column in range(n_columns)]
        columns = ", ".join(f"{name} {kinds[column % 2]}" for column, name in enumerate(names))
        parts = ", ".join([part_of(column, kinds[column % 2], n_characters) for column in range(n_columns - 1)] + ["i"])
        with fresh() as server:
            server.psql(f"""CREATE TABLE t({columns}, n integer, text text, PRIMARY KEY({", ".join(names)}));
                INSERT INTO t SELECT {parts}, i, 'star ' || i FROM generate_series(1, 100) AS i""")

            def run(said: str, *words, status: int = 0):
                done = vecmill.run("ingest", "t", 7, "--db", server.uri, "--model", vecmill.model, *words, status=status)
                expect(said in done.stdout and (status or not done.stderr), f"{n_columns}: no {said}: {done.stdout}{done.stderr}")

            run("Embedded 100 rows", "--create-metrics")
            expect(server.psql("SELECT count(*) FROM t_metrics") == [("100",)], f"{n_columns}: metrics")
            server.psql("UPDATE t SET text = text || ' edited' WHERE n % 10 = 3; UPDATE t SET text = '' WHERE n = 8; DELETE FROM t WHERE n = 2")
            run("10 rows to embed", "--changed", "--dry-run")
            run("Embedded 10 rows", "--changed")
            run("Nothing to embed", "--changed")
            expect(server.psql(f"SELECT bool_and((cardinality(key) > {n_columns}) = '{is_long}') FROM vecmill.hashes") == [("t",)], f"{n_columns}: kept in another form")
            got = server.psql(f"SELECT count(*) FROM t LEFT JOIN t_metrics USING ({', '.join(names)}) WHERE (length(text) = length) IS NOT TRUE AND n <> 8")
            expect(got == [("0",)], f"{n_columns}: metrics of {got} rows are not of their text")
            server.psql("TRUNCATE t_metrics")
            run("Measured 98 rows", "--metrics-only")
            expect(server.psql("SELECT count(*), count(DISTINCT length) FROM t_metrics") == [("98", "5")], f"{n_columns}: --metrics-only")
            server.psql("UPDATE t SET embedding = NULL WHERE n > 90; ALTER TABLE t ADD CONSTRAINT pole CHECK(n NOT IN (91, 97) OR embedding IS NULL)")
            run("Embedded 8 rows", "--workers", 1, status=3)
            run("2 failed", "--retry-failed", status=3)
            server.psql("ALTER TABLE t DROP CONSTRAINT pole")
            run("Embedded 2 rows", "--retry-failed")
            expect(server.psql("SELECT count(embedding), count(*) FROM t, LATERAL (SELECT count(*) FROM vecmill.failures) AS f(n) WHERE f.n = 0") == [("98", "99")],
                   f"{n_columns}: what had failed")
            found = json.loads(vecmill.run("search", "t", "star 5", "--db", server.uri, "-k", 1, "--json").stdout)
            wanted = server.psql(f"SELECT json_build_array({', '.join(names)}) FROM t WHERE n = 5")[0][0]
            expect(found["text"] == "star 5" and found["id"] == json.loads(wanted), f"{n_columns}: {found}")


def test_where(vecmill, folder):
    """Times in --where mean the same to every process, which is told."""
    note = "vecmill: table t: --where is read in time zone UTC, as the keys are, and not in Europe/Berlin\n"
    with fresh() as server:
        fill(server, "timestamptz")
        where = "id < '2024-10-26 22:30'"
        n = int(server.psql("SET timezone = 'UTC'; SELECT count(*) FROM t WHERE " + where)[0][0])
        run = start(vecmill, server.uri_of(user="odd"), 50, "--where", where)
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 0 and f"Embedded {n} rows" in output and errors == note, f"{n} {output} {errors}")


def test_bouncer(vecmill, folder):
    """In transaction mode, where each transaction may come to another session; all of them have odd settings, and keep them."""
    for key in ("timestamptz", "float8", "bytea"):
        with fresh() as server, Bouncer(server, pool_size=2) as bouncer:
            fill(server, key)
            log_writes(server, "t", "n")
            server.psql(ROLES["odd"].replace("ROLE odd", "DATABASE corpus"))
            try:
                runs = [start(vecmill, bouncer.uri, 50), start(vecmill, bouncer.uri, 30, **ODD), start(vecmill, server.uri_of(user="german"), 40)]
                expect(sum(map(embedded, runs)) == N_ROWS, f"{key}: rows embedded twice, or never")
                each_written_once(server, N_ROWS)
                server.psql("UPDATE t SET text = text || ' again' WHERE n % 12 = 7")
                expect(embedded(start(vecmill, server.uri_of(user="german"), 50, "--changed")) == N_ROWS // 12, f"{key}: --changed")
                server.psql("UPDATE t SET text = text || ' again' WHERE n % 12 = 8")
                expect(embedded(start(vecmill, bouncer.uri, 50, "--changed")) == N_ROWS // 12, f"{key}: --changed through pgbouncer")
                for _ in range(2):
                    left = bouncer.psql("SELECT current_setting('IntervalStyle'), current_setting('extra_float_digits'), current_setting('bytea_output')")
                    expect(left == [("iso_8601", "-4", "escape")], f"left in a session: {left}")
            finally:
                server.psql("ALTER DATABASE corpus RESET ALL")


def make_caseless(server, schema: str) -> None:
    """A type as citext is: text that is compared in lower case, by operators of its own, in a schema of its own."""
    comparisons = {"<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">": "gt"}
    operators = "".join(f"""CREATE FUNCTION {name}(ci, ci) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS 'SELECT lower($1::text) {sign} lower($2::text)';
        CREATE OPERATOR {sign} (LEFTARG = ci, RIGHTARG = ci, FUNCTION = {name});""" for sign, name in comparisons.items())
    numbered = ", ".join(f"OPERATOR {i} {sign}" for i, sign in enumerate(comparisons, 1))
    server.psql(f"""CREATE SCHEMA {schema}; SET search_path = {schema}; CREATE TYPE ci;
        CREATE FUNCTION ci_in(cstring) RETURNS ci AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
        CREATE FUNCTION ci_out(ci) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
        CREATE TYPE ci(INPUT = ci_in, OUTPUT = ci_out, INTERNALLENGTH = VARIABLE, STORAGE = extended, COLLATABLE = true, CATEGORY = 'S');
        CREATE CAST(ci AS text) WITHOUT FUNCTION AS IMPLICIT; CREATE CAST(text AS ci) WITHOUT FUNCTION AS ASSIGNMENT; {operators}
        CREATE FUNCTION ci_compare(ci, ci) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS 'SELECT bttextcmp(lower($1::text), lower($2::text))';
        CREATE OPERATOR CLASS ci_ops DEFAULT FOR TYPE ci USING btree AS {numbered}, FUNCTION 1 ci_compare(ci, ci)""", options="-c client_min_messages=error")


def test_operators_elsewhere(vecmill, folder):
    """A type whose operators the search path does not lead to is compared by them all the same, and not as the text that it is like."""
    with fresh() as server:
        make_caseless(server, "my_ops")
        server.psql(f"""CREATE TABLE t(id my_ops.ci PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}));
            INSERT INTO t SELECT (CASE WHEN i % 2 = 0 THEN 'k' ELSE 'K' END || i)::text::my_ops.ci, 'star ' || i FROM generate_series(1, 300) AS i""")
        log_writes(server, "t", "id")
        server.psql("ALTER FUNCTION log_write() SET search_path = public")
        in_order = "SELECT count(embedding), (SELECT count(embedding) FROM (SELECT * FROM t ORDER BY id LIMIT 50) AS t) FROM t"
        ingest(vecmill, server.uri, 7, "--limit", 50)
        expect(server.psql(in_order) == [("50", "50")], "not the first 50 in their order")
        ingest(vecmill, server.uri_of(options="-c search_path="), 7, "--limit", 50, table="public.t")
        expect(server.psql(in_order) == [("50", "50")], "others, by another search path")
        output = ingest(vecmill, server.uri_of(options="-c search_path="), 7, "--create-metrics", table="public.t").stdout
        expect("Embedded 250 rows" in output, output)
        server.psql("UPDATE t SET text = 'another ' || id WHERE id = 'K7'")
        output = ingest(vecmill, server.uri, "--changed").stdout
        expect("Embedded 1 rows" in output, output)
        expect(server.psql("SELECT count(*), count(DISTINCT key) FROM log") == [("301", "300")], "not once each")
        server.psql("DROP SCHEMA my_ops CASCADE", options="-c client_min_messages=error")


def test_other_search_paths(vecmill, folder):
    """A type is the same for processes that see it by its bare name and those that do not: they share a run."""
    with fresh() as server:
        server.psql(f"""CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM('well', 'ill'); CREATE TABLE t(mood app.mood, id integer, text text,
            embedding vector({N_DIMENSIONS}), PRIMARY KEY(mood, id)); INSERT INTO t SELECT 'well', i, 'star ' || i FROM generate_series(1, 300) AS i""")
        log_writes(server, "t", "id")
        with locked(server, "id = 7"):
            both = [runs.start(vecmill, server.uri, 50)]
            waiting(server)
            both.append(runs.start(vecmill, server.uri_of(options="-c search_path=app,public"), 50))
            until(server, "SELECT count(*) FROM vecmill.workers", "2")
        expect(sum(map(embedded, both)) == 300, "not shared")
        each_written_once(server, 300)
        server.psql("DROP SCHEMA app CASCADE", options="-c client_min_messages=error")


def test_nulls_behind_a_constraint(vecmill, folder):
    """A NOT NULL that is NOT VALID, which 18 has, says nothing of the rows before it: those without a key are left out, as ever."""
    with Server(version=18) as server:
        server.psql(f"""CREATE TABLE t(id integer UNIQUE, text text, embedding vector({N_DIMENSIONS}));
            INSERT INTO t SELECT nullif(i, 3), 'star ' || i FROM generate_series(1, 10) AS i; ALTER TABLE t ADD CONSTRAINT given NOT NULL id NOT VALID""")
        output = ingest(vecmill, server.uri, "--id-column", "id").stdout
        expect("Embedded 9 rows" in output and "Rows: 1 with a NULL in the key, passed over\n" in output, output)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
