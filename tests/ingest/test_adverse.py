#!/usr/bin/python3
"""vecmill ingest through the real command on what users ask, and on what their databases and disks do to it.

  test_adverse.py --vecmill PATH [--model DIR] [NAME..]
"""
import sqlite3
import sys
from contextlib import closing

from ingest_case import execute, expect, make_table, query, run_tests, vectors

WHAT_WHERE = "(give what would follow WHERE)"


def refused(vecmill, path, message: str, *words, status: int, **options) -> None:
    """A run that must end with just this message and leave the database's bytes alone."""
    before = path.read_bytes()
    done = vecmill.ingest(path, *words, status=status, **options)
    expect(done.stderr == f"vecmill: {message}\n", done.stderr)
    expect(path.read_bytes() == before, f"{message}: the database was written to")


def test_where(vecmill, folder):
    """One condition, or nothing is begun: "a) OR (b" would reach past its brackets, to the conditions beside it."""
    path = folder / "t.db"
    make_table(path, 50, seed=21, blank_every=0)
    for where, problem in (
            ("id =", 'near ")": syntax error'), ("", 'near ")": syntax error'), ("id < 5;", 'near ";": syntax error'),
            ("id < 5; DROP TABLE t", 'near ";": syntax error'), ("id < 5 ORDER BY id", 'near "ORDER": syntax error'),
            ("id < 5) OR (id > 40", 'near ")": syntax error'), ("nope = 1", "no such column: nope"),
            ("1); SELECT (1", "more than one condition")):
        refused(vecmill, path, f"--where {where}: {problem} {WHAT_WHERE}", 2, "--where", where, status=2, timeout=60)
    refused(vecmill, path, "--where id = ?: holds a parameter (write the value)", "--where", "id = ?", status=2)
    vecmill.ingest(path, 2, "--where", "text <> ';)' AND id < 5 OR id > 40 -- of 50")
    got = query(path, "SELECT id FROM t WHERE embedding IS NOT NULL ORDER BY id")
    expect(got == [(i,) for i in (*range(1, 5), *range(41, 51))], str(got))


def plain_table(path, texts) -> None:
    """What other tables are compared with: t(id, text)."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO t(text) VALUES(?)", [(text,) for text in texts])
        db.commit()


def vectors_of(vecmill, folder, texts) -> list:
    """The vectors that a plain table of these texts gets."""
    path = folder / "plain.db"
    path.unlink(missing_ok=True)
    plain_table(path, texts)
    vecmill.ingest(path)
    return [vector for _, vector in sorted(vectors(path).items())]


def test_generated_columns(vecmill, folder):
    """Texts and ids may be generated, and others may be made from the vector; the vector itself may not."""
    expected = vectors_of(vecmill, folder, ["small engine", "the stars"])
    for kind in ("VIRTUAL", "STORED"):
        path = folder / f"{kind}.db"
        execute(path, f"""
            CREATE TABLE t(n INTEGER, a TEXT, b TEXT, embedding BLOB, n_bytes AS (length(embedding)) {kind} CHECK (n_bytes > 0),
              text TEXT AS (a || ' ' || b) {kind}, key TEXT AS ('k' || n) {kind});
            CREATE UNIQUE INDEX by_key ON t(key);
            CREATE INDEX by_size ON t(n_bytes);
            INSERT INTO t(n, a, b) VALUES(2, 'the', 'stars'), (1, 'small', 'engine');""")
        vecmill.ingest(path, "--id-column", "key")
        got = query(path, "SELECT key, embedding, n_bytes FROM t ORDER BY key")
        expect(got == [("k1", expected[0], len(expected[0])), ("k2", expected[1], len(expected[1]))], str(got))
        expect(query(path, "PRAGMA integrity_check") == [("ok",)], "an index is wrong")
        path = folder / f"{kind}-vector.db"
        execute(path, f"CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, Embedding AS (NULL) {kind}); INSERT INTO t(text) VALUES('a')")
        refused(vecmill, path, "table t: Embedding is a generated column, and vectors cannot be written there "
                               "(name another with --vector-column)", status=2)
        vecmill.ingest(path, "--vector-column", "other")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
