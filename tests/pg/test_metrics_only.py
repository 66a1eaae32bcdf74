#!/usr/bin/python3
"""Metrics beside vectors that are there already (--metrics-only, and the end of every run), while others write.

  test_metrics_only.py --vecmill PATH [NAME..]
"""
import sys
import time

sys.dont_write_bytecode = True
from runs import begun, ended, fill, fresh, ingest, locked, start, waiting  # noqa: E402, first: it sets the path
from ingest_case import execute, expect, query, run_tests  # noqa: E402
from proxy import Fate, Gate  # noqa: E402
from servers import Server  # noqa: E402

METRICS = "hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, frequency integer, updated_at timestamptz"


def test_edited_before_its_write(vecmill, folder):
    """The numbers of a text that was edited after it was read are not written."""
    with fresh() as server, Gate(server, b"AS vecmill_d(h, ", Fate.PASS) as gate:
        fill(server, 20)
        ingest(vecmill, server.uri)
        server.psql(f"CREATE TABLE t_metrics(id integer PRIMARY KEY, {METRICS})")
        alone = start(vecmill, gate.uri, "--metrics-only")
        gate.wait()
        server.psql("UPDATE t SET text = 'three words now' WHERE id = 5")
        gate.open()
        ended(alone, 0, 60)
        wrong = server.psql("SELECT m.id, m.length, t.text FROM t_metrics AS m JOIN t USING (id) WHERE m.length <> char_length(t.text)")
        expect(not wrong and server.psql("SELECT count(*) FROM t_metrics WHERE id <> 5") == [("19",)], str(wrong))


def test_measured_meanwhile(vecmill, folder):
    """Its statement waits; before it meets a row, a run writes the numbers of a later text there: they stay."""
    with fresh() as server:
        fill(server, 20)
        ingest(vecmill, server.uri)
        server.psql(f"CREATE TABLE t_metrics(id integer PRIMARY KEY, {METRICS}); INSERT INTO t_metrics(id) VALUES(1), (6)")
        with locked(server, "id = 1", table="t_metrics"):
            alone = start(vecmill, server.uri, "--metrics-only")
            waiting(server)
            server.psql("UPDATE t SET text = 'three words now' WHERE id IN (5, 6)")
            edits = start(vecmill, server.uri, "--changed")
            begun(edits, 1)
            waiting(server, 2)  # its end counts equal texts
        ended(alone, 0, 60)
        ended(edits, 0, 60)
        got = server.psql("SELECT id, word_count, length FROM t_metrics WHERE id IN (1, 5, 6) ORDER BY 1")
        expect(got == [("1", "2", "6"), ("5", "3", "15"), ("6", "3", "15")], f"numbers of an old text: {got}")
        expect(server.psql("SELECT count(*) FROM t_metrics WHERE word_count = 2") == [("18",)], "the others'")


def test_shared_meanwhile(vecmill, folder):
    """The same of the end of a run, which sets right what rows share."""
    with fresh() as server:
        server.psql("CREATE TABLE documents(doc_id integer PRIMARY KEY, sourceid integer, text text, embedding vector(32)); "
                    "INSERT INTO documents VALUES(1, 9, 'one'), (2, 9, 'one more'), (3, 10, 'two'), (4, 10, 'two more')")
        ingest(vecmill, server.uri, "--create-metrics", table="documents")
        server.psql("UPDATE document_metrics SET word_count = 99")
        with locked(server, "sourceid = 9", table="document_metrics"):
            old = start(vecmill, server.uri, "--metrics-only", table="documents")
            waiting(server)
            server.psql("DELETE FROM documents WHERE doc_id = 2; UPDATE documents SET text = 'three words now' WHERE doc_id = 3")
            new = start(vecmill, server.uri, "--changed", table="documents")
            begun(new, 1)
            time.sleep(0.5)  # its end goes over all rows, behind that of the other
        ended(old, 0, 60)
        ended(new, 0, 60)
        got = server.psql("SELECT sourceid, word_count FROM document_metrics ORDER BY 1")
        expect(got == [("9", "1"), ("10", "3")], f"numbers of an old text: {got}")


def test_refused(vecmill, folder):
    """What a rule of the database's own refuses is told at the end; all others are measured."""
    with fresh() as server:
        fill(server, 700)
        ingest(vecmill, server.uri)
        server.psql(f"CREATE TABLE t_metrics(id integer PRIMARY KEY, {METRICS}, CONSTRAINT short CHECK (length < 9)); UPDATE t SET text = 'too long a text' WHERE id IN (150, 151, 699)")
        for n in 697, 0:
            done = ingest(vecmill, server.uri, "--metrics-only", status=1)
            expect(done.stderr == "vecmill: table t_metrics: the database refused the numbers of 3 texts, the first those of row 150 of table t: new row for relation \"t_metrics\" "
                   "violates check constraint \"short\" (all others are written; mend the row or the rule, and run again)\n", done.stderr)
            expect(f"Measured {n} rows" in done.stdout, done.stdout)
            expect(server.psql("SELECT count(*), count(frequency), min(frequency), max(frequency) FROM t_metrics") == [("697", "697", "1", "1")], "the others")
        # however many they are
        server.psql("DROP TABLE t; DROP TABLE t_metrics", options="-c client_min_messages=error")
        fill(server, 3000)
        server.psql(f"CREATE TABLE t_metrics(id integer PRIMARY KEY, {METRICS}, CONSTRAINT odd CHECK (length <> 9)); UPDATE t SET embedding = (SELECT array_agg(1)::vector FROM generate_series(1, 32))")
        done = ingest(vecmill, server.uri, 1000, "--metrics-only", status=1)
        expect("table t_metrics: the database refused the numbers of 2001 texts, the first those of row 1000 of table t: new row " in done.stderr, done.stderr)
        expect("Processed batch: 1000 Progress: 2000 / 3000 | avg_ratio=n/a avg_wc=n/a" in done.stdout and server.psql("SELECT count(*), count(frequency) FROM t_metrics") == [("999", "999")], done.stdout)


def test_restart(vecmill, folder):
    """A server that is restarted, and connections that are cut, are waited for; each row is measured."""
    with fresh() as server:
        fill(server, 1500)
        ingest(vecmill, server.uri, 500)
        for n_processes in (1, 3):
            server.psql("DROP TABLE IF EXISTS t_metrics", options="-c client_min_messages=error")
            runs = [start(vecmill, server.uri, 1, "--metrics-only", "--create-metrics") for _ in range(n_processes)]
            for run in runs:
                begun(run, 3)
            server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vecmill'")
            for run in runs:
                begun(run, 3)
            server.restart("fast")
            for run in runs:
                ended(run, 0, 60)
            got = server.psql("SELECT count(*), count(word_count), count(frequency) FROM t_metrics")
            expect(got == [("1500",) * 3], f"{n_processes} processes: {got}")


def test_server_gone(vecmill, folder):
    """Not for ever; and a server that is not there at the beginning is told at once."""
    with Server() as server:
        server.psql("CREATE EXTENSION IF NOT EXISTS vector", options="-c client_min_messages=error")
        fill(server, 1500)
        ingest(vecmill, server.uri, 500)
        run = start(vecmill, server.uri, 1, "--metrics-only", "--create-metrics", wait=2)
        begun(run, 3)
        server.stop()
        errors = ended(run, 1, 30)
        expect("; gave up after " in errors and errors.endswith(" s: what was committed is kept (run again)\n"), errors)
        run = start(vecmill, server.uri, 1, "--metrics-only", wait=60)
        errors = ended(run, 1, 10)
        expect("cannot connect" in errors and "gave up" not in errors, errors)


def test_deleted_meanwhile(vecmill, folder):
    """Metrics that refer to their text: one that is deleted just then is left out, and the run goes on; what can never be is told."""
    with fresh() as server:
        fill(server, 20)
        ingest(vecmill, server.uri)
        server.psql(f"CREATE TABLE t_metrics(id integer PRIMARY KEY REFERENCES t ON DELETE CASCADE, {METRICS})")
        with server.session() as other:
            other.sql("BEGIN; DELETE FROM t WHERE id IN (7, 8)")
            run = start(vecmill, server.uri, 10, "--metrics-only")
            waiting(server)
            other.sql("COMMIT")
        expect(ended(run, 0, 60) == "", "a word on stderr")
        got = server.psql("SELECT count(*), count(frequency), count(*) FILTER (WHERE id IN (7, 8)) FROM t_metrics")
        expect(got == [("18", "18", "0")], str(got))
        server.psql("CREATE TABLE ours(id integer PRIMARY KEY); ALTER TABLE t_metrics ADD FOREIGN KEY (id) REFERENCES ours NOT VALID; DELETE FROM t_metrics WHERE id = 3")
        done = ingest(vecmill, server.uri, "--metrics-only", status=1)
        expect('the first those of row 3 of table t: insert or update on table "t_metrics" violates foreign key constraint' in done.stderr, done.stderr)


def test_counts_of_shared_rows(vecmill, folder):
    """What is left to measure and what was measured are rows of metrics, whatever the batch and however many texts share one; the same in SQLite."""
    n_texts, n_sources, path = 40, 7, folder / "t.db"
    rows = ", ".join(f"({i}, {'NULL' if i % 10 == 0 else i % n_sources}, 'star{' moon' * (i % 5)}')" for i in range(1, n_texts + 1))
    shape = "(doc_id integer PRIMARY KEY, sourceid integer, text text, embedding"
    with fresh() as server:
        server.psql(f"CREATE TABLE documents{shape} vector(32)); INSERT INTO documents VALUES{rows}")
        execute(path, f"CREATE TABLE documents{shape} BLOB); INSERT INTO documents(doc_id, sourceid, text) VALUES{rows}")
        where = "doc_id > 2 AND sourceid < 6"  # of each source another row comes first
        for db in (server.uri, path):
            ingest(vecmill, db, table="documents")
            for batch in (1, 4, 100):
                drop = "DROP TABLE IF EXISTS document_metrics"
                execute(path, drop) if db == path else server.psql(drop, options="-c client_min_messages=error")
                summary = vecmill.run("ingest", "documents", batch, "--db", db, "--metrics-only", "--create-metrics", "--dry-run").stdout
                expect(summary.endswith(f"Dry run: nothing was written. {n_sources} rows to measure\n"), summary)
                for part, n in ((("--where", where), n_sources - 1), ((), 0)):  # its end sets right all that is shared
                    done = vecmill.run("ingest", "documents", batch, "--db", db, "--metrics-only", "--create-metrics", *part).stdout
                    batches = [line.split() for line in done.splitlines() if line.startswith("Processed batch: ")]
                    expect(f"Remaining to measure in documents: {n}\n" in done and f"Measured {n} rows of documents into document_metrics" in done and
                           sum(int(words[2]) for words in batches) == n and (not batches or batches[-1][4:7] == [str(n), "/", str(n)]), f"{db}, {batch} a batch: {done}")
            query_text = "SELECT sourceid, word_count, frequency FROM document_metrics ORDER BY 1"
            got = query(path, query_text) if db == path else [tuple(map(int, row)) for row in server.psql(query_text)]
            expect(got == [(source, 1 + (source or n_sources) % 5, n_texts // 5) for source in range(n_sources)], str(got))


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
