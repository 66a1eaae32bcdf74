#!/usr/bin/python3
"""Ends runs at random moments, then lets one finish: nothing may be lost and nothing done twice.

  kill_harness.py --vecmill PATH [--model DIR] [--kills N] [--signal KILL|INT|TERM] [--seed S]

One table is embedded without interruption; a copy of it is embedded by runs that are ended N times, then by one
that is let finish. Moments are uniform over the run: each is a number of rows drawn from the whole table, and a
random part of a batch's time after the line that reports it; a tenth of them fall into the time before the first batch. What was
in flight comes from the last line that the ended process printed. N is 10, and 4 where VECMILL_TEST is short. In the end the two
databases must be equal row by row, and the log that a trigger on the vector column keeps must hold each id once.
"""
import argparse
import json
import os
import random
import shutil
import signal
import sys
import time

from ingest_case import Vecmill, expect, expect_in_flight, make_table, query, vectors


def whole_run(vecmill, path, batch, workers) -> tuple:
    start = time.monotonic()
    vecmill.ingest(path, batch, "--workers", workers, "--progress", "off")
    return time.monotonic() - start


def reference(vecmill, arguments) -> tuple:
    """A table whose run takes long enough to be ended in: its path before and after, the time."""
    n_rows = arguments.rows
    while True:
        before, after = vecmill.folder / f"{n_rows}.db", vecmill.folder / f"{n_rows}-whole.db"
        make_table(before, n_rows, arguments.seed)
        shutil.copy(before, after)
        seconds = whole_run(vecmill, after, arguments.batch, arguments.workers)
        if seconds > 1.5 or n_rows >= 64000:
            return before, after, seconds
        before.unlink()
        after.unlink()
        n_rows *= 2


def n_embedded(path) -> int:
    return query(path, "SELECT count(embedding) FROM t")[0][0]


class Ended:
    """One run that was ended: where it was."""

    def __init__(self):
        self.n_done, self.n_in_flight, self.returncode, self.summary, self.events = 0, 0, None, None, 0

    def look(self, line: str) -> None:
        if not line.endswith("\n"):
            return  # cut in the middle by the kill
        event = json.loads(line)
        if event["event"] in ("batch", "progress"):
            self.n_done, self.n_in_flight = event["done"], event["in_flight"]
            self.events += 1
        if event["event"] == "summary":
            self.summary = event


def end_one(vecmill, path, arguments, number, rng, target_rows, batch_seconds) -> Ended | None:
    """None: the run finished before its moment came."""
    ended, n_before = Ended(), n_embedded(path)
    process = vecmill.start("ingest", "t", arguments.batch, "--db", path, "--model", vecmill.model, "--workers",
                            arguments.workers, "--progress", "json")
    if target_rows is None:  # before the first batch
        time.sleep(rng.uniform(0, 0.05))
    else:
        for line in process.stdout:
            ended.look(line)
            if ended.events and n_before + ended.n_done >= target_rows:
                time.sleep(rng.uniform(0, batch_seconds))
                break
    process.send_signal(number)
    rest, errors = process.communicate(timeout=120)
    ended.returncode = process.returncode
    lines = rest.splitlines(keepends=True)
    if lines and not lines[0].startswith("{"):
        del lines[0]  # the loop above has read ahead: the beginning of this one is in its buffer
    for line in lines:
        ended.look(line)
    if process.returncode == 0:
        return None
    if number == signal.SIGKILL:
        expect(process.returncode == -signal.SIGKILL, f"exit {process.returncode}: {errors}")
    else:
        expect(process.returncode == 128 + number, f"exit {process.returncode}, not {128 + number}: {errors}")
        expect(ended.summary is not None and ended.summary["status"] in ("stopped", "busy"), f"no summary: {rest[-500:]}")
        expect(n_embedded(path) == n_before + ended.summary["written"], "the summary's count is not what was committed")
    return ended


def end_many(vecmill, path, arguments, n_total, batch_seconds) -> tuple:
    """How many runs were ended, and at how many of these ends batches were in flight."""
    rng = random.Random(arguments.seed)
    number = getattr(signal, "SIG" + arguments.signal)
    n_early = arguments.kills // 10
    targets = [None] * n_early + sorted(rng.uniform(0, n_total * 0.97) for _ in range(arguments.kills - n_early))
    n_in_flight = n_ended = 0
    for target in targets:
        ended = end_one(vecmill, path, arguments, number, rng, target, batch_seconds)
        if ended is None:
            print(f"  run finished before its moment (row {target:.0f} of {n_total})")
            continue
        n_ended += 1
        n_in_flight += ended.n_in_flight > 0
        print(f"  {arguments.signal} {n_ended}: {n_embedded(path)} of {n_total} rows committed, {ended.n_in_flight} in flight", flush=True)
    # The last of them may come too late on a busy machine, however large the table.
    expect(n_ended >= min(0.9 * arguments.kills, arguments.kills - 1), f"only {n_ended} of {arguments.kills} runs were ended: the table is too small")
    return n_ended, n_in_flight


def compare(whole, ended) -> None:
    expected, got = vectors(whole), vectors(ended)
    wrong = [key for key in expected if expected[key] != got.get(key)]
    expect(expected.keys() == got.keys() and not wrong, f"{len(wrong)} rows differ from the uninterrupted run's: {wrong[:10]}")
    n_vectors = sum(v is not None for v in expected.values())
    twice = query(ended, "SELECT id, count(*) FROM log GROUP BY id HAVING count(*) <> 1")
    expect(not twice, f"written more than once: {twice[:10]}")
    n_logged = query(ended, "SELECT count(*) FROM log")[0][0]
    expect(n_logged == n_vectors, f"{n_logged} writes for {n_vectors} vectors")
    expect(query(ended, "PRAGMA integrity_check") == [("ok",)], "the database is damaged")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    parser.add_argument("--model", help="a directory; a tiny random BERT if none is named")
    parser.add_argument("--kills", type=int, default=4 if os.environ.get("VECMILL_TEST") == "short" else 10)
    parser.add_argument("--signal", choices=("KILL", "INT", "TERM"), default="KILL")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, help="default: VECMILL_SEED, else drawn",
                        default=int(os.environ.get("VECMILL_SEED") or random.SystemRandom().randrange(1 << 32)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    vecmill = Vecmill(arguments.vecmill, arguments.model)
    try:
        before, whole, seconds = reference(vecmill, arguments)
        n_total = n_embedded(whole)
        print(f"uninterrupted: {n_total} rows in {seconds:.2f} s")
        path = vecmill.folder / "ended.db"
        shutil.copy(before, path)
        n_ended, n_in_flight = end_many(vecmill, path, arguments, n_total, seconds * arguments.batch / n_total)
        vecmill.ingest(path, arguments.batch, "--workers", arguments.workers, "--progress", "off")
        compare(whole, path)
        again = vecmill.ingest(path, "--progress", "lines").stdout
        expect("Nothing to embed" in again, again)
        left = sorted(p.name for p in vecmill.folder.iterdir() if p.name.startswith("ended.db-"))
        expect(not left, f"left behind: {left}")
        # With a signal that asks, what was in flight has been committed or given up by the time the run is over.
        if arguments.signal == "KILL":
            expect_in_flight(n_in_flight, n_ended)
        print("equal to the uninterrupted run, each id written once")
        print("1 passed, 0 failed")
    finally:
        vecmill.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
