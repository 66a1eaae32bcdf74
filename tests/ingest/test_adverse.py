#!/usr/bin/python3
"""vecmill ingest through the real command on what users ask, and on what their databases and disks do to it.

  test_adverse.py --vecmill PATH [--model DIR] [NAME..]
"""
import sys

from ingest_case import expect, make_table, query, run_tests

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


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
