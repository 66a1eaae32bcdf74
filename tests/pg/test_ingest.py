#!/usr/bin/python3
"""vecmill ingest and search on PostgreSQL with pgvector, through the real command and real servers.

  test_ingest.py --vecmill PATH [NAME..]
"""
import json
import os
import random
import signal
import struct
import subprocess
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
import corpus  # noqa: E402
from ingest_case import MAKE_TINY_MODEL, expect, run_tests  # noqa: E402
from proxy import Fate, Gate  # noqa: E402
from runs import (N_DIMENSIONS, begun, by_sqlite, each_written_once, fill, floats, fresh, ingest, log_writes,  # noqa: E402
                  model_of_384, narrow, quoted, start)
from servers import Server  # noqa: E402

# --- what works ---


def test_corpus(vecmill, folder):
    """The tables as they are, found by detection; the lines as that script's users know them; a second run finds nothing."""
    model = model_of_384(vecmill.folder)
    with fresh() as server:
        corpus.create(server)
        for table, key, text, vector in (("sentences", "sentenceid", "hawaiiantext", "embedding"), ("documents", "doc_id", "text", "text_vector"),
                                         ("contents", "sourceid", "text", "embedding")):
            rows = corpus.fill(server, table, 250)
            n = sum(not row.blank for row in rows)
            done = ingest(vecmill, server.uri, 100, "--workers", 2, table=table, model=model)
            lines = done.stdout.splitlines()
            expect(lines[:5] == [f"Configuration: workers=2, batch_size=100, table={table}", f"Loading model '{model}' on device 'cpu'...",
                                 f"Using table={table}, id_col={key}, text_col={text}, batch_size=100", f"Remaining to embed in {table}: {n}",
                                 "Using parallel processing with 2 workers"], done.stdout)
            progress = [line for line in lines if line.startswith("Processed batch: ")]
            expect(len(progress) == 3 and f" Progress: {n} / {n} | avg_ratio=n/a avg_wc=" in progress[-1] and done.stderr == "", done.stdout + done.stderr)
            got = server.psql(f"SELECT count(*), count({vector}) FROM {table}")
            expect(got == [("250", str(n))], str(got))
            expect("Nothing to embed" in ingest(vecmill, server.uri, table=table, model=model).stdout, "a second run embeds again")


def test_same_numbers(vecmill, folder):
    """As SQLite gets them, to the last bit, at any number of workers, batches and processes."""
    texts = [f"{a} {b} star" for a in ("planet", "disk", "the engine", "na\u00efve \u6771\u4eac", "'quoted' \\ \"double\"") for b in range(30)]
    expected = by_sqlite(vecmill, folder, texts)
    for workers, batch in ((1, 7), (4, 1000)):
        with fresh() as server:
            server.psql("CREATE TABLE t(id bigint PRIMARY KEY, text text)")
            with server.session() as session:
                for i, text in enumerate(texts):
                    session.sql(f"INSERT INTO t VALUES({i}, {quoted(text)})")
            ingest(vecmill, server.uri, batch, "--workers", workers)
            got = server.psql("SELECT embedding FROM t ORDER BY id")
            for (vector,), wanted in zip(got, expected):
                expect([struct.pack("<f", x) for x in floats(vector)] == [struct.pack("<f", x) for x in wanted], "other numbers")


def test_keys(vecmill, folder):
    """Any primary key, in its own order, pages of one row included; names of all sorts."""
    kinds = {"bigint": "i::bigint * -1000000007", "uuid": "md5(i::text)::uuid", "text": "'k\u00e4\"' || i || E'\\\\ ''q'", "date": "'2020-01-01'::date + i",
             "numeric": "i + 0.5", "bytea": "int4send(i)"}
    with fresh() as server:
        for number, (kind, value) in enumerate(kinds.items()):
            table = f'Ta"ble {number}'
            name = '"' + table.replace('"', '""') + '"'
            server.psql(f'CREATE TABLE {name}("the Key" {kind} PRIMARY KEY, "Some text" text); INSERT INTO {name} SELECT {value}, '
                        f"'star ' || i FROM generate_series(1, 25) AS i")
            for batch in (1, 10):
                ingest(vecmill, server.uri, batch, table=table)
                got = server.psql(f"SELECT count(embedding), count(DISTINCT embedding) FROM {name}")
                expect(got == [("25", "25")], f"{kind}: {got}")
                server.psql(f"UPDATE {name} SET embedding = NULL")
        server.psql("CREATE TABLE c(a integer, b text, text text, PRIMARY KEY(b, a)); INSERT INTO c SELECT i % 3, i::text, 'star ' || i FROM "
                    "generate_series(1, 40) AS i")
        ingest(vecmill, server.uri, 3, table="C")
        done = vecmill.run("search", "c", "star 12", "--db", server.uri_of(), "--json", "-k", 1)
        expect(json.loads(done.stdout)["id"] == ["12", 0], done.stdout)
        server.psql("CREATE TABLE u(id bigint, text text); INSERT INTO u SELECT nullif(i, 3), 'star ' || i FROM generate_series(1, 9) AS i")
        done = ingest(vecmill, server.uri, "--id-column", "id", table="u", status=2)
        expect(done.stderr == "vecmill: table u: nothing keeps id unique (CREATE UNIQUE INDEX on it)\n", done.stderr)
        server.psql("CREATE UNIQUE INDEX ON u(id)")
        done = ingest(vecmill, server.uri, 2, "--id-column", "id", table="u")
        expect("1 with a NULL in the key, passed over" in done.stdout, done.stdout)


def test_partitions(vecmill, folder):
    """Rows of several partitions lie at the same places: each gets its own vector, whether found by place or by key."""
    with fresh() as server:
        for name, check in (("a", ""), ("b", ", CHECK (id % 10 <> 7 OR embedding IS NULL)")):
            server.psql(f"""CREATE TABLE {name}(part integer, id integer, text text, embedding vector({N_DIMENSIONS}), PRIMARY KEY(id, part){check})
                  PARTITION BY LIST(part);
                CREATE TABLE {name}1 PARTITION OF {name} FOR VALUES IN (1); CREATE TABLE {name}2 PARTITION OF {name} FOR VALUES IN (2);
                INSERT INTO {name} SELECT part, id, 'star ' || id || ' of ' || part FROM generate_series(1, 40) AS id, generate_series(1, 2) AS part""")
            ingest(vecmill, server.uri, 16, table=name, status=3 if check else 0)
            rows = server.psql(f"SELECT text, embedding FROM {name} WHERE embedding IS NOT NULL")
            expect(len(rows) == (72 if check else 80), f"{len(rows)} vectors")
            wanted = by_sqlite(vecmill, folder, [text for text, _ in rows])
            wrong = [text for (text, vector), right in zip(rows, wanted) if struct.pack("<32f", *floats(vector)) != struct.pack("<32f", *right)]
            expect(not wrong, f"{name}: {len(wrong)} rows with another's vector: {wrong[:3]}")


def test_table_names(vecmill, folder):
    """No name of a table meets one that vecmill's statements use: by place, by key (two rows are refused) and with metrics."""
    for name in ("d", "r", "u", "n", "w", "h", "g", "f", "l", "c", "m", "p", "t", "s", "lease", "unnest"):
        with fresh() as server:
            server.psql(f"""CREATE TABLE {name}(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}), CHECK (id <> 4 OR embedding IS NULL));
                INSERT INTO {name} SELECT i, 'star ' || i FROM generate_series(1, 6) AS i""")
            ingest(vecmill, server.uri, 3, "--create-metrics", table=name, status=3)
            server.psql(f"UPDATE {name} SET text = text || ' again'; DELETE FROM {name}_metrics WHERE id = 1")
            ingest(vecmill, server.uri, "--metrics-only", table=name)
            ingest(vecmill, server.uri, 3, "--changed", table=name, status=3)
            expect(server.psql(f"SELECT count(embedding), (SELECT count(word_count) FROM {name}_metrics) FROM {name}") == [("5", "5")], name)


def test_halfvec(vecmill, folder):
    """To the nearest half, ties to even: of so many numbers some lie just between two."""
    n_rows, n_ties = 3000, 0
    with fresh() as server:
        server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, text text, embedding halfvec({N_DIMENSIONS}));"
                    f"INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, {n_rows}) AS i")
        ingest(vecmill, server.uri, 500)
        expected = by_sqlite(vecmill, folder, [f"star {i}" for i in range(1, n_rows + 1)])
        for (text,), wanted in zip(server.psql("SELECT embedding FROM t ORDER BY id"), expected):
            halves = [struct.unpack("<e", struct.pack("<e", x))[0] for x in wanted]
            got = [struct.unpack("<e", struct.pack("<e", x))[0] for x in floats(text)]
            expect(got == halves, f"{got} {halves}")
            n_ties += sum(struct.unpack("<I", struct.pack("<f", x))[0] & 0x3FFF == 0x1000 for x in wanted if abs(x) > 2**-14)
        expect(n_ties > 0, "no tie that is to go down")
        done = vecmill.run("search", "t", "star 7", "--db", server.uri_of(), "-k", 2)
        expect(done.stdout.splitlines()[0].startswith("  1  1.0000  7  star 7"), done.stdout)


def test_where_and_limit(vecmill, folder):
    with fresh() as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 60) AS i")
        for where, problem in (
                ("id =", "syntax error at end of input"), ("id IN (1, 2", "syntax error at end of input"), ("-- id = 3", "syntax error at end of input"),
                ("id < 5; DROP TABLE t", "cannot insert multiple commands into a prepared statement"), ("id < 5) OR (id > 40", 'syntax error at or near ")"'),
                ("id < 5 LIMIT 3", 'syntax error at or near "LIMIT"'), ("id < 5;", 'syntax error at or near ";"'), ("nope = 1", 'column "nope" does not exist'),
                ("id = (SELECT 1 FROM nope)", 'relation "nope" does not exist'), ("id < 'x'", 'invalid input syntax for type integer: "x"')):
            done = ingest(vecmill, server.uri, "--where", where, status=2)
            expect(done.stderr == f"vecmill: --where {where}: {problem} (give what would follow WHERE)\n", done.stderr)
        done = ingest(vecmill, server.uri, "--where", "id = $1", status=2)
        expect(done.stderr == "vecmill: --where id = $1: no parameters here (give values)\n", done.stderr)
        done = ingest(vecmill, server.uri, "--where", "", status=2)
        expect(done.stderr == "vecmill: --where is empty (give a condition, or leave it out)\n", done.stderr)
        ingest(vecmill, server.uri, 4, "--where", "id % 2 = 0 OR t.text = 'star 7' -- no more", "--limit", 11)
        got = server.psql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE embedding IS NOT NULL")
        expect(got == [("2 4 6 7 8 10 12 14 16 18 20",)], str(got))


def test_blanks(vecmill, folder):
    """As SQLite passes them over: Unicode's white space, whatever the database's locale."""
    spaces = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
    with fresh() as server:
        server.psql("CREATE TABLE t(id serial PRIMARY KEY, text text)")
        for text in ("", spaces, *spaces):
            server.psql(f"INSERT INTO t(text) VALUES({quoted(text)})")
        server.psql("INSERT INTO t(text) VALUES(NULL), (U&'\\200B'), ('.')")
        done = ingest(vecmill, server.uri)
        expect("Embedded 2 rows" in done.stdout and f"{len(spaces) + 3} blank" in done.stdout, done.stdout)


def test_record(vecmill, folder):
    """Another model, prefix or text column is refused; a record without vectors gives way."""
    other = vecmill.folder / "other"
    subprocess.run([sys.executable, MAKE_TINY_MODEL, other, "--seed", "7"], check=True)
    with fresh() as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, body text, note text); INSERT INTO t SELECT i, 'b' || i, 'n' || i FROM generate_series(1, 5) AS i")
        ingest(vecmill, server.uri, "--text-column", "note")
        for words, what in ((["--prefix", "p: "], 'prefix ""'), (["--text-column", "body"], 'text column "note"')):
            done = ingest(vecmill, server.uri, *words, status=1)
            expect(f"column embedding was made with {what}" in done.stderr, done.stderr)
        done = ingest(vecmill, server.uri, model=other, status=1)
        expect("was made with model" in done.stderr, done.stderr)
        server.psql("UPDATE t SET embedding = NULL")
        ingest(vecmill, server.uri, model=other)
        expect(server.psql("SELECT model, text_column FROM vecmill.columns") == [(str(other), "note")], "not the new record")
        # no record: proved by embedding again
        server.psql("DROP SCHEMA vecmill CASCADE; UPDATE t SET embedding = NULL WHERE id > 3")
        done = ingest(vecmill, server.uri, "--text-column", "note", status=1)
        expect("was not made by" in done.stderr, done.stderr)
        ingest(vecmill, server.uri, "--text-column", "note", model=other)
        expect(server.psql("SELECT count(embedding) FROM t") == [("5",)], "not continued")
        # though some of its texts were edited since; but not if most were
        for n_edited in 6, 12:
            server.psql("DROP SCHEMA vecmill CASCADE; DROP TABLE t; CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 20) AS i")
            ingest(vecmill, server.uri)
            server.psql(f"DROP SCHEMA vecmill CASCADE; UPDATE t SET text = repeat('another text altogether ', id) WHERE id <= {n_edited}")
            done = ingest(vecmill, server.uri, status=None)
            told = f"table t: column embedding: {n_edited} of 20 vectors that were looked at are not what this model makes of their texts (edited since, or made otherwise; "
            expect((done.returncode, told in done.stderr, "was not made by" in done.stderr) == ((0, True, False) if n_edited == 6 else (1, False, True)), done.stderr)


# --- sharing, interruptions ---


def test_processes_share(vecmill, folder):
    """Every row embedded by one of them, written once; each process ends at the table's total."""
    with fresh() as server:
        corpus.create(server, ["contents"])
        n = sum(not row.blank for row in corpus.fill(server, "contents", 6000))
        narrow(server)
        log_writes(server, "contents", "sourceid")
        runs = [start(vecmill, server.uri, 50, "--workers", 1, table="contents") for _ in range(4)]
        told = [run.communicate(timeout=120) for run in runs]
        expect([run.returncode for run in runs] == [0] * 4 and not any(errors for _, errors in told), str(told)[-1500:])
        n_embedded = 0
        for output, _ in told:
            lines = output.splitlines()
            progress = [tuple(map(int, line.split("Progress: ")[1].split(" / "))) for line in lines if "Progress: " in line]
            expect(all(a < b for (a, _), (b, _) in zip(progress, progress[1:])), "progress does not rise")
            expect(not progress or progress[-1] == (n, n), f"{progress[-3:]} of {n}")
            n_mine = sum(int(line.split()[1]) for line in lines if line.startswith("Embedded "))
            n_told = sum(int(line.split()[2]) for line in lines if line.startswith("Processed batch: "))
            expect(n_told == n_mine, f"{n_told} rows in the lines of one that embedded {n_mine}")
            n_embedded += n_mine
        expect(n_embedded == n, f"{n_embedded} rows embedded, {n} there")
        each_written_once(server, n)


def test_closed_streams(vecmill, folder):
    """Standard streams that are closed: a connection that took the number of one would be sent what is printed."""
    with fresh() as server:
        fill(server, 100)
        for closed, status in ((">&-", 1), ("2>&-", 0), ("<&-", 0), ("<&- >&- 2>&-", 1)):
            server.psql("UPDATE t SET embedding = NULL")
            words = [vecmill.command, "ingest", "t", "50", "--db", server.uri, "--model", str(vecmill.model)]
            done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *words], env=vecmill.environment, capture_output=True, text=True, timeout=60, check=False)
            expect(done.returncode == status and ("vecmill: cannot write standard output" in done.stderr) == (closed == ">&-"), f"{closed}: {done}")
            expect(server.psql("SELECT count(embedding) FROM t") == [("100",)], f"{closed}: {done}")


def test_kills(vecmill, folder):
    """Of two processes, one is killed, then the other: nothing is lost, nothing done twice."""
    rng = random.Random(20261121)
    with fresh() as server:
        corpus.create(server, ["contents"])
        n = sum(not row.blank for row in corpus.fill(server, "contents", 6000))
        narrow(server)
        log_writes(server, "contents", "sourceid")
        n_in_flight = 0
        for _ in range(4):
            runs = [start(vecmill, server.uri, 25, "--workers", 1, table="contents") for _ in range(2)]
            begun(runs[0], 1)
            time.sleep(rng.uniform(0, 0.1))
            for run in rng.sample(runs, 2):
                run.kill()
                n_in_flight += int(server.psql("SELECT count(*) FROM vecmill.leases WHERE NOT done")[0][0]) > 0
                run.communicate()
        expect(n_in_flight >= 6, f"batches in flight at only {n_in_flight} of 8 kills")
        ingest(vecmill, server.uri, 100, table="contents")
        got = server.psql("SELECT count(embedding) FROM contents")
        expect(got == [(str(n),)], f"{got} of {n}")
        each_written_once(server, n)


def test_server_comes_and_goes(vecmill, folder):
    """A run outlives its server, and takes up where it was."""
    with Server() as server:
        corpus.create(server, ["contents"])
        n = sum(not row.blank for row in corpus.fill(server, "contents", 20000))
        narrow(server)
        log_writes(server, "contents", "sourceid")
        run = start(vecmill, server.uri, 50, "--workers", 2, table="contents")
        for mode in ("fast", "immediate"):
            for _ in range(40):
                run.stdout.readline()
            server.restart(mode)
        output, errors = run.communicate(timeout=120)
        expect(run.returncode == 0, f"{output[-800:]} {errors}")
        each_written_once(server, n)


def test_signals(vecmill, folder):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with fresh() as server:
            corpus.create(server, ["contents"])
            corpus.fill(server, "contents", 20000)
            narrow(server)
            run = start(vecmill, server.uri, 50, table="contents")
            for _ in range(20):
                run.stdout.readline()
            run.send_signal(number)
            output, errors = run.communicate(timeout=30)
            expect(run.returncode == status and "stopped: what was done is kept" in errors, f"{run.returncode} {errors}")
            n = int(output.partition("Embedded ")[2].split()[0])
            expect(server.psql("SELECT count(embedding) FROM contents") == [(str(n),)], "the summary's count is not what was committed")
            expect(server.psql("SELECT count(*) FROM vecmill.workers") == [("0",)], "did not leave")


def test_edits(vecmill, folder):
    """Rows edited, deleted and inserted throughout: in the end each text has its own vector."""
    rng = random.Random(5)
    with fresh() as server:
        server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}));"
                    "INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 4000) AS i")
        run = start(vecmill, server.uri, 20, "--workers", 1)
        with server.session() as session:
            for i in range(60):
                at = rng.randrange(1, 4000)
                session.sql(f"UPDATE t SET text = 'edit {i} ' || id, embedding = NULL WHERE id BETWEEN {at} AND {at + 30};"
                            f"DELETE FROM t WHERE id = {at + 31}; INSERT INTO t VALUES({10000 + i}, 'new {i}'), ({-i}, 'before {i}')")
                if run.poll() is not None:
                    break
        output, errors = run.communicate(timeout=60)
        expect(run.returncode in (0, 3), f"{run.returncode} {output[-500:]} {errors}")
        ingest(vecmill, server.uri)
        rows = server.psql("SELECT text, embedding FROM t ORDER BY id")
        expect(all(vector for _, vector in rows), "rows without a vector")
        expected = by_sqlite(vecmill, folder, [text for text, _ in rows])
        wrong = [text for (text, vector), wanted in zip(rows, expected) if [struct.pack("<f", x) for x in floats(vector)] != [struct.pack("<f", x) for x in wanted]]
        expect(not wrong, f"{len(wrong)} vectors of another text: {wrong[:5]}")


def test_triggers(vecmill, folder):
    """A row that the database refuses has failed; the others have not."""
    with fresh() as server:
        server.psql(f"""CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}), CHECK (embedding IS NULL OR id <> 17));
            INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 30) AS i;
            CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF new.id IN (3, 4) THEN RAISE EXCEPTION 'not this one'; END IF; RETURN new; END$$;
            CREATE TRIGGER no BEFORE UPDATE OF embedding ON t FOR EACH ROW EXECUTE FUNCTION no()""")
        done = ingest(vecmill, server.uri, 10, "--connections", 3, status=3)  # one commits: the first is the first
        expect("vecmill: table t: 3 rows could not be embedded, the first because: the database refused the vector: not this one (see vecmill.failures; --retry-failed tries them again)" in done.stderr, done.stderr)
        expect("Embedded 27 rows" in done.stdout and "Progress: 30 / 30" in done.stdout, done.stdout)
        got = server.psql("SELECT string_agg(key[1], ' ' ORDER BY key[1]::int) FROM vecmill.failures")
        expect(got == [("3 4 17",)], str(got))
        done = ingest(vecmill, server.uri, status=3)
        expect("earlier run" in done.stderr and "Processed" not in done.stdout, done.stderr + done.stdout)
        server.psql("DROP TRIGGER no ON t")
        ingest(vecmill, server.uri, "--retry-failed", status=3)
        expect(server.psql("SELECT key FROM vecmill.failures") == [("{17}",)], "records of what has succeeded")
        # one that speaks only as the transaction ends
        server.psql("""UPDATE t SET embedding = NULL WHERE id > 17; CREATE CONSTRAINT TRIGGER no AFTER UPDATE OF embedding ON t DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (new.id = 23) EXECUTE FUNCTION no(); CREATE OR REPLACE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'not %', new.id USING ERRCODE = 'insufficient_privilege'; END$$""")
        ingest(vecmill, server.uri, status=3)
        got = server.psql("SELECT reason, key, (SELECT count(embedding) FROM t) FROM vecmill.failures ORDER BY key")
        expect(got[1:] == [("the database refused the vector: not 23", "{23}", "28")], str(got))


# --- errors ---


def test_errors(vecmill, folder):
    def told(message: str, *words, status: int = 1, db=None, table: str = "t") -> None:
        done = vecmill.run("ingest", table, "--db", db or server.uri_of(), "--model", vecmill.model, *words, status=status)
        expect(message in done.stderr and done.stderr.startswith("vecmill: ") and done.stderr.count("\n") == 1, done.stderr)
    with fresh() as server:
        server.psql(f"""CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS + 1}), n integer);
            CREATE VIEW v AS SELECT * FROM t; CREATE TABLE nokey(text text); INSERT INTO t VALUES(1, 'a')""")
        told(f"column embedding holds vectors of {N_DIMENSIONS + 1} numbers, the model makes {N_DIMENSIONS} (use the model that made it, or "
             "another --vector-column)")
        told("no table nope (tables: nokey, t)", table="nope")
        told("v: a view; vectors are written into a table, and searched there by its key and the record of what made them (name the table behind it, with "
             "--where if need be)", table="v")
        told("table nokey: no primary key", table="nokey", status=2)
        told("table t: no column nope for --text-column (columns: id, text, embedding, n)", "--text-column", "nope")
        told("n is of type integer, not of pgvector's vector or halfvec", "--vector-column", "n", status=2)
        told("database \"nowhere\" does not exist", db=server.uri_of(dbname="nowhere"))
        told("is the server running there", db="postgresql://postgres@127.0.0.1:1/x")
        expect(server.psql("SELECT count(embedding) FROM t") == [("0",)] and server.psql("SELECT to_regnamespace('vecmill')") == [(None,)],
               "something was begun")


# --- dry runs ---


def peak_mb(vecmill, *words) -> tuple:
    """The peak of a run that ends well, and what it said."""
    run = vecmill.start("ingest", "t", *words, "--model", vecmill.model)
    output = run.stdout.read()
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    expect(run.returncode == 0, output + run.stderr.read())
    return usage.ru_maxrss / 1024, output


def test_dry_run_of_large_texts(vecmill, folder):
    """A look holds no more of them at once than a run does; it finds them by whatever key they have."""
    n = 300
    with fresh() as server:
        server.psql(f"""CREATE TABLE t(a timestamptz, b text COLLATE "C", text text, embedding vector({N_DIMENSIONS}), PRIMARY KEY(a, b));
            INSERT INTO t SELECT timestamptz '2024-10-26 22:00+00' + i * interval '13.000001 s', 'it''s ' || i, repeat('star ' || i || ' ', 110000) FROM generate_series(1, {n}) AS i""")
        dry, told = peak_mb(vecmill, 20, "--db", server.uri, "--dry-run")
        real, output = peak_mb(vecmill, 20, "--db", server.uri)
        n_tokens = output.rpartition(" tokens in ")[0].rpartition(" ")[2]
        expect(f"{n} rows to embed, " in told and f" {n_tokens} tokens, about " in told and " rows embedded on trial" in told, f"{told}, not {n_tokens}")
        print(f"  peak resident size: {dry:.0f} MB of a dry run, {real:.0f} MB of the run")
        expect(dry < real + 200, f"{dry:.0f} MB, and {real:.0f} MB of the run itself")  # where all texts were held, 470 more


def test_dry_run_of_rows_that_go(vecmill, folder):
    """Of the rows that were picked, those that are deleted before they are read count for nothing."""
    for gone, n_left in (("id <= 60", 40), ("true", 0)):
        with fresh() as server, Gate(server, b"vecmill_r.*", Fate.PASS) as gate:
            fill(server, 100)
            look = start(vecmill, gate.uri, "--dry-run")
            gate.wait()
            server.psql(f"DELETE FROM t WHERE {gone}")
            gate.open()
            output, errors = look.communicate(timeout=60)
            told = f", by {n_left} rows embedded on trial\n" if n_left else "written. 100 rows to embed\n"
            expect(look.returncode == 0 and not errors and output.endswith(told), f"{output} {errors}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
