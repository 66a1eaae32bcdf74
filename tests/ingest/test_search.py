#!/usr/bin/python3
"""vecmill search and doctor through the real command, on databases that the real command filled.

  test_search.py --vecmill PATH [--model DIR] [NAME..]
"""
import json
import math
import sqlite3
import sys

from ingest_case import execute, expect, floats, make_table, query, run_tests, vectors


def test_search(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 200, seed=6)
    vecmill.ingest(path)
    text = query(path, "SELECT text FROM t WHERE id = 42")[0][0]
    done = vecmill.run("search", "t", text, "--db", path, "-k", 7, "--json")
    hits = [json.loads(line) for line in done.stdout.splitlines()]
    wanted = floats(vectors(path)[42])
    norm = lambda v: math.sqrt(math.fsum(x * x for x in v))
    scores = {i: math.fsum(a * b for a, b in zip(wanted, floats(v))) / norm(wanted) / norm(floats(v))
              for i, v in vectors(path).items() if v is not None}
    best = sorted(scores, key=lambda i: (-scores[i], i))[:7]
    expect([hit["id"] for hit in hits][0] == 42 and len(hits) == 7, done.stdout)
    for hit, i in zip(hits, best):
        expect(abs(hit["score"] - scores[hit["id"]]) < 1e-5 and abs(hit["score"] - scores[i]) < 1e-5, f"{hit} {i} {scores[i]}")
    expect([hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True), done.stdout)
    lines = vecmill.run("search", "t", text, "--db", path, "-k", 2).stdout.splitlines()
    expect(len(lines) == 2 and lines[0].split()[0] == "1" and lines[0].split()[2] == "42", str(lines))
    # Twins tie: key order. Broken vectors are counted, not compared.
    execute(path, "INSERT INTO t SELECT 1000, text, embedding FROM t WHERE id = 42; UPDATE t SET embedding = x'00' WHERE id = 1")
    done = vecmill.run("search", "t", text, "--db", path, "-k", 2, "--json")
    expect([json.loads(line)["id"] for line in done.stdout.splitlines()] == [42, 1000], done.stdout)
    expect("1 rows hold no usable vector" in done.stderr, done.stderr)
    # Text and composite ids.
    execute(path, "CREATE TABLE c(a TEXT, n INTEGER, body TEXT, PRIMARY KEY(a, n)) WITHOUT ROWID;"
                  "INSERT INTO c VALUES('x', 1, 'small engine'), ('x', 2, 'the stars and planets');")
    vecmill.ingest(path, table="c")
    done = vecmill.run("search", "c", "the stars and planets", "--db", path, "--json", "-k", 1)
    expect(json.loads(done.stdout)["id"] == ["x", 2], done.stdout)


def test_json(vecmill, folder):
    """Ids to the last bit, and every text, whatever they hold; parsed by another parser."""
    path = folder / "t.db"
    ids = [1690000000.123, 1690000000.1231, 0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf]
    execute(path, "CREATE TABLE r(id REAL PRIMARY KEY, text TEXT); INSERT INTO r VALUES"
            + ", ".join(f"({i!r}, 'star')".replace("inf", "9e999") for i in ids))
    vecmill.ingest(path, table="r")
    hits = [json.loads(line) for line in vecmill.run("search", "r", "star", "--db", path, "--json").stdout.splitlines()]
    expect([hit["id"] for hit in hits] == sorted(ids), str(hits))
    execute(path, "CREATE TABLE b(id TEXT PRIMARY KEY, text TEXT); INSERT INTO b VALUES"
                  "('nul' || char(0) || 'inside', 'nul' || char(0) || 'too'), ('\"\n', CAST(x'61ffc3' AS TEXT))")
    vecmill.ingest(path, table="b")
    lines = vecmill.run("search", "b", "star", "--db", path, "--json").stdout.splitlines()
    hits = {hit["id"]: hit["text"] for hit in map(json.loads, lines)}
    expect(hits == {"nul\0inside": "nul\0too", '"\n': "a\ufffd\ufffd"}, str(hits))


def test_snippets(vecmill, folder):
    """On one line, and nothing in it that a terminal would act upon."""
    path = folder / "t.db"
    text = "a\x1b[31m b\n\tc\x7fd\u009b2Je\u202ef\u2066g\u00a0h\u2028i " + "w" * 200
    execute(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO t(text) VALUES(?)", (text,))
    db.close()
    vecmill.ingest(path)
    line = vecmill.run("search", "t", text, "--db", path).stdout
    start = "a [31m b c d 2Je f g\u00a0h\u2028i "
    expect(line == f"  1  1.0000  1  {start}{'w' * (100 - len(start))}...\n", repr(line))


def test_nothing_to_find(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 10, seed=2)
    vecmill.ingest(path, "--limit", 1)
    done = vecmill.run("search", "t", "star", "--db", path, "--where", "id > 5")
    expect((done.stdout, done.stderr) == ("", "vecmill: table t: no row that --where leaves has a vector\n"), done.stderr)
    execute(path, "UPDATE t SET embedding = NULL")
    done = vecmill.run("search", "t", "star", "--db", path)
    expect((done.stdout, done.stderr) == ("", f"vecmill: table t: no row has a vector yet (vecmill ingest t --db {path})\n"), done.stderr)
    other = folder / "a b&c;.db"
    execute(other, 'CREATE TABLE "t 1"(id INTEGER PRIMARY KEY, text TEXT, more TEXT); INSERT INTO "t 1" VALUES(1, \'one\', \'two\')')
    words = ("--text-column", "more", "--vector-column", "it's $v", "--db", other)
    done = vecmill.run("search", "t 1", "star", *words, status=1)
    advice = f"""vecmill ingest "t 1" --text-column more --vector-column 'it'\\''s $v' --db "{other}\""""
    expect(done.stderr == f"vecmill: table t 1: no column it's $v ({advice} makes it)\n", done.stderr)


def test_views(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 5, seed=6)
    vecmill.ingest(path)
    execute(path, "CREATE VIEW v AS SELECT * FROM t")
    for command in (("search", "v", "one"), ("ingest", "v", "--model", vecmill.model)):
        done = vecmill.run(*command, "--db", path, status=1)
        expect(done.stderr == "vecmill: v: a view; vectors are written into a table, and searched there by its key and the record of what made them "
               "(name the table behind it, with --where if need be)\n", done.stderr)


def test_doctor_without_rights(vecmill, folder):
    """The main job writes: a file or a folder that may not be written is no database for it."""
    user = vecmill.without_rights(folder)
    place = folder / "place"
    place.mkdir()
    path = place / "t.db"
    make_table(path, 10, seed=2)
    for file_mode, folder_mode, status in ((0o666, 0o777, 0), (0o444, 0o777, 1), (0o666, 0o555, 1)):
        path.chmod(file_mode)
        place.chmod(folder_mode)
        done = user.run("doctor", "--model", vecmill.model, "--db", path, status=status)
        told = dict(line.split(None, 1) for line in done.stdout.splitlines() if line[0] != " ")
        why = f"{path}: Permission denied (vecmill must be able to write to the file and to its folder)"
        expect(told["database"] == (why if status else str(path)), done.stdout)
        expect(told["main"] == ("job   cannot run: no database" if status else "job   can run"), done.stdout)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
