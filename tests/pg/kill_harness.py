#!/usr/bin/python3
"""Two processes on one table, killed at random moments, their server restarted: nothing lost, nothing done twice.

  kill_harness.py --vecmill PATH [--model DIR] [--kills N] [--restarts N] [--seed S]

One of the two, drawn by lot, is killed by kill -9 (and started again), N times; in between the server is restarted, fast
and immediate. A tenth of the kills fall into the time before the first batch. What a lost process had claimed is read
from vecmill.leases after its end; batches must be in flight at 80 % of many kills. Then the runs are let finish.
The table must equal, row by row, one that was embedded undisturbed; the log that a trigger on the vector column
keeps must hold each id once; and the model must not have been run on more texts than there are, beyond those that lost
processes had claimed. These are counted by the model calls: VECMILL_COUNT_CALLS names a file that every process maps and
counts in, so that what a killed process did is in it.
Without a model named, one of many small layers is made, so that workers are at work for a good part of the time; for the rest
they rest (--sleep), so that even a fast processor does not finish the table before its kills.
"""
import argparse
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import MAKE_TINY_MODEL, Vecmill, expect, expect_in_flight, text_of  # noqa: E402
from runs import N_DIMENSIONS, log_writes, quoted  # noqa: E402
from servers import Server  # noqa: E402

BATCH = 25
SLEEP_S = 0.03
ROWS_PER_KILL, ROWS_PER_RESTART, ROWS_MORE = 150, 400, 1500


def make_tables(server, n_rows: int, seed: int) -> None:
    """`t` to be disturbed and `whole` not to be, with the same texts."""
    rng = random.Random(seed)
    texts = [text_of(rng) for _ in range(997)]
    server.psql("CREATE TABLE texts(n integer, text text); INSERT INTO texts VALUES "
                + ", ".join(f"({i}, {quoted(text)})" for i, text in enumerate(texts)))
    for table in ("whole", "t"):
        server.psql(f"""CREATE TABLE {table}(id bigint PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}));
            INSERT INTO {table} SELECT i * 7, CASE WHEN i % 50 = 0 THEN ' ' ELSE texts.text || ' ' || i / 1000 END
            FROM generate_series(1, {n_rows}) AS i JOIN texts ON n = i % 997""")
    log_writes(server, "t", "id")


class Harness:
    def __init__(self, vecmill: Vecmill, server: Server, arguments):
        self.vecmill, self.server, self.arguments = vecmill, server, arguments
        self.rng = random.Random(arguments.seed)
        self.calls = vecmill.folder / "calls"
        self.environment = vecmill.environment | {"VECMILL_COUNT_CALLS": str(self.calls)}
        self.runs, self.newest = [], 0
        self.n_kills = self.n_in_flight = self.n_claimed = self.n_refused = self.n_leases = 0

    def start(self):
        return self.vecmill.start("ingest", "t", BATCH, "--db", self.server.uri, "--model", self.vecmill.model, "--workers", 1,
                                  "--sleep", SLEEP_S, "--progress", "off", env=self.environment)

    def ask(self, sql: str) -> list:
        return self.server.psql(sql)

    def owner_of(self, pid: int) -> str:
        """The name that a process's leases bear; one that nobody has, before it has joined."""
        got = self.ask(f"SELECT owner FROM vecmill.workers WHERE pid = {pid}")
        return got[0][0] if got else "00000000-0000-0000-0000-000000000000"

    def leases_of(self, owner: str) -> tuple:
        """How many batches and rows are claimed and not committed."""
        got = self.ask(f"SELECT count(*), coalesce(sum(n_rows), 0) FROM vecmill.leases WHERE owner = '{owner}' AND NOT done")
        return int(got[0][0]), int(got[0][1])

    def look(self, during_restart: bool) -> None:
        """Who has ended is started again; only a server that is not there may have turned him away."""
        for i, run in enumerate(self.runs):
            if run.poll() is None:
                continue
            output, errors = run.communicate()
            expect(run.returncode != 0, "a run finished before its time: the table is too small")
            expect(during_restart and run.returncode == 1, f"exit {run.returncode}: {output[-300:]} {errors[-600:]}")
            self.n_refused += 1
            self.runs[i] = self.start()

    def wait_for_work(self, run) -> None:
        deadline = time.monotonic() + 60
        while run.poll() is None and self.leases_of(self.owner_of(run.pid))[0] == 0:
            expect(time.monotonic() < deadline, "no lease within a minute")

    def kill(self, early: bool) -> None:
        i = self.newest if early else self.rng.randrange(2)
        run = self.runs[i]
        if not early:
            self.wait_for_work(run)
        time.sleep(self.rng.uniform(0, 0.05 if early else 0.1))
        self.look(False)
        owner = self.owner_of(run.pid)
        run.kill()
        run.communicate()
        expect(run.returncode == -9, f"exit {run.returncode}")
        n_batches, n_rows = self.leases_of(owner)
        self.n_claimed += n_rows
        self.n_leases += n_batches
        self.n_kills += 1
        self.n_in_flight += n_batches > 0
        self.runs[i], self.newest = self.start(), i
        n = self.ask("SELECT count(embedding) FROM t")[0][0]
        print(f"  kill {self.n_kills}: {n} rows committed, {n_batches} batches in flight", flush=True)

    def restart(self, mode: str) -> None:
        for run in self.runs:
            self.wait_for_work(run)
        time.sleep(self.rng.uniform(0, 0.1))
        self.server.restart(mode)
        time.sleep(0.1)
        self.look(True)
        print(f"  restart, {mode}", flush=True)

    def disturb(self) -> None:
        self.runs = [self.start(), self.start()]
        self.wait_for_work(self.runs[0])
        n_early = self.arguments.kills // 10
        events = ["early"] * n_early + ["kill"] * (self.arguments.kills - n_early)
        events += [("fast", "immediate")[i % 2] for i in range(self.arguments.restarts)]
        self.rng.shuffle(events)
        for event in events:
            if event in ("fast", "immediate"):
                self.restart(event)
            else:
                self.kill(event == "early")

    def finish(self) -> None:
        for run in self.runs:
            output, errors = run.communicate(timeout=300)
            expect(run.returncode == 0, f"exit {run.returncode}: {output[-300:]} {errors[-600:]}")

    def end(self) -> None:
        for run in self.runs:
            if run.poll() is None:
                run.kill()
                run.communicate()

    def compare(self) -> None:
        wrong = self.ask("SELECT count(*) FROM t FULL JOIN whole USING (id) WHERE t.text IS DISTINCT FROM whole.text OR vector_send(t.embedding) IS DISTINCT "
                         "FROM vector_send(whole.embedding)")
        expect(wrong == [("0",)], f"{wrong[0][0]} rows differ from the undisturbed run's")
        n, n_log, n_ids = map(int, self.ask("SELECT count(embedding), (SELECT count(*) FROM log), (SELECT count(DISTINCT key) FROM log) FROM t")[0])
        expect(n == n_log == n_ids, f"{n} vectors, {n_log} writes of {n_ids} ids")
        left = self.ask("SELECT (SELECT count(*) FROM vecmill.leases), (SELECT count(*) FROM vecmill.workers)")
        expect(left == [("0", "0")], f"leases and workers left behind: {left}")
        n_done, n_total = map(int, self.ask("SELECT n_done, n_total FROM vecmill.columns WHERE table_name = 't'")[0])
        expect(n_done == n_total, f"the run counted {n_done} of {n_total} rows as done")
        n_texts, n_calls = struct.unpack("=QQ", self.calls.read_bytes())
        print(f"model calls: {n_texts} texts in {n_calls} calls for {n} rows: {n_texts - n} again, of {self.n_claimed} rows in {self.n_leases} batches that "
              "lost processes had claimed")
        expect(n <= n_texts <= n + self.n_claimed, "more texts were embedded again than lost processes had claimed")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    parser.add_argument("--model", help="a directory; a random BERT of --layers if none is named")
    mode = os.environ.get("VECMILL_TEST", "")
    parser.add_argument("--layers", type=int, default=120)
    parser.add_argument("--kills", type=int, default=5 if mode == "short" else 10)
    parser.add_argument("--restarts", type=int, default=1 if mode == "short" else 2)
    parser.add_argument("--seed", type=int, help="default: VECMILL_SEED, else drawn",
                        default=int(os.environ.get("VECMILL_SEED") or random.SystemRandom().randrange(1 << 32)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    vecmill = Vecmill(arguments.vecmill, arguments.model)
    try:
        if not arguments.model:
            vecmill.model = str(vecmill.folder / "deep-bert")
            subprocess.run([sys.executable, MAKE_TINY_MODEL, vecmill.model, "--layers", str(arguments.layers)], check=True)
        with Server() as server:
            n_rows = ROWS_MORE + arguments.kills * ROWS_PER_KILL + arguments.restarts * ROWS_PER_RESTART
            make_tables(server, n_rows, arguments.seed)
            start = time.monotonic()
            vecmill.run("ingest", "whole", "--db", server.uri, "--model", vecmill.model, "--progress", "off")
            print(f"undisturbed: {n_rows} rows in {time.monotonic() - start:.2f} s")
            harness = Harness(vecmill, server, arguments)
            start = time.monotonic()
            try:
                harness.disturb()
                harness.finish()
            finally:
                harness.end()
            print(f"{harness.n_kills} kills, {arguments.restarts} restarts in {time.monotonic() - start:.1f} s, {harness.n_refused} starts turned away")
            harness.compare()
            expect_in_flight(harness.n_in_flight, harness.n_kills)
            print("equal to the undisturbed run, each id written once")
            print("1 passed, 0 failed")
    finally:
        vecmill.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
