#!/usr/bin/python3
"""vecmill ingest through the real command on what users ask, and on what their databases and disks do to it.

  test_adverse.py --vecmill PATH [--model DIR] [NAME..]
"""
import fcntl
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from ingest_case import execute, expect, make_table, query, refused, run_tests, vectors

WHAT_WHERE = "(give what would follow WHERE)"


def test_where(vecmill, folder):
    """One condition, or nothing is begun: "a) OR (b" would reach past its brackets, to the conditions beside it."""
    path = folder / "t.db"
    make_table(path, 50, seed=21, blank_every=0)
    for where, problem in (
            ("id =", "incomplete input"), ("id IN (1, 2", "incomplete input"), ("-- id = 3", "incomplete input"), ("id < 5;", 'near ";": syntax error'),
            ("id < 5; DROP TABLE t", "more than one condition"), ("id < 5 ORDER BY id", 'near "ORDER": syntax error'),
            ("id < 5) OR (id > 40", 'near ")": syntax error'), ("nope = 1", "no such column: nope"),
            ("1); SELECT (1", 'near ")": syntax error')):
        refused(vecmill, path, f"--where {where}: {problem} {WHAT_WHERE}", 2, "--where", where, status=2, timeout=60)
    for where in ("", " ", "\n\t"):
        empty = "--where is empty (give a condition, or leave it out)"
        refused(vecmill, path, empty, 2, "--where", where, status=2)
        done = vecmill.run("search", "t", "star", "--db", path, "--where", where, status=2)
        expect((done.stdout, done.stderr) == ("", f"vecmill: {empty}\n"), done.stdout + done.stderr)
    refused(vecmill, path, "--where id = ?: holds a parameter (write the value)", "--where", "id = ?", status=2)
    vecmill.ingest(path, 2, "--where", "text <> ';)' AND id < 5 OR id > 40 -- of 50")
    got = query(path, "SELECT id FROM t WHERE embedding IS NOT NULL ORDER BY id")
    expect(got == [(i,) for i in (*range(1, 5), *range(41, 51))], str(got))


def plain_table(path, texts: dict) -> None:
    """What other tables are compared with: t(id, text)."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO t VALUES(?, ?)", texts.items())
        db.commit()


def vectors_of(vecmill, folder, texts: dict) -> dict:
    """The vectors that a plain table of these texts gets, by id."""
    path = folder / "plain.db"
    plain_table(path, texts)
    vecmill.ingest(path)
    return vectors(path)


def test_triggers_undo(vecmill, folder):
    """A trigger that takes the vector away again, or changes the text with it, within the statement that writes it: the row has failed, beside one that only logs."""
    path = folder / "t.db"
    for words in ((), ("--changed",)):
        path.unlink(missing_ok=True)
        make_table(path, 60, seed=4, blank_every=0)
        execute(path, """CREATE TRIGGER b AFTER UPDATE OF embedding ON t WHEN new.id = 7 AND new.embedding IS NOT NULL BEGIN UPDATE t SET embedding = NULL WHERE id = 7; END;
            CREATE TRIGGER c AFTER UPDATE OF embedding ON t WHEN new.id IN (9, 50) BEGIN UPDATE t SET text = text || '!' WHERE id = new.id; END""")
        done = vecmill.ingest(path, 20, *words, "--create-metrics", status=3)
        expect("3 rows could not be embedded, the first because: the database passed over the vector: a trigger on the table takes it away, or changes the text with it" in done.stderr, done.stderr)
        expect(query(path, "SELECT key FROM vecmill_failures ORDER BY key") == [("50",), ("7",), ("9",)], "which failed")
        expect(query(path, "SELECT count(embedding), sum(text LIKE '%!'), (SELECT count(*) FROM t_metrics), (SELECT count(*) FROM vecmill_hashes), (SELECT count(*) FROM log) FROM t")
               == [(57, 0, 57, 57, 57)], "what is there")


def test_generated_columns(vecmill, folder):
    """Texts and ids may be generated, and others may be made from the vector; the vector itself may not."""
    expected = vectors_of(vecmill, folder, {1: "small engine", 2: "the stars"})
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
        expect(got == [("k1", expected[1], len(expected[1])), ("k2", expected[2], len(expected[2]))], str(got))
        expect(query(path, "PRAGMA integrity_check") == [("ok",)], "an index is wrong")
        path = folder / f"{kind}-vector.db"
        execute(path, f"CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, Embedding AS (NULL) {kind}); INSERT INTO t(text) VALUES('a')")
        refused(vecmill, path, "table t: Embedding is a generated column, and vectors cannot be written there "
                               "(name another with --vector-column)", status=2)
        vecmill.ingest(path, "--vector-column", "other")


def test_batch_and_limit(vecmill, folder):
    path = folder / "t.db"
    make_table(path, 50, seed=22)
    whole = path.read_bytes()
    refused(vecmill, path, "BATCH 0: not a number of rows (1 to 1000000)", 0, status=2)
    refused(vecmill, path, "BATCH 1000001: not a number of rows (1 to 1000000)", 1000001, status=2)
    refused(vecmill, path, "--limit 0: not a number of rows (1 or more)", "--limit", 0, status=2)
    vecmill.ingest(path)
    expected = vectors(path)
    for batch, n_batches in ((1, 49), (1000000, 1)):
        path = folder / f"{batch}.db"
        path.write_bytes(whole)
        events = vecmill.ingest_json(path, batch)
        expect(sum(event["event"] == "batch" for event in events) == n_batches, f"batch {batch}: {events}")
        expect(vectors(path) == expected, f"batch {batch}: other bytes")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_strange_names(vecmill, folder):
    texts = {"a": "small engine", "b": "the stars", "c": "disks; broken"}
    expected = list(vectors_of(vecmill, folder, dict(enumerate(texts.values()))).values())
    for n, (table, key, text, vector) in enumerate((
            ("table", "order", "where", "select"), (" a table ", " id ", " text ", " "), ("t;--", "a;b", "/* c", "*/ d"),
            ('say "t"', '"', '""', '"v'), ("it's", "'", "''", "'v'"), ("main.t", "t.id", "[text]", "`v`"),
            ("таблица", "ключ", "テキスト", "vecteur_é🙂"), ("a\nb", "k\n", "te\nxt", "v\t"), ("%s%n", ":k0", "?1", "@v $v"),
            ("x", "a,b", "text", "v,w"),
            ("T" * 2000, "K" * 2000, "X" * 2000, "V" * 2000))):
        path = folder / f"{n}.db"
        t, k, x, v = map(quoted, (table, key, text, vector))
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"CREATE TABLE {t}({k} TEXT NOT NULL UNIQUE, {x} TEXT, text_too TEXT)")
            db.executemany(f"INSERT INTO {t}({k}, {x}) VALUES(?, ?)", texts.items())
            db.commit()
        columns = ("--id-column", key, "--text-column", text, "--vector-column", vector)
        vecmill.ingest(path, 2, *columns, "--where", f"{k} <> 'c'", "--progress", "off", table=table)
        got = query(path, f"SELECT {v} FROM {t} ORDER BY {k}")
        expect(got == [(expected[0],), (expected[1],), (None,)], f"{table!r}: {got}")
        vecmill.ingest(path, *columns, "--limit", 3, "--progress", "off", table=table)
        expect(query(path, f"SELECT {v} FROM {t} ORDER BY {k}") == [(one,) for one in expected], f"{table!r}: not completed")
        got = query(path, "SELECT table_name, vector_column FROM vecmill_columns")
        expect(got == [(table, vector)], f"recorded as {got}")
        done = vecmill.run("search", table, "the stars", "--db", path, *columns, "-k", 1, "--json")
        expect([json.loads(line)["id"] for line in done.stdout.splitlines()] == ["b"], f"{table!r}: {done.stdout}")


def test_large_texts(vecmill, folder):
    """10 MB in one row: what the model reads of it is what counts, and so it is said."""
    path = folder / "t.db"
    expected = vectors_of(vecmill, folder, {1: "engine " * 3000, 2: "x" * 200})
    plain_table(path, {1: "engine " * 1500000, 2: "x" * 10_000_000})
    summary = vecmill.ingest_json(path)[-1]
    expect(vectors(path) == expected, "other bytes than a short text's that begins so")
    expect((summary["written"], summary["truncated"], summary["failed"]) == (2, 1, 0), str(summary))


def test_foreign_keys(vecmill, folder):
    """Rows that others refer to, and one that refers to nothing: all are embedded, none is moved."""
    path = folder / "t.db"
    execute(path, """
        CREATE TABLE parent(id INTEGER PRIMARY KEY);
        CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, parent REFERENCES parent(id) ON UPDATE CASCADE ON DELETE CASCADE);
        CREATE TABLE child(id INTEGER PRIMARY KEY, t REFERENCES t(id) ON UPDATE SET NULL ON DELETE CASCADE);
        CREATE TABLE gone(id);
        CREATE TRIGGER gone_t AFTER DELETE ON t BEGIN INSERT INTO gone VALUES(old.id); END;
        INSERT INTO parent VALUES(1), (2);
        INSERT INTO t VALUES(1, 'small engine', 1), (2, 'the stars', 2), (3, 'broken disks', 99);
        INSERT INTO child VALUES(1, 1), (2, 1), (3, 77);""")
    state = ("SELECT id, text, parent FROM t", "SELECT * FROM child", "SELECT * FROM parent", "SELECT * FROM gone",
             "PRAGMA foreign_key_check", "PRAGMA foreign_key_list(t)", "PRAGMA foreign_key_list(child)")
    before = [query(path, sql) for sql in state]
    expect(len(before[4]) == 2, f"not the two dangling rows: {before[4]}")
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA foreign_keys = ON")  # another program's connection, open all the while
        db.execute("SELECT count(*) FROM t").fetchall()
        vecmill.ingest(path)
        expect([query(path, sql) for sql in state] == before, "something else than the vectors changed")
        db.execute("DELETE FROM parent WHERE id = 1")
    expect(query(path, "SELECT id, embedding IS NULL FROM t") == [(2, 0), (3, 0)], "the cascade does not work any more")
    expect(query(path, "SELECT id FROM child") == [(3,)], "the cascade does not work any more")


def test_other_lengths(vecmill, folder):
    """A column that holds anything but this model's vectors is refused, recorded or not."""
    n_bytes = len(vectors_of(vecmill, folder, {1: "a"})[1])
    for recorded in (False, True):
        for value, length in (("x'00112233'", 4), ("''", 0), ("'text'", 4), ("1.5", 3), (f"zeroblob({2 * n_bytes})", 2 * n_bytes),
                              (f"zeroblob({n_bytes - 1})", n_bytes - 1), (f"printf('%{n_bytes}d', 1)", n_bytes)):
            path = folder / "t.db"
            path.unlink(missing_ok=True)
            make_table(path, 20, seed=23)
            if recorded:
                vecmill.ingest(path, "--limit", 10)
            execute(path, f"UPDATE t SET embedding = {value} WHERE id = 15")
            refused(vecmill, path, f"table t: column embedding holds other things than vectors of {n_bytes // 4} numbers "
                                   f"({n_bytes} bytes each; one has {length}) (use the model that made it, or another "
                                   "--vector-column)", status=1)


DAMAGED = "database disk image is malformed (the file is damaged: restore a backup, or try sqlite3 FILE .recover)"


def test_damaged_files(vecmill, folder):
    """Told as damage, and left as it was found."""
    whole, path = folder / "whole.db", folder / "t.db"
    make_table(whole, 1500, seed=24)
    execute(whole, "PRAGMA page_size = 4096; VACUUM")
    vecmill.ingest(whole, "--limit", 100)
    data, root = whole.read_bytes(), query(whole, "SELECT rootpage FROM sqlite_schema WHERE name = 't'")[0][0]
    n_pages = len(data) // 4096

    def without(page):
        return data[:(page - 1) * 4096] + bytes(4096) + data[page * 4096:]

    for damaged, problem in (
            (without(root), f"cannot read the vector column: {DAMAGED}"),
            (without(n_pages // 2), f"cannot read the vector column: {DAMAGED}"),
            (data[:n_pages // 2 * 4096], f"cannot read the database: {DAMAGED}"),
            (data[:5000], f"cannot read the database: {DAMAGED}"),
            (data[:50], f"cannot read the database: {DAMAGED}"),
            (b"SQLite format 3\0" + b"\xff" * 8176, "cannot read the database: file is not a database (is it an SQLite database?)"),
            (b"not a database at all\n" * 400, "cannot read the database: file is not a database (is it an SQLite database?)"),
            (b"", "no table t (the database holds no table)")):
        path.write_bytes(damaged)
        refused(vecmill, path, f"{path}: {problem}", status=1, timeout=60)
        left = sorted(p.name for p in folder.glob("t.db*"))
        expect(left == ["t.db"], f"left behind: {left}")


def test_damage_met_while_writing(vecmill, folder):
    """The page that a trigger writes to is gone: what was committed stays, nothing else lands."""
    path = folder / "t.db"
    make_table(path, 300, seed=24)
    execute(path, "PRAGMA page_size = 4096; VACUUM")
    vecmill.ingest(path, "--limit", 100)
    before = vectors(path)
    root = query(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'log'")[0][0]
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(bytes(4096))
    refused(vecmill, path, f"{path}: cannot write a vector: {DAMAGED}", status=1)
    expect(vectors(path) == before and sum(v is not None for v in before.values()) == 98, "the rows are not those committed")


def short_of_room(vecmill, path, expected: dict, problems: tuple, **options) -> None:
    """A run that room runs out for: what it told as progress is what is kept, whole and right."""
    process = vecmill.start("ingest", "t", 10, "--db", path, "--model", vecmill.model, "--progress", "json", **options)
    output, errors = process.communicate(timeout=60)
    expect(process.returncode == 1 and errors in [f"vecmill: {path}: {problem}\n" for problem in problems],
           f"{process.returncode} {errors}")
    kept = {key: vector for key, vector in vectors(path).items() if vector is not None}
    summary = json.loads(output.splitlines()[-1])
    expect(0 < len(kept) < len(expected) and summary["written"] == len(kept), f"{len(kept)} rows kept: {summary}")
    expect(kept == {key: expected[key] for key in kept}, "what was committed is not what a whole run gives")
    expect(query(path, "PRAGMA integrity_check") == [("ok",)], "the database is damaged")


def finished(vecmill, path, expected: dict) -> None:
    vecmill.ingest(path, 10)
    expect(vectors(path) == expected, "not the bytes of a run that was never short of room")
    n = len(expected)
    expect(query(path, "SELECT count(DISTINCT id), count(*) FROM log") == [(n, n)], "not once each")


def large_table(vecmill, folder) -> tuple:
    """A database, and the vectors that it is to hold in the end."""
    path, whole = folder / "before.db", folder / "whole.db"
    make_table(path, 2000, seed=9, blank_every=0)
    shutil.copy(path, whole)
    vecmill.ingest(whole)
    return path, vectors(whole)


def test_file_may_not_grow(vecmill, folder):
    """A limit on the size of files (no rights are needed for that): a write that fails in the middle of the run."""
    path, expected = large_table(vecmill, folder)
    limit = path.stat().st_size + 100000

    def less_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    short_of_room(vecmill, path, expected, tuple(
        f"{what}: disk I/O error (the system refused a read or a write: look at the disk; what was committed is kept)"
        for what in ("cannot commit", "cannot write a vector", "cannot write a hash")), preexec_fn=less_room, restore_signals=False)
    finished(vecmill, path, expected)


def test_full_disk(vecmill, folder):
    """A file system of its own, with a file that fills it."""
    place = folder / "small"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place], check=False).returncode != 0:
        print("    no right to mount a small file system: only test_file_may_not_grow runs out of room")
        return
    full = "database or disk is full (make room on the disk, run again: what was committed is kept)"
    try:
        before, expected = large_table(vecmill, folder)
        for mode in ("delete", "wal"):
            path, ballast = Path(shutil.copy(before, place / "t.db")), place / "ballast"
            ballast.write_bytes(bytes((8 << 20) - path.stat().st_size))
            refused(vecmill, path, f"{path}: cannot create vecmill's tables: {full}", status=1)
            ballast.unlink()
            execute(path, f"PRAGMA journal_mode = {mode}")
            ballast.write_bytes(bytes((8 << 20) - path.stat().st_size - 200000))
            short_of_room(vecmill, path, expected, (f"cannot write a vector: {full}", f"cannot write a hash: {full}", f"cannot commit: {full}"))
            ballast.unlink()
            finished(vecmill, path, expected)
            path.unlink()
    finally:
        subprocess.run(["umount", place], check=True)


class Editor:
    """Another connection that changes rows under a run, and knows which text each vector must be of."""

    def __init__(self, path, foreign: bytes):
        self.db = sqlite3.connect(path, timeout=60, isolation_level=None)
        self.texts = dict(self.db.execute("SELECT id, text FROM t"))
        self.behind, self.ahead, self.at = min(self.texts), max(self.texts), 0
        self.foreign, self.others = foreign, set()  # a vector that somebody else writes, and where

    def edit(self) -> bool:
        """One transaction of every kind of edit, on the next rows in key order; False if the run is not beyond the last ones
        yet, and may not have claimed the next. Rows that have a vector keep it, so what theirs is of does not change."""
        self.db.execute("BEGIN IMMEDIATE")
        waiting = [i for i, in self.db.execute(f"SELECT id FROM t WHERE embedding IS NULL AND id > {self.at} ORDER BY id LIMIT 6")]
        done = [i for i, in self.db.execute("SELECT id FROM t WHERE embedding IS NOT NULL ORDER BY id DESC LIMIT 2")]
        if len(waiting) < 6 or len(done) < 2 or done[0] <= self.at:
            self.db.execute("ROLLBACK")
            return False
        time.sleep(0.1)  # the run may read, and not write: the next rows come to be in flight
        self.behind, self.ahead = self.behind - 1, self.ahead + 1
        new = {waiting[0]: "changed, not yet embedded", waiting[3]: self.texts[waiting[3]][::-1], waiting[4]: ""}
        changes = [(f"UPDATE t SET text = '{text}' WHERE id = {i}", i, text) for i, text in new.items()]
        changes += [(f"DELETE FROM t WHERE id = {i}", i, None) for i in (waiting[1], done[1])]
        changes += [(f"INSERT INTO t(id, text) VALUES({i}, 'inserted {i}')", i, f"inserted {i}") for i in (self.behind, self.ahead)]
        for sql, _, _ in changes:
            self.db.execute(sql)
        self.db.execute(f"UPDATE t SET text = text || ' edited later' WHERE id = {done[0]}")
        self.db.execute(f"UPDATE t SET text = text WHERE id = {waiting[2]}")  # a write that changes nothing
        self.db.execute("UPDATE t SET embedding = ? WHERE id = ?", (self.foreign, waiting[5]))
        self.db.execute("COMMIT")
        self.at = waiting[-1]
        self.others.add(waiting[5])
        for _, i, text in changes:
            self.texts[i] = text
            if text is None:
                del self.texts[i]
        return True


def test_edits_meanwhile(vecmill, folder):
    """Rows changed, deleted and inserted by another connection, before and behind where the run is. An edit has the
    lock for writing, so rows in flight are met: the next in key order have been claimed, as a rule. The run's lines go through
    a pipe of one page: while nobody reads it, the run halts between two commits, and an edit finds the lock free and the run
    not at its end, however fast that is and however slow the disk."""
    foreign = bytes(len(vectors_of(vecmill, folder, {1: "a"})[1]))
    for mode in ("wal", "delete"):
        path = folder / f"{mode}.db"
        make_table(path, 2000, seed=25, blank_every=0)
        execute(path, f"PRAGMA journal_mode = {mode}")
        n_edits, events, editor = 0, [], Editor(path, foreign)
        process = vecmill.start("ingest", "t", 10, "--db", path, "--model", vecmill.model, "--workers", 2, "--sleep", 0.005, "--progress", "json")
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        for line in process.stdout:
            events.append(json.loads(line))
            if events[-1]["event"] == "batch" and n_edits < 8:
                n_edits += editor.edit()
        errors = process.stderr.read()
        expect(process.wait(timeout=60) == 0 and errors == "", f"{process.returncode} {errors}")
        editor.db.close()
        expect(n_edits >= 2, f"{mode}: only {n_edits} edits got their lock")
        check_edited(vecmill, folder, path, editor)
        summary, batches = events[-1], [event for event in events if event["event"] == "batch"]
        expect(2 <= summary["changed"] <= 5 * n_edits, f"{mode}: {n_edits} edits, {summary}")
        done = [event["done"] for event in batches]
        expect(done == sorted(set(done)) and done[-1] == batches[-1]["total"], f"{mode}: progress {done}")


def check_edited(vecmill, folder, path, editor: Editor) -> None:
    expected, got = vectors_of(vecmill, folder, editor.texts), vectors(path)
    expected.update({i: editor.foreign for i in editor.others & editor.texts.keys()})
    expect(expected.keys() == got.keys(), f"not the rows that there should be: {expected.keys() ^ got.keys()}")
    wrong = [key for key in expected if expected[key] != got[key]]
    expect(not wrong, f"{len(wrong)} rows hold the vector of another text: {wrong[:10]}")
    twice = query(path, "SELECT id FROM log GROUP BY id HAVING count(*) <> 1")
    expect(not twice, f"written more than once: {twice[:10]}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
