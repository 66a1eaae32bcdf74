#!/usr/bin/python3
"""vecmill ingest and search through the real command, with a tiny model.

  test_command.py --vecmill PATH [--model DIR] [NAME..]
"""
import json
import math
import os
import pty
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time

from ingest_case import MAKE_TINY_MODEL, execute, expect, floats, make_table, query, refused, run_tests, vectors


def test_lines(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 250, seed=1, blank_every=10)
    done = vecmill.ingest(path, 100, "--workers", 2)
    lines = done.stdout.splitlines()
    expect(lines[:5] == ["Configuration: workers=2, batch_size=100, table=t",
                         f"Loading model '{vecmill.model}' on device 'cpu'...",
                         "Using table=t, id_col=id, text_col=text, batch_size=100", "Remaining to embed in t: 225",
                         "Using parallel processing with 2 workers"], done.stdout)
    batches = [line for line in lines if line.startswith("Processed batch: ")]
    expect(sorted(int(line.split()[2]) for line in batches) == [25, 100, 100], done.stdout)
    progressed = [int(line.split()[4]) for line in batches]
    expect(progressed == sorted(set(progressed)) and progressed[-1] == 225, done.stdout)
    expect(all(line.endswith(" / 225") for line in batches), done.stdout)
    expect("limited by: " in lines[-1] and "25 blank" in lines[-2] and lines[-3].startswith("Embedded 225 rows of t"), done.stdout)
    expect(done.stderr == "", done.stderr)
    again = vecmill.ingest(path, 100)
    expect("Nothing to embed: 225 of 250 rows of t have a vector already" in again.stdout, again.stdout)
    expect(not [p for p in folder.iterdir() if p.name != "t.db"], f"left behind: {list(folder.iterdir())}")


def test_same_bytes(vecmill, folder):
    """Workers, batches and the order of rows do not show in the vectors."""
    expected = None
    for workers, batch, shuffled in ((1, 100, False), (2, 7, True), (4, 1000, True), (4, 33, False)):
        path = folder / f"{workers}-{batch}.db"
        make_table(path, 600, seed=5, shuffled=shuffled)
        vecmill.ingest(path, batch, "--workers", workers)
        expected = expected or vectors(path)
        expect(vectors(path) == expected, f"other bytes with {workers} workers, batch {batch}")
    shape = {len(v) for v in expected.values() if v is not None}
    expect(len(shape) == 1, f"sizes {shape}")


def test_record(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 60, seed=2)
    vecmill.ingest(path, "--limit", 30)
    record = query(path, "SELECT table_name, vector_column, model, dimension, prefix, precision, text_column FROM vecmill_columns")
    n_bytes = query(path, "SELECT length(embedding) FROM t WHERE embedding IS NOT NULL LIMIT 1")[0][0]
    expect(record == [("t", "embedding", vecmill.model, n_bytes // 4, "", "f32", "text")], str(record))
    # Another prefix, another model.
    done = vecmill.ingest(path, "--prefix", "passage: ", status=1)
    expect("prefix" in done.stderr and "--vector-column" in done.stderr, done.stderr)
    expect("Embedded" not in done.stdout, f"a summary of a run that never began: {done.stdout}")
    other = folder / "other-model"
    shutil.copytree(vecmill.model, other)
    with open(other / "model.safetensors", "r+b") as file:  # the last weight's last bit
        file.seek(-4, os.SEEK_END)
        value = file.read(4)
        file.seek(-4, os.SEEK_END)
        file.write(bytes([value[0] ^ 1]) + value[1:])
    done = vecmill.run("ingest", "t", "--db", path, "--model", other, status=1)
    expect("was made with" in done.stderr, done.stderr)
    expect(query(path, "SELECT count(embedding) FROM t")[0][0] == 30, "a refused run wrote")
    # No name given: the record's model.
    done = vecmill.run("ingest", "t", "--db", path)
    expect(f"Loading model '{vecmill.model}'" in done.stdout, done.stdout)
    expect(query(path, "SELECT count(embedding) FROM t")[0][0] == 59, "not completed")
    # EMBED_MODEL names one too, and loses to --model.
    done = vecmill.run("ingest", "t", "--db", path, environment={"EMBED_MODEL": "/nowhere/at-all"}, status=1)
    expect("/nowhere/at-all" in done.stderr, done.stderr)
    vecmill.ingest(path, environment={"EMBED_MODEL": "/nowhere/at-all"})


def test_lock_of_a_killed_run(vecmill, folder):
    """Its file stays, and keeps nobody out who may write the database, whoever the killed run belonged to."""
    path, lock = folder / "t.db", folder / "t.db-vecmill-lock"
    make_table(path, 4000, seed=2, blank_every=0)
    execute(path, "PRAGMA journal_mode = WAL")  # else the kill may meet SQLite between making its journal and opening it to others
    path.chmod(0o666)
    folder.chmod(0o777)
    process = vecmill.start("ingest", "t", 1, "--db", path, "--model", vecmill.model)
    while "Processed batch" not in process.stdout.readline():
        pass
    process.kill()
    process.communicate()
    expect(lock.stat().st_mode & 0o777 == 0o666, f"mode {lock.stat().st_mode:o}")
    vecmill.without_rights(folder).ingest(path, "--progress", "off")
    expect(query(path, "SELECT count(embedding) FROM t") == [(4000,)] and not lock.exists(), "not all, or a lock left behind")


def test_all_rows_go(vecmill, folder):
    """The summary tells what came of the run, not of rows that are no more."""
    path = folder / "t.db"
    make_table(path, 40, seed=2, blank_every=0)
    vecmill.ingest(path, "--limit", 1)
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")  # the run embeds, and waits here with its first commit
        process = vecmill.start("ingest", "t", "--db", path, "--model", vecmill.model)
        told = ""
        while not told.endswith("workers\n"):
            told += process.stdout.readline()
        time.sleep(0.3)
        db.execute("DELETE FROM t")
        db.execute("COMMIT")
    db.close()
    output, errors = process.communicate(timeout=30)
    expect(process.returncode == 0 and not errors and "\nEmbedded 0 rows of t into embedding" in told + output, told + output + errors)
    expect("Nothing to embed" not in output, output)


def test_record_without_vectors(vecmill, folder):
    """It binds nobody: another model takes its place, with its own prefix, and tries again what had failed."""
    path, whole, other = folder / "t.db", folder / "whole.db", folder / "other-model"
    make_table(path, 20, seed=2, blank_every=0)
    shutil.copy(path, whole)
    execute(path, "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t BEGIN SELECT raise(ABORT, 'none'); END")
    vecmill.ingest(path, "--prefix", "passage: ", status=3)
    execute(path, "DROP TRIGGER no")
    subprocess.run([sys.executable, MAKE_TINY_MODEL, other, "--seed", "7", "--hidden", "16"], check=True)
    vecmill.run("ingest", "t", "--db", path, "--model", other)
    vecmill.run("ingest", "t", "--db", whole, "--model", other)
    expect(vectors(path) == vectors(whole), "not the other model's vectors")
    record = query(path, "SELECT model, dimension, prefix FROM vecmill_columns")
    expect(record == [(str(other), 16, "")], str(record))
    expect(query(path, "SELECT count(*) FROM vecmill_failures") == [(0,)], "failures of a model that is gone")
    done = vecmill.ingest(path, status=1)
    expect("was made with model" in done.stderr, done.stderr)


def test_recorded_text_column(vecmill, folder):
    """Vectors of one text column are not continued with another's; the record's is taken where none is named."""
    path = folder / "t.db"
    execute(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT, note TEXT);"
                  "INSERT INTO t(body, note) VALUES('small engine', 'the stars'), ('read a file', 'less water')")
    vecmill.ingest(path, "--text-column", "Note", "--limit", 1)
    done = vecmill.ingest(path, "--text-column", "body", status=1)
    expect(done.stderr == 'vecmill: table t: column embedding was made with text column "note", not "body" '
                          "(give that --text-column, or none, or another --vector-column)\n", done.stderr)
    vecmill.ingest(path, "--text-column", "body", "--vector-column", "of_body")
    expect("text_col=note," in vecmill.ingest(path).stdout, "not the record's column")
    done = vecmill.run("search", "t", "the stars", "--db", path, "-k", 1, "--json")
    expect(json.loads(done.stdout)["text"] == "the stars", done.stdout)
    done = vecmill.run("search", "t", "the stars", "--db", path, "-k", 1, "--json", "--text-column", "body")
    expect(json.loads(done.stdout)["text"] == "small engine", f"what is shown may be another column: {done.stdout}")
    execute(path, "ALTER TABLE t RENAME COLUMN note TO remark; INSERT INTO t(body, remark) VALUES('a', 'renamed')")
    vecmill.ingest(path, "--text-column", "remark")
    got = query(path, "SELECT count(embedding), count(of_body), count(DISTINCT embedding) FROM t")
    expect(got == [(3, 2, 3)], str(got))


def test_unrecorded_column(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 80, seed=3)
    vecmill.ingest(path)
    execute(path, "DROP TABLE vecmill_columns; UPDATE t SET embedding = NULL WHERE id > 40")
    done = vecmill.run("ingest", "t", "--db", path, status=1)  # no model named, none to be found
    expect(done.stderr.startswith("vecmill: "), done.stderr)
    vecmill.ingest(path)
    expect(query(path, "SELECT count(*) FROM vecmill_columns")[0][0] == 1, "no record after the check")
    expect(query(path, "SELECT count(embedding) FROM t")[0][0] == 79, "not completed")
    # Vectors that this model did not make: cosine below 0.99.
    for value in query(path, "SELECT id, embedding FROM t WHERE embedding IS NOT NULL"):
        numbers = list(floats(value[1]))
        numbers[0] += 0.3 * math.sqrt(sum(x * x for x in numbers))
        with sqlite3.connect(path) as db:
            db.execute("UPDATE t SET embedding = ? WHERE id = ?", (struct.pack(f"<{len(numbers)}f", *numbers), value[0]))
        db.close()
    execute(path, "DROP TABLE vecmill_columns; UPDATE t SET embedding = NULL WHERE id > 70")
    done = vecmill.ingest(path, status=1)
    expect("cosine" in done.stderr and "0.99" in done.stderr, done.stderr)
    expect(query(path, "SELECT count(*) FROM t WHERE id > 70 AND embedding IS NOT NULL")[0][0] == 0, "a refused run wrote")
    execute(path, "UPDATE t SET embedding = x'0011'")
    done = vecmill.ingest(path, status=1)
    expect("holds other things than vectors" in done.stderr, done.stderr)


def test_usage(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 5, seed=1)
    size = path.stat().st_size
    for words, status, text in (
            (("ingest",), 2, "no table"),
            (("ingest", "t"), 1, "no --db was given (--db FILE is an SQLite database)"),
            (("ingest", "t", "--db", ""), 2, "--db is empty"),
            (("ingest", "t", "--db", path, "--lease", "9"), 2, f"--lease: only for PostgreSQL, and {path} is a file (leave it out)"),
            (("ingest", "t", "0", "--db", path), 2, "BATCH"),
            (("ingest", "t", "--db", path, "--workers", "none"), 2, "--workers"),
            (("ingest", "t", "--db", path, "--limit", "-1"), 2, "--limit"),
            (("ingest", "t", "--db", path, "--progress", "loud"), 2, "--progress"),
            (("ingest", "t", "--db", path, "--nonsense"), 2, "--nonsense"),
            (("ingest", "t", "--db"), 2, "value"),
            (("ingest", "t", "--db", folder / "none.db", "--model", vecmill.model), 1, "no such database"),
            (("ingest", "nope", "--db", path, "--model", vecmill.model), 1, "tables: "),
            (("ingest", "t", "--db", path, "--model", vecmill.model, "--where", "id ="), 2, "--where"),
            (("ingest", "t", "--db", path, "--model", vecmill.model, "--text-column", "nope"), 1, "columns: "),
            (("search", "t", "--db", path), 2, "query"),
            (("search", "t", "x", "--db", path, "-k", "0"), 2, "-k"),
            (("search", "t", "x", "--db", path), 1, "vecmill ingest")):
        done = vecmill.run(*words, status=status)
        expect(text in done.stderr and done.stderr.startswith("vecmill: "), f"{words}: {done.stderr}")
        expect(len(done.stderr.splitlines()) == 1, f"{words}: {done.stderr}")
    expect(path.stat().st_size == size and not query(path, "SELECT name FROM sqlite_schema WHERE name LIKE 'vecmill%'"), "written to")
    expect("Usage: vecmill ingest" in vecmill.run("ingest", "--help").stdout, "help")


def test_json(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 300, seed=4, blank_every=10)
    events = vecmill.ingest_json(path, 50)
    kinds = [event["event"] for event in events]
    expect(kinds[:5] == ["configuration", "model", "table", "remaining", "started"] and kinds[-1] == "summary", str(kinds))
    batches = [event for event in events if event["event"] == "batch"]
    expect(batches[-1]["done"] == batches[-1]["total"] == 270 and batches[-1]["in_flight"] == 0, str(batches[-1]))
    summary = events[-1]
    expect((summary["written"], summary["blank"], summary["failed"], summary["status"]) == (270, 30, 0, "ok"), str(summary))
    expect(summary["limited_by"] in ("reader", "embed", "writer") and summary["tokens"] > 270, str(summary))
    expect(all(0 <= share <= 1 for share in summary["worker_busy"]) and summary["worker_busy"], str(summary))
    expect(vecmill.ingest(path, "--progress", "off").stdout == "", "off is not silent")


def test_second_process(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 40, seed=7)
    make_table(folder / "u.db", 40, seed=7)
    vecmill.ingest(path, "--limit", 1)
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")  # the first run waits here, holding its claim on the table
        first = vecmill.start("ingest", "t", "--db", path, "--model", vecmill.model)
        try:
            deadline = time.monotonic() + 30
            for line in first.stdout:
                if line.startswith("Using parallel") or time.monotonic() > deadline:
                    break
            done = vecmill.ingest(path, status=1)
            expect("another vecmill" in done.stderr, done.stderr)
            time.sleep(5.5)
            db.execute("COMMIT")
            output, errors = first.communicate(timeout=60)
            expect(first.returncode == 0 and "locked by another program for 5 s" in errors, errors)
        finally:
            if first.poll() is None:
                first.kill()
    db.close()
    expect(query(path, "SELECT count(DISTINCT id), count(*) FROM log") == [(40, 40)], "not once each")


def test_stop_while_locked(vecmill, folder):
    """A database that stays locked: waited for until a signal."""
    path = folder / "t.db"
    make_table(path, 40, seed=7)
    vecmill.ingest(path, "--limit", 1)
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        process = vecmill.start("ingest", "t", "--db", path, "--model", vecmill.model)
        for line in process.stdout:
            if line.startswith("Using parallel"):
                break
        time.sleep(0.3)
        expect(process.poll() is None, "did not wait")
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
        expect(process.returncode == 143 and "lock" in errors, f"{process.returncode} {errors}")
        db.execute("ROLLBACK")
    db.close()
    vecmill.ingest(path)


def test_failures_and_exit_status(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 30, seed=8, blank_every=0)
    execute(path, "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.id = 7 BEGIN SELECT raise(ABORT, 'never seven'); END")
    done = vecmill.ingest(path, status=3)
    expect("1 rows could not be embedded" in done.stderr and "never seven (see vecmill_failures; " in done.stderr, done.stderr)
    expect("1 failed" in done.stdout and "Progress: 30 / 30" in done.stdout, done.stdout)
    expect(query(path, "SELECT key FROM vecmill_failures") == [("7",)], "no record of it")
    done = vecmill.ingest(path, status=3)
    expect("earlier run" in done.stderr and "Progress:" not in done.stdout, done.stderr)
    execute(path, "DROP TRIGGER no")
    vecmill.ingest(path, "--retry-failed")
    expect(query(path, "SELECT count(*) FROM vecmill_failures")[0][0] == 0, "the record stayed")
    expect(query(path, "SELECT count(embedding) FROM t")[0][0] == 30, "not all")


def test_failures_belong_to_a_text(vecmill, folder):
    """A new text under the same id is tried: an edit, or another row that took the id of one that is gone."""
    path = folder / "t.db"
    make_table(path, 10, seed=8, blank_every=0)
    execute(path, "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN old.text LIKE '%never%' BEGIN SELECT raise(ABORT, 'never'); END;"
                  "UPDATE t SET text = 'never ' || id WHERE id IN (3, 4, 5)")
    done = vecmill.ingest(path, status=3)
    expect("Embedded 7 rows" in done.stdout, done.stdout)
    execute(path, "UPDATE t SET text = 'small engine' WHERE id = 3; DELETE FROM t WHERE id = 4; INSERT INTO t(id, text) VALUES(4, 'the stars')")
    done = vecmill.ingest(path, status=3)
    expect("Embedded 2 rows" in done.stdout, done.stdout)
    expect(query(path, "SELECT key FROM vecmill_failures") == [("5",)], "a record of what has a vector, or none of what failed")
    expect(query(path, "SELECT id FROM t WHERE embedding IS NULL") == [(5,)], "not all")


def test_names_that_would_move_the_terminal(vecmill, folder):
    """Controls and marks that turn the direction are shown, not sent: in lines, errors and the list of jobs."""
    path = folder / "t.db"
    name, shown = "a\x1b[2Jb\nc\x9bd\u202ee\u00e9", "a\\x1b[2Jb\\x0ac\\xc2\\x9bd\\xe2\\x80\\xaee\u00e9"
    execute(path, f'CREATE TABLE "{name}"(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO "{name}" VALUES(1, \'one\')')
    done = vecmill.ingest(path, table=name)
    expect(done.stdout.splitlines()[0].endswith(f", table={shown}") and f"\nUsing table={shown}, id_col=id, " in done.stdout, repr(done.stdout))
    done = vecmill.ingest(path, "--text-column", "nope\x1b]0;x\a", table=name, status=1)
    expect("no column nope ]0;x  for --text-column" in done.stderr and "\\xc2\\x9bd\\xe2\\x80\\xaee" in done.stderr, repr(done.stderr))
    told = vecmill.run("jobs", "--db", path).stdout + vecmill.run("search", name, "x", "--where", "0", "--db", path).stderr
    expect(f"{shown}.embedding from text" in told and f"vecmill: table {shown}: no row that --where leaves" in told, repr(told))
    done = vecmill.run("ingest", "t", "--wor\x1bkers", status=2)
    for text in (told, done.stderr, done.stdout):
        expect(not any(c in text for c in "\x1b\x9b\u202e\a"), repr(text))


def test_failures_of_odd_keys(vecmill, folder):
    """Each key has a record of its own: a BLOB, the text that looks like its literal, and the text of its bytes."""
    path = folder / "t.db"
    literal = b"CAST(x'ff' AS TEXT)".hex()
    told = {"x'61'": "\"x'61'\"", "'x''61'''": "\"CAST(x'7827363127' AS TEXT)\"", "CAST(x'ff' AS TEXT)": "\"CAST(x'ff' AS TEXT)\"", "x'ff'": "\"x'ff'\"",
            "'CAST(x''ff'' AS TEXT)'": f"\"CAST(x'{literal}' AS TEXT)\"", "'a'": '"a"', "1": "1", "'1'": '"1"', "x'31'": "\"x'31'\""}
    execute(path, "CREATE TABLE t(id PRIMARY KEY, text TEXT, embedding BLOB);" + "".join(f"INSERT INTO t VALUES({key}, 'never', NULL);" for key in told)
            + "CREATE TRIGGER no BEFORE UPDATE OF embedding ON t BEGIN SELECT raise(ABORT, 'never'); END;")
    vecmill.ingest(path, status=3)
    expect({key for key, in query(path, "SELECT key FROM vecmill_failures")} == {*told.values()}, str(query(path, "SELECT key FROM vecmill_failures")))
    execute(path, "DROP TRIGGER no; UPDATE t SET text = 'fine now' WHERE id = 'x''61'''")
    vecmill.ingest(path, status=3)
    left = query(path, "SELECT count(*), count(*) FILTER (WHERE key = '\"x''61''\"') FROM vecmill_failures")
    expect(left == [(len(told) - 1, 1)], f"the record of another key went: {left}")


def test_triggers(vecmill, folder):
    """However a trigger refuses a row, that row alone has failed: even where it takes the whole transaction with it."""
    refused = "the database refused the vector: not this one"
    for refusal, reason in (("ABORT, 'not this one'", refused), ("FAIL, 'not this one'", refused), ("ROLLBACK, 'not this one'", refused),
                            ("IGNORE", "the database passed over the vector: a trigger on the table ignores the update")):
        path = folder / f"{refusal[:4]}.db"
        make_table(path, 30, seed=8, blank_every=0)
        execute(path, f"""CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.id IN (3, 4, 17, 30)
                          BEGIN SELECT raise({refusal}); END""")
        done = vecmill.ingest(path, 10, status=3)
        expect(f"vecmill: table t: 4 rows could not be embedded, the first because: {reason} (" in done.stderr, done.stderr)
        expect("Embedded 26 rows" in done.stdout and "Progress: 30 / 30" in done.stdout, done.stdout)
        failed = query(path, "SELECT key, reason FROM vecmill_failures ORDER BY CAST(key AS INTEGER)")
        expect(failed == [(key, reason) for key in ("3", "4", "17", "30")], str(failed))
        expect(query(path, "SELECT id FROM t WHERE embedding IS NULL") == [(3,), (4,), (17,), (30,)], "others have failed")
        expect(query(path, "SELECT count(*), count(DISTINCT id) FROM log") == [(26, 26)], "written more than once")


def test_reader_of_progress_leaves(vecmill, folder):
    """The work goes on without it; that the end could not be told makes the exit status."""
    path = folder / "t.db"
    make_table(path, 400, seed=8, blank_every=0)
    process = vecmill.start("ingest", "t", 1, "--db", path, "--model", vecmill.model)
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    expect(process.wait(60) == 1 and errors == "vecmill: cannot write standard output: an earlier part was lost\n", f"{process.returncode} {errors}")
    expect(query(path, "SELECT count(embedding) FROM t") == [(400,)], "work was lost")


def test_texts(vecmill, folder):
    path = folder / "t.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text)")
        values = ["plain", "long " * 3000, b"bytes", 12, b"bad \xff\xc3 bytes", "nul\0inside"]
        db.executemany("INSERT INTO t(text) VALUES(?)", [(v,) for v in values])
        db.execute("INSERT INTO t(text) VALUES(CAST(x'61ff' AS TEXT))")
    db.close()
    summary = vecmill.ingest_json(path)[-1]
    expect((summary["written"], summary["truncated"], summary["repaired"]) == (7, 1, 2), str(summary))


def test_read_only(vecmill, folder):
    """A file, then a folder, that may not be written: nothing begun, something begun, and WAL, which needs files beside it."""
    user = vecmill.without_rights(folder)
    write_both = "(vecmill must be able to write to the file and to its folder)"
    for name, mode, limit, problem in (
            ("new", "delete", 0, "cannot create vecmill's tables"), ("begun", "delete", 3, "cannot write a vector"),
            ("new-wal", "wal", 0, "cannot create vecmill's tables"), ("begun-wal", "wal", 3, "cannot write a vector")):
        place = folder / name
        place.mkdir()
        path = place / "t.db"
        make_table(path, 10, seed=9)
        execute(path, f"PRAGMA journal_mode = {mode}")
        if limit:
            vecmill.ingest(path, "--limit", limit)
        place.chmod(0o777)
        path.chmod(0o444)
        refused(user, path, f"{path}: {problem}: attempt to write a readonly database {write_both}", status=1)
        for beside in place.glob("t.db-*"):
            beside.unlink()  # SQLite's own, of a WAL that may be read alone
        path.chmod(0o666)
        place.chmod(0o555)
        try:
            if mode == "wal":
                refused(user, path, f"{path}: cannot read the database: attempt to write a readonly database {write_both}", status=1)
            else:
                refused(user, path, f"cannot lock {path}-vecmill-lock: Permission denied "
                                    "(vecmill must be able to write to that file and to its folder)", status=1)
        finally:
            place.chmod(0o777)
        expect(sorted(p.name for p in place.iterdir()) == ["t.db"], f"left behind: {list(place.iterdir())}")
        user.ingest(path)
        expect(query(path, "SELECT count(embedding) FROM t") == [(10,)], "with the rights given back: not all")


def test_header_and_journal_files(vecmill, folder):
    """Of the journal modes a database keeps WAL alone, in bytes 18 and 19 of its header. A run in another rollback mode than
    the connection's own, DELETE, would leave a journal behind; one in WAL that was not closed would leave its log."""
    for mode, versions in (("wal", b"\2\2"), ("delete", b"\1\1")):
        path = folder / f"{mode}.db"
        make_table(path, 100, seed=10)
        execute(path, f"PRAGMA journal_mode = {mode}")
        expect(path.read_bytes()[18:20] == versions, "the database is not in the mode to be tested")
        vecmill.ingest(path, 10)
        now = path.read_bytes()[18:20]
        expect(now == versions, f"{mode}: bytes 18 and 19 became {now}")
        left = sorted(p.name for p in folder.glob(f"{mode}.db*"))
        expect(left == [f"{mode}.db"], f"left behind: {left}")


def in_terminal(vecmill, words, columns: int, locale: str) -> tuple:
    """Runs the command in a pseudo-terminal; what it drew and its exit status."""
    import fcntl
    import termios
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([vecmill.command, *map(str, words)], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                               env={**vecmill.environment, "TERM": "xterm", "LC_ALL": locale}, start_new_session=True)
    drawn, end = b"", b"\0the end"
    while process.poll() is None:  # the slave stays open here: what is in it when its last holder goes may be lost
        if select.select([master], [], [], 0.05)[0]:
            drawn += os.read(master, 65536)
    os.write(slave, end)
    while not drawn.endswith(end):  # the kernel may be late to hand on what was written before
        drawn += os.read(master, 65536)
    os.close(slave)
    os.close(master)
    return drawn.removesuffix(end).decode("utf-8"), process.returncode


def test_bar(vecmill, folder):
    for columns, locale in ((100, "C.UTF-8"), (100, "C"), (30, "C.UTF-8"), (12, "C"), (1, "C.UTF-8")):
        path = folder / f"{columns}-{locale}.db"
        make_table(path, 1000, seed=11)
        drawn, status = in_terminal(vecmill, ("ingest", "t", 50, "--db", path, "--model", vecmill.model), columns, locale)
        expect(status == 0, f"exit {status}: {drawn}")
        bars = [part.split("\x1b[K")[0] for part in drawn.split("\r") if "\x1b[K" in part]
        expect(bars and all(len(bar) < max(columns, 2) for bar in bars), f"{columns}: {bars[-3:]}")
        if columns >= 12:
            expect("100%" in bars[-1], bars[-1])
        if columns == 100:
            expect("rows/s" in bars[-1] and "tokens/s" in bars[-1] and any("ETA" in bar for bar in bars), str(bars[-3:]))
            expect(("█" in bars[-1]) == (locale == "C.UTF-8") and ("#" in bars[-1]) == (locale == "C"), bars[-1])
        expect("Embedded 980 rows" in drawn, drawn[-500:])


def test_million_blanks(vecmill, folder):
    path = folder / "t.db"
    execute(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);"
                  "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < 1000000) INSERT INTO t SELECT v, '' FROM n;"
                  "INSERT INTO t(text) VALUES('the only text'); UPDATE t SET text = 'and the first' WHERE id = 1")
    start = time.monotonic()
    summary = vecmill.ingest_json(path, 1)[-1]
    seconds = time.monotonic() - start
    expect((summary["written"], summary["blank"]) == (2, 999999), str(summary))
    print(f"    a million blank rows: {seconds:.2f} s")
    expect(seconds < 60, f"{seconds:.1f} s: blank rows are fetched again and again")  # paging over them by row takes hours


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
