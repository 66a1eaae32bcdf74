#!/usr/bin/python3
"""The end of a run in SQLite: metrics that several rows share, or other tables, and equal texts. docs/metrics.md has the rules.

  test_settling.py --vecmill PATH [NAME..]
"""
import sqlite3
import sys
from contextlib import closing

sys.dont_write_bytecode = True
from ingest_case import execute, expect, query, run_tests  # noqa: E402
from metrics_case import make_sentences  # noqa: E402


def test_first_is_gone(vecmill, folder):
    """Of rows that share one of metrics the first goes: any run's end puts there what is of the first that is left."""
    numbers = "SELECT sourceid, word_count, length, entity_count, frequency FROM document_metrics WHERE sourceid = 1"
    for i, gone in enumerate(("DELETE FROM documents WHERE doc_id = 1", "UPDATE documents SET sourceid = 9 WHERE doc_id = 1", "UPDATE documents SET text = '', embedding = NULL WHERE doc_id = 1",
                              "UPDATE documents SET text = NULL WHERE doc_id = 1")):
        for words in ((), ("--changed",), ("--metrics-only",)):
            path = folder / f"{i}{len(words)}{words}.db"
            execute(path, "CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT); INSERT INTO documents VALUES(1, 1, 'Aloha Kai'), (2, 1, 'aloha kai')")
            vecmill.ingest(path, "--create-metrics", table="documents")
            expect(query(path, numbers) == [(1, 2, 9, 1, 1)], str(query(path, numbers)))
            execute(path, gone)
            vecmill.ingest(path, *words, table="documents")
            expect(query(path, numbers) == [(1, 2, 9, 0, 1)], f"{gone} {words}: {query(path, numbers)}")


def test_of_two_tables(vecmill, folder):
    """documents and contents share document_metrics: whichever ran last, its rows hold its own texts' numbers, all of them."""
    path = folder / "t.db"
    execute(path, """CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT); CREATE TABLE contents(sourceid INTEGER PRIMARY KEY, text TEXT);
        INSERT INTO documents VALUES(1, 1, 'aloha'), (2, 1, 'aloha'), (3, 2, 'aloha'), (4, 9, 'kai');
        INSERT INTO contents VALUES(1, 'a b c d e'), (2, 'f g h i j'), (3, 'k'), (7, 'not embedded'), (9, 'not embedded')""")
    numbers = "SELECT sourceid, word_count, length, frequency FROM document_metrics ORDER BY 1"
    ours = {"documents": [(1, 1, 5, 3), (2, 1, 5, 3), (9, 1, 3, 1)], "contents": [(1, 5, 9, 1), (2, 5, 9, 1), (3, 1, 1, 1)]}
    vecmill.ingest(path, "--create-metrics", table="documents")
    for words in ((), ("--changed",), ("--metrics-only",), ()):
        for table, other in (("contents", "documents"), ("documents", "contents")):
            vecmill.ingest(path, *words, *(("--where", "sourceid < 7") if table == "contents" else ()), table=table)
            wanted = {row[0]: row for row in ours[other] + ours[table]}
            expect(query(path, numbers) == [wanted[key] for key in sorted(wanted)], f"{table} {words}: {query(path, numbers)}")


def test_of_two_tables_together(vecmill, folder):
    """Both at the same time, again and again: each row has counts and frequency of one text."""
    path = folder / "t.db"
    execute(path, """CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT); CREATE TABLE contents(sourceid INTEGER PRIMARY KEY, text TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO documents SELECT -i, i, 'aloha k' || (i % 3) FROM n;
        INSERT INTO contents SELECT sourceid, 'a bc ' || char(97 + sourceid % 5) FROM documents""")
    for i in range(8):
        runs = [vecmill.start("ingest", table, 500, "--db", path, "--model", vecmill.model, "--create-metrics") for table in ("documents", "contents")]
        for run in runs:
            output, errors = run.communicate(timeout=60)
            expect(run.returncode == 0 and not errors, f"exit {run.returncode}: {output[-400:]} {errors}")
        got = query(path, "SELECT word_count, length, frequency, count(*) FROM document_metrics GROUP BY 1, 2, 3")
        expect({row[:3] for row in got} <= {(2, 8, 1000), (3, 6, 600)} and sum(row[3] for row in got) == 3000, f"{i}: {got}")
    for table, wanted in ("documents", (2, 8, 1000, 3000)), ("contents", (3, 6, 600, 3000)):
        vecmill.ingest(path, table=table)
        got = query(path, "SELECT word_count, length, frequency, count(*) FROM document_metrics GROUP BY 1, 2, 3")
        expect(got == [wanted], f"{table}: {got}")


def test_keys_told_apart_by_metrics(vecmill, folder):
    """What is one row of metrics is for its own key to say, not for the column of the texts: in other letters it may be another."""
    rows = [("Ka", "one two three"), ("ka", "one"), ("KA", "one"), ("lo", "one two three")]
    for of_texts, of_metrics, wanted in (("NOCASE", "BINARY", [("KA", 1, 2), ("Ka", 3, 2), ("ka", 1, 2), ("lo", 3, 2)]), ("BINARY", "NOCASE", [("Ka", 3, 2), ("lo", 3, 2)])):
        path = folder / f"{of_texts}.db"
        execute(path, f"CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid TEXT COLLATE {of_texts}, text TEXT); CREATE TABLE document_metrics("
                f"sourceid TEXT COLLATE {of_metrics} PRIMARY KEY, hawaiian_word_ratio, word_count, length, entity_count, frequency, updated_at)")
        with closing(sqlite3.connect(path)) as db, db:
            db.executemany("INSERT INTO documents(sourceid, text) VALUES(?, ?)", rows)
        for words in (), ("--metrics-only",), ("--metrics-only",):
            vecmill.ingest(path, 2, *words, table="documents")
            got = query(path, "SELECT sourceid, word_count, frequency FROM document_metrics ORDER BY sourceid COLLATE BINARY")
            expect([(key if of_texts == "NOCASE" else key.capitalize() if key != "lo" else key, *numbers) for key, *numbers in got] == wanted, f"{of_texts} {words}: {got}")
            execute(path, "DELETE FROM document_metrics")


def test_keys_of_other_kinds(vecmill, folder):
    """A metrics table whose key is of another type, or coarser than that of the texts: counts and frequency of one text, and a run with nothing to do writes nothing."""
    numbers = "hawaiian_word_ratio, word_count, length, entity_count, frequency, updated_at"
    rows = [("1", "one two"), ("2", "one"), ("3", "one")]
    letters = [("Ka", "one two three"), ("ka", "one"), ("lo", "one")]
    for of_texts, of_metrics, texts, wanted in (("INTEGER", "TEXT", rows, [(2, 1), (1, 2), (1, 2)]), ("TEXT", "INTEGER", rows, [(2, 1), (1, 2), (1, 2)]), ("TEXT", "BLOB", rows, [(2, 1), (1, 2), (1, 2)]),
                                                ("TEXT", "TEXT COLLATE NOCASE", letters, [(3, 1), (1, 2)]), ("TEXT COLLATE NOCASE", "TEXT", [letters[0], letters[2], ("na", "one")], [(3, 1), (1, 2), (1, 2)])):
        path = folder / f"{of_texts} {of_metrics}.db"
        execute(path, f"CREATE TABLE t(id {of_texts} PRIMARY KEY, text TEXT); CREATE TABLE t_metrics(id {of_metrics} PRIMARY KEY, {numbers})")
        with closing(sqlite3.connect(path)) as db, db:
            db.executemany("INSERT INTO t VALUES(?, ?)", texts)
        for i, words in enumerate(((), (), ("--metrics-only",))):
            before = path.read_bytes()
            vecmill.ingest(path, 1, *words)
            got = query(path, "SELECT word_count, frequency FROM t_metrics ORDER BY id")
            expect(got == wanted, f"{of_texts} {of_metrics} {i}: {got}")
            expect(i == 0 or path.read_bytes() == before, f"{of_texts} {of_metrics} {i}: written")


def test_refused_at_the_end(vecmill, folder):
    """A row that a CHECK refuses keeps no other one from being set right at the end of a run, nor beside --metrics-only; that names it and the rule."""
    path = folder / "t.db"
    execute(path, """CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT); INSERT INTO documents VALUES(1, 1, 'one'), (2, 2, 'one'), (3, 3, 'one'), (4, 3, 'two');
        CREATE TABLE document_metrics(sourceid INTEGER PRIMARY KEY, hawaiian_word_ratio REAL, word_count INTEGER, length INTEGER, entity_count INTEGER, frequency INTEGER, updated_at TEXT,
                                      CONSTRAINT short CHECK (word_count < 3))""")
    vecmill.ingest(path, table="documents")
    execute(path, "UPDATE documents SET text = 'a b c d' WHERE doc_id = 2; DELETE FROM documents WHERE doc_id = 3; INSERT INTO documents(doc_id, sourceid, text) VALUES(5, 5, 'new')")
    told = (f"vecmill: table document_metrics: the database refused the numbers of 1 texts, the first those of row 2 of table documents: CHECK constraint failed: short "
            "(all others are written; mend the row or the rule, and run again)\n")
    for words in (), ("--metrics-only",):  # the second time row 2 lacks metrics as well: it is one text all the same
        done = vecmill.ingest(path, *words, table="documents", status=1)
        expect(done.stderr == told, done.stderr)
        got = query(path, "SELECT word_count, length, frequency FROM document_metrics WHERE sourceid = 2")
        expect(got == ([] if words else [(1, 3, 1)]), f"of a row whose numbers were refused: {got}")
        execute(path, "DELETE FROM document_metrics WHERE sourceid = 2")
        got = query(path, "SELECT sourceid, word_count, length, frequency FROM document_metrics WHERE sourceid <> 2 ORDER BY 1")
        expect(got == [(1, 1, 3, 1), (3, 1, 3, 1), (5, 1, 3, 1)], str(got))
    make_sentences(path, ["one", "a b c d", "two", "e f g h", "three"])
    vecmill.ingest(path, table="sentences")
    execute(path, "CREATE TABLE sentence_metrics(sentenceid INTEGER PRIMARY KEY, "
            "hawaiian_word_ratio REAL, word_count INTEGER CHECK (word_count < 3), length INTEGER, entity_count INTEGER, frequency INTEGER, updated_at TEXT)")
    done = vecmill.ingest(path, 2, "--metrics-only", table="sentences", status=1)
    expect("refused the numbers of 2 texts, the first those of row 2 of table sentences: CHECK constraint failed: " in done.stderr, done.stderr)
    got = query(path, "SELECT sentenceid, word_count, frequency FROM sentence_metrics ORDER BY 1")
    expect(got == [(1, 1, 1), (3, 1, 1), (5, 1, 1)], str(got))


def test_rolled_back_at_the_end(vecmill, folder):
    """A trigger that takes the transaction with the row (RAISE(ROLLBACK)) costs the others nothing either, nor does a key too long to be shown."""
    path = folder / "t.db"
    keys = [f"{'ā' * 150}{i:04}" for i in range(300)]
    execute(path, """CREATE TABLE t(id TEXT PRIMARY KEY NOT NULL, text TEXT);
        CREATE TABLE t_metrics(id TEXT PRIMARY KEY, hawaiian_word_ratio, word_count, length, entity_count, frequency, updated_at)""")
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO t VALUES(?, ?)", [(key, "aloha" if i % 100 else "a b c") for i, key in enumerate(keys)])
    vecmill.ingest(path)
    execute(path, """DELETE FROM t_metrics; CREATE TRIGGER no BEFORE INSERT ON t_metrics WHEN new.word_count = 3 BEGIN SELECT RAISE(ROLLBACK, 'too long'); END""")
    done = vecmill.ingest(path, 200, "--metrics-only", status=1)
    shown = done.stderr.partition("the first those of row ")[2].partition(" of table t: too long (all others are written")[0]
    expect("table t_metrics: the database refused the numbers of 3 texts, " in done.stderr and shown.startswith('"āā') and shown.endswith("ā... (cut)"), done.stderr)
    expect(query(path, "SELECT word_count, length, frequency, count(*) FROM t_metrics GROUP BY 1, 2, 3") == [(1, 5, 297, 297)], "others")
    expect("Measured 297 rows" in done.stdout and "avg_wc=1.0" in done.stdout, done.stdout)


def test_edited_at_the_end(vecmill, folder):
    """A text that is edited after equal texts were counted does not get the frequency of what it was."""
    path = folder / "t.db"
    execute(path, """CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) INSERT INTO documents SELECT i, i, 'aloha' FROM n""")
    vecmill.ingest(path, "--create-metrics", "--limit", 1, table="documents")
    execute(path, """UPDATE document_metrics SET frequency = 0; CREATE TRIGGER late AFTER UPDATE OF frequency ON document_metrics WHEN new.sourceid = 1 BEGIN
        UPDATE documents SET text = 'a b' WHERE doc_id = 2400; END""")
    for frequency, n_equal in (None, 2500), (1, 2499):  # the run after it sets all right
        vecmill.ingest(path, 1000, table="documents")
        got = query(path, "SELECT word_count, length, frequency FROM document_metrics WHERE sourceid = 2400")
        expect(got == [(2, 3, frequency)], f"{got}, not {frequency}")
        got = query(path, "SELECT word_count, length, frequency, count(*) FROM document_metrics WHERE sourceid <> 2400 GROUP BY 1, 2, 3")
        expect(got == [(1, 5, n_equal, 2499)], str(got))


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
