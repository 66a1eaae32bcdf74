#!/usr/bin/python3
"""The end of a run in PostgreSQL: metrics that several rows or tables share, equal texts, and what the database refuses of them.

  test_settling.py --vecmill PATH [NAME..]
"""
import collections
import copy
import sys
import time

sys.dont_write_bytecode = True
import corpus
from proxy import Fate, Gate
from runs import ended, fresh, ingest, start, waiting  # noqa: E402, first: it sets the path
from ingest_case import expect, run_tests  # noqa: E402


def test_first_is_gone(vecmill, folder):
    """Of rows that share one of metrics the first goes, in each way that it can: any run's end puts there what is of the first that is left, as it would be if that had always been so."""
    numbers = "SELECT sourceid, word_count, length, entity_count, frequency FROM document_metrics WHERE sourceid = 1"
    for gone in ("DELETE FROM documents WHERE doc_id = 1", "UPDATE documents SET sourceid = 9 WHERE doc_id = 1", "UPDATE documents SET text = '', embedding = NULL WHERE doc_id = 1",
                 "UPDATE documents SET text = NULL WHERE doc_id = 1", "UPDATE documents SET embedding = NULL, text = ' ' WHERE doc_id = 1; INSERT INTO documents VALUES(3, 2, 'new')"):
        for words in ((), ("--changed",), ("--metrics-only",)):
            with fresh() as server:
                corpus.create(server, ["documents", "document_metrics"])
                server.psql("ALTER TABLE documents DROP COLUMN text_vector; INSERT INTO documents(doc_id, sourceid, text) VALUES(1, 1, 'Aloha Kai'), (2, 1, 'aloha kai')")
                ingest(vecmill, server.uri, table="documents")
                expect(server.psql(numbers) == [("1", "2", "9", "1", "1")], str(server.psql(numbers)))
                server.psql(gone)
                ingest(vecmill, server.uri, *words, table="documents")
                expect(server.psql(numbers) == [("1", "2", "9", "0", "1")], f"{gone} {words}: {server.psql(numbers)}")
                ways = server.psql("SELECT count(*) FROM document_metrics WHERE sourceid = 9")
                expect(ways == [("1" if "sourceid" in gone else "0",)], f"{gone} {words}: of the other source {ways}")


def test_of_two_tables(vecmill, folder):
    """documents and contents share document_metrics: whichever ran last, its rows hold its own texts' numbers, all of them, and nobody else's frequency."""
    with fresh() as server:
        corpus.create(server, ["documents", "contents", "document_metrics"])
        server.psql("""ALTER TABLE documents DROP COLUMN text_vector; ALTER TABLE contents DROP COLUMN embedding;
            INSERT INTO documents(doc_id, sourceid, text) VALUES(1, 1, 'aloha'), (2, 1, 'aloha'), (3, 2, 'aloha'), (4, 9, 'kai');
            INSERT INTO contents VALUES(1, 'a b c d e'), (2, 'f g h i j'), (3, 'k'), (7, 'not embedded'), (9, 'not embedded')""")
        numbers = "SELECT sourceid, word_count, length, frequency FROM document_metrics ORDER BY 1"
        ours = {"documents": [("1", "1", "5", "3"), ("2", "1", "5", "3"), ("9", "1", "3", "1")], "contents": [("1", "5", "9", "1"), ("2", "5", "9", "1"), ("3", "1", "1", "1")]}
        ingest(vecmill, server.uri, table="documents")
        for words in ((), ("--changed",), ("--metrics-only",), ()):
            for table, other in (("contents", "documents"), ("documents", "contents")):
                ingest(vecmill, server.uri, *words, *(("--where", "sourceid < 7") if table == "contents" else ()), table=table)
                wanted = {row[0]: row for row in ours[other] + ours[table]}
                expect(server.psql(numbers) == [wanted[key] for key in sorted(wanted)], f"{table} {words}: {server.psql(numbers)}")


def test_of_two_tables_at_once(vecmill, folder):
    """documents and contents end at the same time: the rows are those of the one that was last, all of them, with counts and frequency of one text."""
    numbers = "SELECT sourceid, word_count, length, frequency FROM document_metrics ORDER BY 1"
    ours = {"documents": [(str(i), "2", "8", "500") for i in range(1, 1501)], "contents": [(str(i), "3", "6", "300") for i in range(1, 1501)]}
    for halt, last in (b"pg_try_advisory_xact_lock(1447382861", "documents"), (b"SET frequency", "contents"):
        with fresh() as server, Gate(server, halt, Fate.PASS) as gate:
            corpus.create(server, ["documents", "contents", "document_metrics"])
            server.psql("""ALTER TABLE documents DROP COLUMN text_vector; ALTER TABLE contents DROP COLUMN embedding;
                INSERT INTO documents(doc_id, sourceid, text) SELECT -i, i, 'aloha k' || i % 3 FROM generate_series(1, 1500) AS i;
                INSERT INTO contents SELECT i, 'a bc ' || chr(97 + i % 5) FROM generate_series(1, 1500) AS i""")
            first = start(vecmill, gate.uri, 500, table="documents")
            gate.wait()
            second = start(vecmill, server.uri, 500, table="contents")
            if last == "documents":
                second.wait(60)
            else:
                waiting(server)
            gate.open()
            for run in (first, second):
                ended(run, 0, 60)
            expect(server.psql(numbers) == ours[last], f"{halt}: {collections.Counter(row[1:] for row in server.psql(numbers))}")


def test_limits_at_the_end(vecmill, folder):
    """Who waits for the end of another run is not ended by limits of time, which are for statements."""
    with fresh() as server:
        corpus.create(server, ["documents", "contents", "document_metrics"])
        server.psql("""ALTER TABLE documents DROP COLUMN text_vector; ALTER TABLE contents DROP COLUMN embedding;
            INSERT INTO documents(doc_id, sourceid, text) VALUES(1, 1, 'aloha'); INSERT INTO contents VALUES(1, 'a b')""")
        for table in "documents", "contents":
            ingest(vecmill, server.uri, table=table)
        with Gate(server, b"SET frequency", Fate.PASS) as gate:
            first = start(vecmill, gate.uri, table="documents")
            gate.wait()
            limited = copy.copy(vecmill)
            limited.environment = vecmill.environment | {"PGOPTIONS": "-c statement_timeout=300 -c lock_timeout=300"}
            second = start(limited, server.uri, table="contents")
            time.sleep(1.5)
            expect(second.poll() is None, "it did not wait")
            gate.open()
            for run in (first, second):
                expect(not ended(run, 0, 60), "a warning")
        expect(server.psql("SELECT word_count, frequency FROM document_metrics") == [("2", "1")], "not the second's")


def test_of_two_tables_together(vecmill, folder):
    """The same again and again, as it comes, with ends of runs beside commits of others: nobody waits for ever, and each row is of one text."""
    numbers = "SELECT word_count, length, frequency FROM document_metrics"
    with fresh() as server:
        corpus.create(server, ["documents", "contents", "document_metrics"])
        server.psql("""ALTER TABLE documents DROP COLUMN text_vector; ALTER TABLE contents DROP COLUMN embedding;
            INSERT INTO documents(doc_id, sourceid, text) SELECT -i, i, 'aloha k' || i % 3 FROM generate_series(1, 1500) AS i;
            INSERT INTO contents SELECT 1501 - i, 'a bc ' || chr(97 + i % 5) FROM generate_series(1, 1500) AS i""")
        for i in range(6):
            runs = [start(vecmill, server.uri, 50, table=table) for table in ("documents", "contents")]
            for run in runs:
                ended(run, 0, 60)
            got = collections.Counter(server.psql(numbers))
            expect(got in ({("2", "8", "500"): 1500}, {("3", "6", "300"): 1500}), f"{i}: {got}")
            if i % 2:
                server.psql("UPDATE documents SET embedding = NULL WHERE doc_id % 2 = 0" if i % 4 == 1 else "UPDATE contents SET embedding = NULL")


def test_refused_at_the_end(vecmill, folder):
    """A row that a foreign key or a CHECK refuses keeps no other one from being set right at the end of a run, which names it and the rule."""
    numbers = "SELECT sourceid, word_count, frequency FROM document_metrics ORDER BY 1"
    for rule, wrong, why in (
            ("ALTER TABLE document_metrics ADD FOREIGN KEY (sourceid) REFERENCES sources ON DELETE CASCADE", "DELETE FROM sources WHERE id = 700",
             'insert or update on table "document_metrics" violates foreign key constraint "document_metrics_sourceid_fkey"'),
            ("ALTER TABLE document_metrics ADD FOREIGN KEY (sourceid) REFERENCES sources ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED", "DELETE FROM sources WHERE id = 700",
             'insert or update on table "document_metrics" violates foreign key constraint "document_metrics_sourceid_fkey"'),
            ("ALTER TABLE document_metrics ADD CONSTRAINT short CHECK (word_count < 5)", "UPDATE documents SET text = 'a b c d e f' WHERE doc_id = 700",
             'new row for relation "document_metrics" violates check constraint "short"')):
        with fresh() as server:
            corpus.create(server, ["documents", "document_metrics"])
            server.psql(f"""ALTER TABLE documents DROP COLUMN text_vector; CREATE TABLE sources(id bigint PRIMARY KEY); INSERT INTO sources SELECT generate_series(1, 1500);
                INSERT INTO documents(doc_id, sourceid, text) SELECT i, i, 'aloha' FROM generate_series(1, 1500) AS i; {rule}""")
            ingest(vecmill, server.uri, 500, table="documents")
            server.psql(f"{wrong}; UPDATE documents SET text = 'aloha kai' WHERE doc_id <> 700 AND doc_id % 2 = 0; INSERT INTO documents(doc_id, sourceid, text) VALUES(-1, 3, 'o luna')")
            for words in (), ("--metrics-only",):
                done = ingest(vecmill, server.uri, 500, *words, table="documents", status=1)
                expect(done.stderr == "vecmill: table document_metrics: the database refused the numbers of 1 texts, the first those of row 700 of table documents: "
                       f"{why} (all others are written; mend the row or the rule, and run again)\n", done.stderr)
                got = {int(row[0]): row[1:] for row in server.psql(numbers)}
                right = {i: ("2", "749") if i % 2 == 0 else ("1", str(750 + ("DELETE" in wrong))) for i in range(1, 1501) if i != 700} | {3: ("2", "1")}
                got.pop(700, None)
                # of 'aloha': 750 odd ones, and row 700 where it has it still
                expect(got == right, str([(i, got.get(i), right[i]) for i in right if got.get(i) != right[i]][:5]))


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
