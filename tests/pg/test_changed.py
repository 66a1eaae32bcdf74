#!/usr/bin/python3
"""vecmill ingest --changed on PostgreSQL: texts that were edited after their vector was made.

  test_changed.py --vecmill PATH [NAME..]
"""
import json
import random
import re
import signal
import struct
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import N_DIMENSIONS, begun, by_sqlite, each_written_once, floats, fresh, ingest, locked, log_writes, start, state_grants, waiting  # noqa: E402

TABLE = f"CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}));"


def filled(server, n: int) -> None:
    server.psql(f"{TABLE} INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, {n}) AS i")


def summary(vecmill, server, table: str, *words, **options) -> dict:
    return json.loads(ingest(vecmill, server.uri, "--changed", "--progress", "json", *words, table=table, **options).stdout.splitlines()[-1])


def counted(told: dict, **expected) -> None:
    got = {name: told[name] for name in expected}
    expect(got == expected, f"{got}, not {expected}")


def own_vectors(vecmill, folder, server, table: str = "t") -> None:
    """Every row that has a text has the vector of just that text; no other row has any."""
    rows = server.psql(f"SELECT text, embedding FROM {table}")
    expected = by_sqlite(vecmill, folder, [text for text, _ in rows])
    bits = [[struct.pack("<f", x) for x in floats(vector)] if vector else None for _, vector in rows]
    wrong = [text for (text, _), got, wanted in zip(rows, bits, expected) if got != ([struct.pack("<f", x) for x in wanted] if wanted else None)]
    expect(not wrong, f"{len(wrong)} of {len(rows)} rows without their text's vector: {wrong[:3]}")


def test_forgotten(vecmill, folder):
    """Hashes of rows that are gone go in small portions, beside which others may work; a key that comes back just then keeps its own."""
    with fresh() as server:
        filled(server, 25000)
        ingest(vecmill, server.uri, 1000)
        ingest(vecmill, server.uri, "--changed")
        expect(server.psql("SELECT count(*) FROM vecmill.hashes") == [("25000",)], "not all kept by key")
        server.psql("CREATE TABLE back AS SELECT * FROM t WHERE id = 20000; DELETE FROM t WHERE id % 10000 = 0 OR id IN (7, 24999)")
        with server.session() as other:
            other.sql("BEGIN; INSERT INTO t TABLE back; UPDATE vecmill.hashes SET hash = hash WHERE key = '{20000}'")
            run = start(vecmill, server.uri, "--changed")
            waiting(server)
            server.psql("SELECT 1 FROM vecmill.columns FOR UPDATE", options="-c lock_timeout=2000")
            other.sql("COMMIT")
            output, errors = run.communicate(timeout=60)
        expect(run.returncode == 0, f"{run.returncode} {output} {errors}")
        got = server.psql("SELECT key FROM vecmill.hashes WHERE NOT EXISTS (SELECT 1 FROM t WHERE id::text = key[1])")
        expect(got == [], f"kept of rows that are gone: {got}")
        expect(server.psql("SELECT count(*) FROM vecmill.hashes") == [("24997",)], "not one for each row")
        server.psql("UPDATE vecmill.hashes SET key = ARRAY['of old'] WHERE key = '{3}'; DELETE FROM t WHERE id = 4")  # a key of another type is left alone
        ingest(vecmill, server.uri, "--changed")


def test_edited(vecmill, folder):
    """Just the rows that were edited are written, once each, never NULL in between; blank ones lose their vector, hashes of rows that are gone go."""
    with fresh() as server:
        filled(server, 300)
        ingest(vecmill, server.uri)
        server.psql("""CREATE TABLE log(key text, has boolean);
            CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES(new.id, new.embedding IS NOT NULL); RETURN new; END$$;
            CREATE TRIGGER log_write AFTER UPDATE OF embedding ON t FOR EACH ROW EXECUTE FUNCTION log_write();
            UPDATE t SET text = 'new ' || id WHERE id IN (3, 17, 299); UPDATE t SET text = U&'\\3000 ' WHERE id = 5; UPDATE t SET text = NULL WHERE id = 6;
            DELETE FROM t WHERE id BETWEEN 21 AND 30""")
        expect("Nothing to embed" in ingest(vecmill, server.uri).stdout, "a plain run looked at edited rows")
        counted(summary(vecmill, server, "t", 2, "--where", "id > 5"), outdated=2, written=2, removed=1, unknown=0, left=0)
        counted(summary(vecmill, server, "t", 2), outdated=1, written=1, removed=1, unknown=0, blank=2)
        expect(server.psql("SELECT string_agg(key || has::text, ' ' ORDER BY key::int) FROM log") == [("3true 5false 6false 17true 299true",)], "not just what was edited")
        expect(server.psql("SELECT count(*), count(*) FILTER (WHERE key[1]::int IN (5, 6, 25)) FROM vecmill.hashes") == [("288", "0")], "hashes")
        own_vectors(vecmill, folder, server)
        counted(summary(vecmill, server, "t"), outdated=0, written=0, removed=0, had_vector=288)
        server.psql("UPDATE t SET text = 'back' WHERE id = 5; INSERT INTO t VALUES(22, 'again'); UPDATE t SET text = text")
        counted(summary(vecmill, server, "t"), outdated=0, written=2)
        own_vectors(vecmill, folder, server)


def test_of_another_maker(vecmill, folder):
    """A column that is made anew keeps no hash of what was there before."""
    n_hashes = "SELECT (SELECT count(*) FROM vecmill.hashes) + (SELECT coalesce(sum(cardinality(hashes)), 0) FROM vecmill.hash_pages)"
    for words in (), ("--changed",):
        with fresh() as server:
            filled(server, 20)
            ingest(vecmill, server.uri, *words)
            expect(server.psql(n_hashes) == [("20",)], "not one for each row")
            server.psql("UPDATE t SET embedding = NULL")
            ingest(vecmill, server.uri, "--prefix", "other: ", "--limit", 5)
            expect(server.psql(n_hashes) == [("5",)], "of the vectors that are gone")


def test_embedded_twice(vecmill, folder):
    """Of a row that plain runs have embedded more than once, the newest text counts; a run of --changed that was stopped at its beginning is gone on with."""
    with fresh() as server:
        filled(server, 400)
        ingest(vecmill, server.uri, 2)
        server.psql("UPDATE t SET text = 'second ' || id, embedding = NULL WHERE id % 2 = 0")
        ingest(vecmill, server.uri, 10)
        server.psql("UPDATE t SET text = 'third ' || id, embedding = NULL WHERE id % 4 = 0")
        ingest(vecmill, server.uri, 7)
        n_pages = int(server.psql("SELECT count(*) FROM vecmill.hash_pages")[0][0])
        expect(n_pages == 200 + 20 + 15, f"{n_pages} pages of hashes")
        server.psql("UPDATE t SET text = 'star ' || id WHERE id IN (8, 9, 10)")
        def state():
            return [server.psql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("t", "vecmill.hashes", "vecmill.hash_pages", "vecmill.columns")]
        before = state()
        told = json.loads(ingest(vecmill, server.uri, "--changed", "--dry-run", "--progress", "json").stdout.splitlines()[-1])
        expect(state() == before, "a dry run wrote")
        expect(told["outdated"] == 2, str(told))
        counted(summary(vecmill, server, "t"), outdated=2, written=2, unknown=0)
        own_vectors(vecmill, folder, server)
        server.psql("ALTER TABLE t DROP COLUMN embedding")
        told = json.loads(ingest(vecmill, server.uri, "--changed", "--dry-run", "--progress", "json").stdout.splitlines()[-1])
        n_rows = int(server.psql("SELECT count(*) FROM t")[0][0])
        expect((told["outdated"], told["left"]) == (0, n_rows), str(told))
        counted(summary(vecmill, server, "t"), outdated=0, written=n_rows)
        own_vectors(vecmill, folder, server)


def test_unknown_and_failed(vecmill, folder):
    """Vectors of which no text is known count as unchanged; a row that the database refuses keeps its vector and is found again when asked or edited."""
    with fresh() as server:
        filled(server, 30)
        ingest(vecmill, server.uri)
        counted(summary(vecmill, server, "t"), unknown=0, outdated=0, written=0)
        expect(server.psql("SELECT (SELECT count(*) FROM vecmill.hashes), (SELECT count(*) FROM vecmill.hash_pages)") == [("30", "0")], "hashes by key")
        server.psql("DELETE FROM vecmill.hashes WHERE key = '{9}'; UPDATE t SET text = 'new ' || id WHERE id IN (7, 8, 9)")
        server.psql("""CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF new.id = 7 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN new; END$$;
            CREATE TRIGGER no BEFORE UPDATE OF embedding ON t FOR EACH ROW EXECUTE FUNCTION no()""")
        before = server.psql("SELECT embedding FROM t WHERE id = 7")
        counted(summary(vecmill, server, "t", status=3), unknown=1, outdated=2, written=1, failed=1)
        counted(summary(vecmill, server, "t", status=3), unknown=1, outdated=0, written=0, failed_before=1)
        expect(server.psql("SELECT embedding FROM t WHERE id = 7") == before, "the vector of a row that failed")
        counted(summary(vecmill, server, "t", "--retry-failed", status=3), outdated=1, failed=1)
        server.psql("DROP TRIGGER no ON t; UPDATE t SET text = 'newer' WHERE id = 7; UPDATE t SET embedding = NULL WHERE id = 9")
        counted(summary(vecmill, server, "t"), unknown=0, outdated=1, written=2, failed=0, failed_before=0)
        own_vectors(vecmill, folder, server)
        ingest(vecmill, server.uri, "--create-metrics")
        ingest(vecmill, server.uri, "--metrics-only")
        server.psql("DELETE FROM vecmill.hashes WHERE key IN ('{3}', '{4}'); UPDATE t SET text = NULL WHERE id = 3; UPDATE t SET text = ' ' WHERE id = 4; DELETE FROM vecmill.hashes WHERE key = '{5}'")
        counted(summary(vecmill, server, "t"), unknown=1, outdated=0, written=0, removed=2)
        expect(server.psql("SELECT count(embedding), (SELECT count(*) FROM t_metrics WHERE id IN (3, 4)) FROM t WHERE id IN (3, 4)") == [("0", "0")], "of blank texts without a hash")
        server.psql("ALTER TABLE vecmill.hashes DROP CONSTRAINT hashes_pkey; UPDATE t SET text = 'x' WHERE id = 1")
        done = ingest(vecmill, server.uri, "--changed", status=1)
        expect('matching the ON CONFLICT specification' in done.stderr and done.stderr.count("\n") == 1, done.stderr)


def test_keys(vecmill, folder):
    kinds = {"bigint": "i::bigint * -1000000007", "uuid": "md5(i::text)::uuid", "text": "'k\u00e4\"' || i || E'\\\\ ''q,{}'", "date": "'2020-01-01'::date + i",
             "numeric": "i + 0.5", "bytea": "int4send(i)", "timestamptz": "'2020-01-01 12:00+3'::timestamptz + i * interval '1 s'", "float8": "1e-7::float8 / i",
             "char(5)": "i::text"}
    with fresh() as server:
        for number, (kind, value) in enumerate(kinds.items()):
            table = f'Ta"ble {number}'
            name = '"' + table.replace('"', '""') + '"'
            server.psql(f'CREATE TABLE {name}("the Key" {kind} PRIMARY KEY, "Some text" varchar); INSERT INTO {name} SELECT {value}, '
                        f"'star ' || i FROM generate_series(1, 25) AS i")
            ingest(vecmill, server.uri, table=table)
            for batch in (1, 10):
                server.psql(f"""UPDATE {name} SET "Some text" = "Some text" || ' {batch}'""")
                counted(summary(vecmill, server, table, batch), outdated=25, written=25, unknown=0)
        server.psql("CREATE TABLE c(a integer, b text, text text, PRIMARY KEY(b, a)); INSERT INTO c SELECT i % 3, i::text, 'star ' || i FROM "
                    "generate_series(1, 40) AS i")
        ingest(vecmill, server.uri, 3, table="c")
        server.psql("UPDATE c SET text = text || 'x' WHERE a = 1")
        counted(summary(vecmill, server, "c", 3), outdated=14, written=14)


def test_processes_share(vecmill, folder):
    """Edited rows are embedded by one of four processes each; a plain run does not join them."""
    with fresh() as server:
        filled(server, 6000)
        ingest(vecmill, server.uri, 1000)
        server.psql("UPDATE t SET text = 'new ' || id WHERE id % 2 = 0")
        log_writes(server, "t", "id")
        words = 25, "--workers", 1, "--sleep", 0.02, "--changed"
        with locked(server, "id = 6000"):  # nobody is at the end before the plain run has asked
            runs = [start(vecmill, server.uri, *words)]
            begun(runs[0], 1)
            runs += [start(vecmill, server.uri, *words) for _ in range(3)]
            done = ingest(vecmill, server.uri, status=None)
        told = [run.communicate(timeout=120) for run in runs]
        expect(done.returncode == 1 and "with other rows in view, or other metrics: id id (integer); text text; --changed" in done.stderr, done.stderr)
        expect([run.returncode for run in runs] == [0] * 4 and not any(errors for _, errors in told), str(told)[-1500:])
        each_written_once(server, 3000)
        own_vectors(vecmill, folder, server)


def test_kills(vecmill, folder):
    """Of two processes both are killed, again and again: nothing is lost, nothing done twice."""
    rng = random.Random(8)
    with fresh() as server:
        filled(server, 4000)
        ingest(vecmill, server.uri, 1000)
        server.psql("UPDATE t SET text = 'new ' || id")
        log_writes(server, "t", "id")
        for _ in range(4):
            runs = [start(vecmill, server.uri, 25, "--workers", 1, "--sleep", 0.02, "--changed") for _ in range(2)]
            begun(runs[0], 1)
            time.sleep(rng.uniform(0, 0.1))
            for run in runs:
                run.kill()
                run.communicate()
        expect(0 < int(server.psql("SELECT count(*) FROM log")[0][0]) < 4000, "killed too late")
        ingest(vecmill, server.uri, "--changed")
        each_written_once(server, 4000)
        own_vectors(vecmill, folder, server)


def test_jobs(vecmill, folder):
    """Who works on what: two processes, one of which stops and is lost; then nobody."""
    def jobs(*words) -> list:
        return [json.loads(line) for line in vecmill.run("jobs", "--db", server.uri_of(), "--json", *words).stdout.splitlines()]

    with fresh() as server:
        expect(vecmill.run("jobs", "--db", server.uri_of()).stdout == "No vector column of vecmill's in this database\n" and jobs() == [], "jobs of a new database")
        server.psql("CREATE TABLE new(id integer PRIMARY KEY, text text); INSERT INTO new VALUES(1, 'aloha')")
        with server.session() as reader:
            reader.sql("BEGIN; SELECT * FROM new")
            run = start(vecmill, server.uri, table="new")  # it waits to add its column
            waiting(server)
            expect(jobs() == [], f"of a run that has not begun: {jobs()}")
            reader.sql("ROLLBACK")
        run.communicate(timeout=60)
        expect([job["table"] for job in jobs()] == ["new"] and run.returncode == 0, str(jobs()))
        server.psql("DROP TABLE new; DROP SCHEMA vecmill CASCADE", options="-c client_min_messages=error")
        filled(server, 20000)
        runs = [start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.05, "--lease", 2) for _ in range(2)]
        for run in runs:
            begun(run, 1)
        for _ in range(100):  # at some moments one has committed all that it had claimed
            (job,) = jobs()
            if all(worker["in_flight"] > 0 for worker in job["workers"]):
                break
        counted(job, schema="public", table="t", vector_column="embedding", text_column="text", model=vecmill.model, running=True, total=20000, failed=0,
                selection="id id (integer); text text")
        expect(sorted(worker["pid"] for worker in job["workers"]) == sorted(run.pid for run in runs), str(job))
        expect(0 < job["done"] < 20000 and job["rows_per_s"] > 0 and job["eta_s"] > 0 and not any(worker["lost"] for worker in job["workers"]), str(job))
        expect(job["in_flight"] > 0 and all(worker["in_flight"] > 0 for worker in job["workers"]), str(job))
        for run in runs:
            run.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        (job,) = jobs()
        for run in runs:
            run.kill()
            run.communicate()
        expect(not job["running"] and all(worker["lost"] for worker in job["workers"]) and job["expired_leases"] > 0 == job["in_flight"], str(job))
        text = vecmill.run("jobs", "--db", server.uri_of()).stdout
        expect(text.count("(lost: its rows will be taken over by the next run)") == 2 and text.count("\n") == 3, text)
        expect(f", {job['expired_leases']} batches of lost processes to be taken over by the next run\n" in text, text)
        slow = start(vecmill, server.uri, 1000, "--workers", 1, "--sleep", 0.2)
        begun(slow, 1)
        # another machine's, which nobody here can ask whether it lives
        server.psql("INSERT INTO vecmill.workers SELECT md5(pid::text)::uuid, column_id, 'another', 12345, lease_seconds, started, now() - interval '1 h' FROM vecmill.workers")
        text = vecmill.run("jobs", "--db", server.uri_of()).stdout
        expect(re.search(r"\n  another process 12345: .* \(lost: its rows are taken over\), 0 rows in flight\n", text), text)
        slow.communicate(timeout=60)
        expect(server.psql("SELECT count(*) FROM vecmill.workers") == [("1",)], "nobody was lost")  # but that is no news any more
        (job,) = jobs()
        counted(job, running=False, workers=[], in_flight=0, expired_leases=0, failed=0, eta_s=None)
        expect(job["done"] == job["total"] > 0, str(job))
        ingest(vecmill, server.uri, 1000)
        said = f"public.t.embedding from text with {vecmill.model}: nobody works on it, "
        told = vecmill.run("jobs", "--db", server.uri_of()).stdout
        expect(told == said + "nothing was left to embed at the last run\n", told)
        expect(jobs("--state-schema", "elsewhere") == [], "another state schema")
        # one that is asked to stop gives back what it has not embedded: nothing of it is lost
        server.psql("UPDATE t SET embedding = NULL")
        run = start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.2)
        begun(run, 1)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=60)
        (job,) = jobs()
        counted(job, running=False, workers=[], in_flight=0, expired_leases=0)
        expect(run.returncode == 143 and job["given_back"] > 0, str(job))
        text = vecmill.run("jobs", "--db", server.uri_of()).stdout
        expect(f", {job['given_back']} batches given back, for whoever comes next\n" in text and "lost" not in text, text)
        # a run that ends before it has counted; then no table by that name, or no column
        ingest(vecmill, server.uri, "--where", "1 / (id - id) > 0", status=1)
        told = vecmill.run("jobs", "--db", server.uri_of()).stdout
        expect(told == said + "its rows are not counted yet\n" and jobs()[0]["total"] is None, told)
        for change, undo in (("ALTER TABLE t RENAME TO u", "ALTER TABLE u RENAME TO t"), ("ALTER TABLE t RENAME text TO body", "ALTER TABLE t RENAME body TO text"),
                             ("ALTER TABLE t DROP embedding", "DROP TABLE t")):
            expect(not jobs()[0]["gone"], "it is there")
            server.psql(change)
            told = vecmill.run("jobs", "--db", server.uri_of()).stdout
            expect(told == said + "its table or a column of it is gone\n", told)
            counted(jobs()[0], gone=True, total=None, done=None)
            server.psql(undo)


def test_jobs_rights(vecmill, folder):
    """Who may not read is told what is wanted to read, and no more."""
    with fresh() as server:
        filled(server, 20)
        ingest(vecmill, server.uri)
        server.psql("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN", options="-c client_min_messages=error")
        grants = state_grants("guest", writes=False)
        for given in ("", "GRANT USAGE ON SCHEMA vecmill TO guest; GRANT SELECT ON vecmill.version, vecmill.columns TO guest"):
            server.psql(given)
            done = vecmill.run("jobs", "--db", server.uri_of(user="guest"), status=1)
            expect(done.stderr == f"vecmill: guest@{server.host}:{server.port}/{server.database}: this user may not use schema vecmill (have its owner run this, "
                   f"or name another with --state-schema): {grants}\n", done.stderr)
        server.psql(grants)
        expect("20 of 20 rows done" in vecmill.run("jobs", "--db", server.uri_of(user="guest")).stdout, "a reader")
        server.psql("DROP OWNED BY guest; DROP ROLE guest")


if __name__ == "__main__":
    sys.exit(run_tests({name: value for name, value in globals().items() if not name.startswith("test_ingest")}))
