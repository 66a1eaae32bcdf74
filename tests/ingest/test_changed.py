#!/usr/bin/python3
"""vecmill ingest --changed on SQLite: texts that were edited after their vector was made.

  test_changed.py --vecmill PATH [--model DIR] [NAME..]
"""
import contextlib
import json
import sqlite3
import sys

sys.dont_write_bytecode = True
from ingest_case import execute, expect, make_table, query, run_tests, vectors  # noqa: E402


def summary(vecmill, path, *words, **options) -> dict:
    return vecmill.ingest_json(path, "--changed", *words, **options)[-1]


def counted(told: dict, **expected) -> None:
    got = {name: told[name] for name in expected}
    expect(got == expected, f"{got}, not {expected}")


def own_vectors(vecmill, folder, path, table: str = "t", key: str = "id") -> None:
    """Every row that has a text has the vector of just that text; no other row has any."""
    rows = query(path, f'SELECT text, embedding FROM "{table}" ORDER BY {key}')
    other = folder / "again.db"
    other.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO t(text) VALUES(?)", [(text,) for text, _ in rows])
        db.commit()
    vecmill.ingest(other)
    wrong = [text for (text, vector), (_, wanted) in zip(rows, sorted(vectors(other).items())) if vector != wanted]
    expect(not wrong, f"{len(wrong)} of {len(rows)} rows without their text's vector: {wrong[:3]}")


def test_edited(vecmill, folder):
    """Just the rows that were edited are written, once each, and never NULL in between."""
    path = folder / "a.db"
    make_table(path, 400, 1)
    vecmill.ingest(path)
    execute(path, """DELETE FROM log; UPDATE t SET text = text || ' and more' WHERE id IN (3, 17, 399);
        CREATE TABLE nulls(id); CREATE TRIGGER no_null AFTER UPDATE OF embedding ON t WHEN new.embedding IS NULL BEGIN INSERT INTO nulls VALUES(new.id); END;""")
    expect("Nothing to embed" in vecmill.ingest(path).stdout, "a plain run looked at edited rows")
    counted(summary(vecmill, path, 2), outdated=3, written=3, removed=0, unknown=0, left=0)
    expect(query(path, "SELECT id FROM log ORDER BY id") == [(3,), (17,), (399,)] and not query(path, "SELECT * FROM nulls"), "not just what was edited")
    own_vectors(vecmill, folder, path)
    counted(summary(vecmill, path), outdated=0, written=0, had_vector=392)
    done = vecmill.ingest(path, "--changed")
    expect("Nothing to embed: 392 of 400 rows of t have a vector already\nRows: 8 blank\n" in done.stdout, done.stdout)
    # edited and back again; a number where a text was; bytes; the same text written again
    execute(path, "UPDATE t SET text = text || 'x' WHERE id = 5; UPDATE t SET text = rtrim(text, 'x') WHERE id = 5; UPDATE t SET text = 17 WHERE id = 6;"
                  "UPDATE t SET text = CAST(text AS BLOB) WHERE id = 7; UPDATE t SET text = text")
    counted(summary(vecmill, path), outdated=1, written=1)
    own_vectors(vecmill, folder, path)


def test_blank_and_gone(vecmill, folder):
    """A text that is blank now loses its vector and its hash; the hashes of rows that are gone go."""
    path = folder / "a.db"
    make_table(path, 100, 2, blank_every=0)
    vecmill.ingest(path)
    execute(path, "UPDATE t SET text = NULL WHERE id = 1; UPDATE t SET text = '' WHERE id = 2; UPDATE t SET text = ' \u3000' WHERE id = 3;"
                  "DELETE FROM t WHERE id BETWEEN 11 AND 20")
    counted(summary(vecmill, path, "--where", "id > 2"), removed=1, blank=1, outdated=0)
    expect(query(path, "SELECT count(*) FROM vecmill_hashes") == [(99,)], "hashes forgotten though only a part was counted")
    done = vecmill.ingest(path, "--changed")
    expect("3 blank, 2 blank now, vector removed" in done.stdout, done.stdout)
    expect(query(path, "SELECT key FROM vecmill_hashes ORDER BY key") == [(i,) for i in range(4, 101) if not 11 <= i <= 20], "the hashes' keys")
    own_vectors(vecmill, folder, path)
    execute(path, "UPDATE t SET text = 'back' WHERE id = 1; INSERT INTO t(id, text) VALUES(12, 'again')")
    counted(summary(vecmill, path), removed=0, written=2, outdated=0, blank=2)
    own_vectors(vecmill, folder, path)


def test_unknown(vecmill, folder):
    """Vectors of which no text is known count as unchanged; a database of before gets its table."""
    path = folder / "a.db"
    make_table(path, 50, 3, blank_every=0)
    vecmill.ingest(path)
    execute(path, "DROP TABLE vecmill_hashes; UPDATE t SET text = 'new' WHERE id = 9")
    counted(summary(vecmill, path), unknown=50, outdated=0, written=0)
    execute(path, "UPDATE t SET embedding = NULL WHERE id IN (9, 10)")
    counted(summary(vecmill, path), unknown=48, written=2)
    execute(path, "UPDATE t SET text = 'newer' WHERE id = 9; DELETE FROM vecmill_hashes WHERE key = 10; UPDATE t SET text = 'newer' WHERE id = 10")
    counted(summary(vecmill, path), unknown=49, outdated=1, written=1)
    # but a blank text has none, and what there is of it goes
    vecmill.ingest(path, "--create-metrics")
    vecmill.ingest(path, "--metrics-only")
    execute(path, "DELETE FROM vecmill_hashes WHERE key IN (1, 2); UPDATE t SET text = NULL WHERE id = 1; UPDATE t SET text = ' ' WHERE id = 2")
    counted(summary(vecmill, path), unknown=47, removed=2, written=0, blank=2)
    expect(query(path, "SELECT count(*), count(embedding), (SELECT count(*) FROM t_metrics WHERE id < 3), (SELECT count(*) FROM vecmill_hashes WHERE key < 3) FROM t WHERE id < 3")
           == [(2, 0, 0, 0)], "of blank texts")
    # a vector that somebody else has written over a text that was known: still the same text
    execute(path, "UPDATE t SET embedding = zeroblob(length(embedding)) WHERE id = 9")
    counted(summary(vecmill, path), outdated=0, written=0)


def test_hashes_table_of_another_shape(vecmill, folder):
    """A message, nothing written, no crash."""
    path = folder / "a.db"
    make_table(path, 5, 4, blank_every=0)
    vecmill.ingest(path)
    execute(path, "DROP TABLE vecmill_hashes; CREATE TABLE vecmill_hashes(a)")
    for words in ((), ("--changed",)):
        done = vecmill.ingest(path, *words, status=1)
        expect("no such column: " in done.stderr or "no column named" in done.stderr, done.stderr)
        expect(done.stderr.count("\n") == 1 and done.stderr.startswith("vecmill: "), done.stderr)
    execute(path, "DROP TABLE vecmill_hashes; CREATE VIEW vecmill_hashes AS SELECT 1 AS a")
    expect(vecmill.ingest(path, "--changed", status=1).stderr.startswith("vecmill: "), "a view in its place")


def test_failures(vecmill, folder):
    """A row that the database refuses keeps its vector and its hash; it is tried again when asked, or when edited again."""
    path = folder / "a.db"
    make_table(path, 30, 5, blank_every=0)
    vecmill.ingest(path)
    execute(path, "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.id = 7 BEGIN SELECT RAISE(ABORT, 'not this one'); END;"
                  "UPDATE t SET text = 'new ' || id WHERE id IN (6, 7, 8)")
    before = vectors(path)[7]
    counted(summary(vecmill, path, status=3), written=2, failed=1)
    counted(summary(vecmill, path, status=3), written=0, failed=0, failed_before=1, outdated=0)
    expect(vectors(path)[7] == before, "the vector of a row that failed")
    counted(summary(vecmill, path, "--retry-failed", status=3), failed=1)
    execute(path, "DROP TRIGGER no; UPDATE t SET text = 'newer' WHERE id = 7")
    counted(summary(vecmill, path), written=1, failed_before=0)
    own_vectors(vecmill, folder, path)
    execute(path, "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.embedding IS NULL BEGIN SELECT RAISE(ABORT, 'keep it'); END;"
                  "UPDATE t SET text = '' WHERE id = 7")
    done = vecmill.ingest(path, "--changed", status=1)
    expect("cannot remove the vector of a text that is blank now: keep it" in done.stderr, done.stderr)


def test_keys(vecmill, folder):
    """Hashes are found again by keys of every kind, equal as numbers or as texts of other cases included."""
    path = folder / "a.db"
    execute(path, """CREATE TABLE n(id PRIMARY KEY, text TEXT); INSERT INTO n VALUES(1, 'a'), ('1', 'b'), (x'31', 'c'), ('x''31''', 'd'), (1.5, 'e'), ('', 'f'), (x'', 'g'),
            (9e999, 'h'), ('A', 'i'), ('a', 'j');
        CREATE TABLE c(a TEXT COLLATE NOCASE, b, text TEXT, PRIMARY KEY(a, b)) WITHOUT ROWID; INSERT INTO c VALUES('A', 1, 'a'), ('b', 1, 'b'), ('b', '1', 'c'), ('b', 2.5, 'd');
        CREATE TABLE "T ""x"(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO "T ""x" VALUES(-5, 'a'), (0, 'b'), (9223372036854775807, 'c');
        CREATE TABLE r(text TEXT); INSERT INTO r VALUES('a'), ('b');
        CREATE TABLE u(id TEXT UNIQUE, text TEXT); INSERT INTO u VALUES('k', 'a'), (NULL, 'b'), ('l', 'c')""")
    for table, words, n in (("n", (), 10), ("c", (), 4), ('T "x', (), 3), ("r", ("--id-column", "rowid"), 2), ("u", ("--id-column", "id"), 2)):
        quoted = '"' + table.replace('"', '""') + '"'
        vecmill.ingest(path, *words, table=table)
        for batch in (1, 100):
            counted(summary(vecmill, path, batch, *words, table=table), outdated=0, unknown=0, written=0)
            execute(path, f"UPDATE {quoted} SET text = text || '{batch}'")
            counted(summary(vecmill, path, batch, *words, table=table), outdated=n, unknown=0, written=n)
        execute(path, f"DELETE FROM {quoted}")
        vecmill.ingest(path, "--changed", *words, table=table)
    expect(query(path, "SELECT count(*) FROM vecmill_hashes") == [(0,)], "hashes of rows that are gone")


def test_wide_keys(vecmill, folder):
    """As many columns as PostgreSQL allows make a key; one more is too many."""
    path = folder / "a.db"
    for n_columns, shape in ((20, ""), (32, " WITHOUT ROWID")):
        path.unlink(missing_ok=True)
        names = [f"k{column}" for column in range(n_columns)]
        parts = ", ".join([f"'{name} ' || i / 30" if n % 2 else f"{n} + i / 30" for n, name in enumerate(names[:-1])] + ["i"])
        execute(path, f"""CREATE TABLE t({", ".join(names)}, n INTEGER, text TEXT, PRIMARY KEY({", ".join(names)})){shape};
            WITH RECURSIVE s(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM s WHERE i < 100) INSERT INTO t SELECT {parts}, i, 'star ' || i FROM s""")
        expect("Embedded 100 rows" in vecmill.ingest(path, 7, "--create-metrics").stdout, f"{n_columns}: not embedded")
        execute(path, "UPDATE t SET text = text || ' edited' WHERE n % 10 = 3; UPDATE t SET text = '' WHERE n = 8; DELETE FROM t WHERE n = 2")
        counted(summary(vecmill, path, 7), outdated=10, written=10, removed=1, left=0)
        counted(summary(vecmill, path), outdated=0, written=0)
        own_vectors(vecmill, folder, path, key="n")
        expect(query(path, "SELECT count(*) FROM vecmill_hashes") == [(98,)], f"{n_columns}: hashes of no row, or none of one")
        got = query(path, f"SELECT count(*) FROM t LEFT JOIN t_metrics USING ({', '.join(names)}) WHERE (length(text) = length) IS NOT 1 AND n <> 8")
        expect(got == [(0,)], f"{n_columns}: metrics of {got} rows are not of their text")
        execute(path, "DELETE FROM t_metrics")
        expect("Measured 98 rows" in vecmill.ingest(path, "--metrics-only").stdout, f"{n_columns}: --metrics-only")
        found = json.loads(vecmill.run("search", "t", "star 5", "--db", path, "-k", 1, "--json").stdout)
        expect(found["text"] == "star 5" and len(found["id"]) == n_columns and found["id"][-1] == 5, str(found))
    execute(path, f"CREATE TABLE more({', '.join(f'k{n}' for n in range(33))}, text, PRIMARY KEY({', '.join(f'k{n}' for n in range(33))}))")
    done = vecmill.ingest(path, table="more", status=1)
    expect(done.stderr == "vecmill: table more: a key of more than 32 columns (name fewer with --id-column)\n", done.stderr)


def test_other_record(vecmill, folder):
    """What was known of a column whose record gives way is forgotten; --limit's end holds for edits too."""
    path = folder / "a.db"
    make_table(path, 20, 6, blank_every=0)
    vecmill.ingest(path)
    execute(path, "UPDATE t SET text = text || ' x' WHERE id IN (2, 15)")
    counted(summary(vecmill, path, "--limit", 10), outdated=1, written=1)
    execute(path, "UPDATE t SET embedding = NULL")
    vecmill.ingest(path, "--prefix", "other: ", "--limit", 5)
    expect(query(path, "SELECT count(*) FROM vecmill_hashes") == [(5,)], "hashes of the other record")
    done = vecmill.ingest(path, "--changed", "--prefix", "", status=1)
    expect("was made with prefix" in done.stderr, done.stderr)


def test_jobs(vecmill, folder):
    """vecmill jobs: which columns are being worked on, and how far they are; reads only."""
    path = folder / "a.db"
    make_table(path, 4000, 9)

    def jobs() -> list:
        return [json.loads(line) for line in vecmill.run("jobs", "--db", path, "--json").stdout.splitlines()]

    before = path.read_bytes()
    expect(vecmill.run("jobs", "--db", path).stdout == "No vector column of vecmill's in this database\n" and jobs() == [], "jobs of a new database")
    expect(path.read_bytes() == before, "jobs wrote to the database")
    run = vecmill.start("ingest", "t", 20, "--db", path, "--model", vecmill.model, "--workers", 1, "--sleep", 0.1)
    while "Processed batch" not in run.stdout.readline():
        pass
    (job,) = jobs()
    run.kill()
    run.communicate()
    counted(job, table="t", vector_column="embedding", text_column="text", model=vecmill.model, running=True, total=3920, failed=0, in_flight=None, eta_s=None, workers=[])
    expect(0 < job["done"] < 3920, str(job))
    execute(path, "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.id = 3999 BEGIN SELECT RAISE(ABORT, 'no'); END")
    vecmill.ingest(path, 1000, status=3)
    counted(jobs()[0], running=False, done=3919, total=3920, failed=1)
    expect(vecmill.run("jobs", "--db", path).stdout == f"t.embedding from text with {vecmill.model}: nobody works on it, 3919 of 3920 rows done, 1 failed\n", "the line")
    execute(path, "ALTER TABLE t RENAME text TO other")
    counted(jobs()[0], total=None, done=None)
    execute(path, "DROP TABLE t")
    expect("its table or a column of it is gone" in vecmill.run("jobs", "--db", path).stdout, "a table that is gone")
    done = vecmill.run("jobs", "--db", path, "--state-schema", "x", status=2)
    expect("--state-schema: only for PostgreSQL" in done.stderr, done.stderr)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
