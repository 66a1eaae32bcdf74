#!/usr/bin/python3
"""Rows edited, inserted, deleted and given other keys by somebody else all the time that runs go on and are killed.

  test_edits.py --vecmill PATH [--model DIR] [--seconds N] [--seed S]

First plain runs, then runs with --changed; each is started again as soon as it ends, and now and then killed. At every
moment of it, by a log that a trigger keeps, a vector lands only on the text that it was made from. Once the edits stop,
--changed leaves every row with its own text's vector and none missing, and one more finds nothing to do. What a text's
vector is `vecmill embed` says, afterwards and of the texts alone. tests/pg/test_edits_shared.py does it with processes
that share a table in PostgreSQL.

Hashes are kept by the key, so that a key which is changed takes its row away from its hash, or to another's
(docs/ingest.md): rows that get a new key here are such as have no vector, or were never edited, and are not edited later.
"""
import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import threading
import time

sys.dont_write_bytecode = True
from ingest_case import Vecmill, execute, expect, made_alone, query, text_of  # noqa: E402

N_ROWS, N_TEXTS = 3000, 500
MOVED = 1000000  # keys from here on are of rows that were given them
SECONDS = 3 if os.environ.get("VECMILL_TEST") == "short" else 5
BATCH, SLEEP_S, PAUSE_S = 20, 0.01, 0.003
COLUMNS = "id INTEGER PRIMARY KEY, text TEXT, was TEXT, edited INTEGER NOT NULL DEFAULT 0, moved INTEGER NOT NULL DEFAULT 0"


def edit_sql(rng: random.Random, texts: int, i: int, at: int) -> str:
    """One transaction of somebody else's, about the rows from `at` on. t's other texts are in `texts`, by number."""
    def text() -> str:
        return f"(SELECT text FROM texts WHERE n = {rng.randrange(texts)}) || ' {i} ' || id"

    row, free = f"id = {at} AND moved = 0", "moved = 0"
    some = f"id BETWEEN {at} AND {at + rng.randrange(30)} AND {free}"
    pair, other = f"id IN ({at}, {at + 1})", f"CASE t.id WHEN {at} THEN {at + 1} ELSE {at} END"

    def both(condition: str) -> str:
        return f"{pair} AND 2 = (SELECT count(*) FROM t WHERE {pair} AND {condition})"

    return rng.choice([
        f"UPDATE t SET text = {text()}, edited = 1 WHERE {some}",
        f"UPDATE t SET text = {text()}, edited = 1, embedding = NULL WHERE {some}",
        f"UPDATE t SET was = text, text = {text()}, edited = 1 WHERE {some} AND was IS NULL",
        f"UPDATE t SET text = was, was = NULL WHERE was IS NOT NULL AND {free}",
        f"UPDATE t SET text = {rng.choice(['NULL', chr(39) * 2, chr(39) + ' ' + chr(39)])}, edited = 1 WHERE {row}",
        f"DELETE FROM t WHERE id = {at}",
        f"INSERT INTO t(id, text) SELECT {at}, {text().replace('id', str(at))} WHERE NOT EXISTS (SELECT 1 FROM t WHERE id = {at})",
        f"INSERT INTO t(id, text) VALUES({10000 + i}, 'new {i}'), ({-i}, 'before {i}')",
        f"UPDATE t SET text = (SELECT o.text FROM t AS o WHERE o.id = {other}), edited = 1 WHERE {both(free)}",
        # two rows that have vectors change keys: there is a hash for each, and it is the other one's
        f"UPDATE t SET id = -{MOVED} - id, moved = 1 WHERE {both('embedding IS NOT NULL AND edited = 0 AND moved = 0')}; "
        f"UPDATE t SET id = {2 * at + 1} + {MOVED} + id WHERE id < -{MOVED}",
        f"UPDATE t SET id = {MOVED + i}, moved = 1 WHERE {row} AND (embedding IS NULL OR edited = 0)",
    ])


class SqliteTable:
    """t in a file; runs of it cannot share it."""

    n_processes = 1

    def __init__(self, vecmill: Vecmill):
        self.path = vecmill.folder / "edits.db"
        self.words = ("--db", self.path)
        self.editor = None

    def make(self, texts: list) -> None:
        execute(self.path, f"""CREATE TABLE texts(n INTEGER PRIMARY KEY, text TEXT); CREATE TABLE t({COLUMNS}, embedding BLOB);
            CREATE TABLE log(id INTEGER, text TEXT, embedding BLOB);
            CREATE TRIGGER wrote AFTER UPDATE OF embedding ON t WHEN new.embedding IS NOT NULL BEGIN INSERT INTO log VALUES(new.id, new.text, new.embedding); END""")
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            db.executemany("INSERT INTO texts VALUES(?, ?)", enumerate(texts))
            db.execute(f"WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < {N_ROWS}) "
                       "INSERT INTO t(id, text) SELECT i, texts.text || ' ' || i FROM r JOIN texts ON n = i % ?", (len(texts),))
            db.commit()

    def at(self, rng: random.Random) -> int:
        """Half of them where pages are in flight, beyond what was written last."""
        if self.editor is None:  # the thread's own
            self.editor = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        if rng.random() < 0.5:
            last = self.editor.execute("SELECT id FROM log ORDER BY rowid DESC LIMIT 1").fetchone()
            if last and last[0] < N_ROWS:
                return last[0] + rng.randrange(6 * BATCH)
        return rng.randrange(1, N_ROWS)

    def edit(self, sql: str) -> None:
        try:
            for statement in ("BEGIN IMMEDIATE", *sql.split("; "), "COMMIT"):
                self.editor.execute(statement)
        except sqlite3.IntegrityError:  # a key that is taken
            self.editor.execute("ROLLBACK")

    def end_editing(self) -> None:
        if self.editor:
            self.editor.close()

    def rows(self) -> list:
        return query(self.path, "SELECT text, embedding FROM t")

    def log(self) -> list:
        return query(self.path, "SELECT DISTINCT text, embedding FROM log")


class Edits:
    def __init__(self, vecmill: Vecmill, table, seed: int):
        self.vecmill, self.table, self.rng = vecmill, table, random.Random(seed)
        self.seed = seed
        self.stop, self.problem = threading.Event(), None
        self.n_edits = self.n_kills = self.n_runs = self.n_lost = 0
        self.runs = []

    def start(self, *words):
        self.n_runs += 1
        path = self.vecmill.folder / f"run-{self.n_runs}"
        with open(path, "w", encoding="utf-8") as out:
            run = self.vecmill.start("ingest", "t", BATCH, *self.table.words, "--model", self.vecmill.model, "--workers", 2, "--sleep", SLEEP_S,
                                     "--progress", "json", *words, stdout=out)
        run.path = path
        return run

    def take_end(self, run, statuses: tuple) -> None:
        """Of a run that ended by itself, or was asked to; 3: rows that were edited faster than it could follow are left."""
        _, errors = run.communicate(timeout=180)
        if run.returncode == -signal.SIGTERM and 143 in statuses:  # it had hardly begun
            return
        lines = run.path.read_text(encoding="utf-8").splitlines()
        expect(run.returncode in statuses, f"exit {run.returncode}: {errors} {lines[-2:]}")
        told = json.loads(lines[-1])
        expect(told["failed"] == 0, str(told))
        self.n_lost += told["changed"]

    def edit(self) -> None:
        rng = random.Random(self.seed + 1)
        try:
            while not self.stop.is_set():
                self.n_edits += 1
                self.table.edit(edit_sql(rng, N_TEXTS, self.n_edits, self.table.at(rng)))
                time.sleep(PAUSE_S)
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = problem
        finally:
            self.table.end_editing()

    def phase(self, seconds: float, *words) -> None:
        self.runs = [self.start(*words) for _ in range(self.table.n_processes)]
        until, kill_at = time.monotonic() + seconds, time.monotonic() + self.rng.uniform(0.5, 1.5)
        while time.monotonic() < until or (self.n_lost == 0 and time.monotonic() < until + 20):
            time.sleep(0.05)
            expect(self.problem is None, f"the editor: {self.problem}")
            for i, run in enumerate(self.runs):
                if run.poll() is not None:
                    self.take_end(run, (0, 3))
                    self.runs[i] = self.start(*words)
            if time.monotonic() > kill_at:
                i = self.rng.randrange(len(self.runs))
                self.runs[i].kill()
                self.runs[i].communicate()
                self.n_kills += self.runs[i].returncode == -signal.SIGKILL
                self.runs[i] = self.start(*words)
                kill_at = time.monotonic() + self.rng.uniform(0.5, 1.5)

    def run(self, seconds: float) -> None:
        self.table.make([text_of(self.rng) for _ in range(N_TEXTS)])
        editor = threading.Thread(target=self.edit)
        editor.start()
        try:
            self.phase(seconds / 2)
            for run in self.runs:
                run.send_signal(signal.SIGTERM)
            for run in self.runs:
                self.take_end(run, (0, 3, 143))
            self.phase(seconds / 2, "--changed")
        finally:
            self.stop.set()
            editor.join()
        expect(self.problem is None, f"the editor: {self.problem}")
        for run in self.runs:
            self.take_end(run, (0, 3))

    def changed(self) -> dict:
        run = self.start("--changed")
        self.take_end(run, (0,))
        return json.loads(run.path.read_text(encoding="utf-8").splitlines()[-1])

    def check(self) -> None:
        told = self.changed()
        expect(told["left"] == 0 and told["failed"] == 0, str(told))
        rows, log = self.table.rows(), self.table.log()
        texts = dict.fromkeys(text for text, _ in rows + log if (text or "").strip())
        alone = made_alone(self.vecmill, self.vecmill.folder, list(texts))
        wrong = [text for text, vector in log if vector != alone.get(text)]
        expect(not wrong, f"{len(wrong)} of {len(log)} vectors landed on a text that they were not made from: {wrong[:3]}")
        wrong = [text for text, vector in rows if vector != alone.get(text)]
        expect(not wrong, f"{len(wrong)} of {len(rows)} rows without their own text's vector: {wrong[:3]}")
        again = self.changed()
        expect([again[name] for name in ("written", "outdated", "removed", "left")] == [0] * 4, f"something was left to do: {again}")
        expect(self.n_lost > 0 and self.n_kills > 0, f"{self.n_lost} texts edited while being embedded, {self.n_kills} kills: nothing was shown")
        print(f"{self.n_edits} edits, {self.n_runs} runs, {self.n_kills} kills: {len(log)} vectors landed, each on its own text; {self.n_lost} did not, their "
              f"texts were edited meanwhile; {len(rows)} rows right in the end", flush=True)


def main(make_table) -> int:
    """make_table(vecmill) gives a context of a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    parser.add_argument("--model", help="a directory; a tiny random BERT if none is named")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, help="default: VECMILL_SEED, else drawn",
                        default=int(os.environ.get("VECMILL_SEED") or random.SystemRandom().randrange(1 << 32)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    vecmill = Vecmill(arguments.vecmill, arguments.model)
    try:
        with make_table(vecmill) as table:
            edits = Edits(vecmill, table, arguments.seed)
            edits.run(arguments.seconds)
            edits.check()
            print("1 passed, 0 failed")
    finally:
        vecmill.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(lambda vecmill: contextlib.nullcontext(SqliteTable(vecmill))))
