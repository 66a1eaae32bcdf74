#!/usr/bin/python3
"""Processes that freeze, die elsewhere, lose answers or go through pgbouncer: nothing is lost, nothing done twice.

  test_sharing.py --vecmill PATH [NAME..]
"""
import contextlib
import copy
import json
import os
import random
import signal
import struct
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, made_alone, run_tests  # noqa: E402
from proxy import Fate, Gate, Proxy  # noqa: E402
from runs import (N_DIMENSIONS, begun, each_written_once, embedded, fill, floats, fresh, ingest, locked, log_writes, place, start,  # noqa: E402
                  stop_between_pages, told, until, waiting)
from servers import Bouncer  # noqa: E402

WRITES = b"SET done = "  # what a commit of vectors says
FREEZES = 25 if os.environ.get("VECMILL_TEST") == "long" else 5


# --- freezing and dying ---


def test_frozen(vecmill, folder):
    """Stopped beyond its lease at any moment, in a transaction too: others take over, and what it does when it wakes lands nowhere."""
    seed = int(os.environ.get("VECMILL_SEED") or random.SystemRandom().randrange(1 << 32))
    rng, n_rounds, n_lost, n_again = random.Random(seed), FREEZES, 0, 0
    counted = copy.copy(vecmill)
    counted.environment = vecmill.environment | {"VECMILL_COUNT_CALLS": str(folder / "calls")}
    print(f"  seed {seed}", flush=True)
    for _ in range(n_rounds):
        (folder / "calls").unlink(missing_ok=True)
        with fresh() as server:
            fill(server, 1500)
            log_writes(server, "t", "id")
            frozen = start(counted, server.uri, 10, "--workers", 1, "--lease", 1, "--sleep", 0.01)
            begun(frozen)
            time.sleep(rng.uniform(0, 0.1))
            frozen.send_signal(signal.SIGSTOP)
            time.sleep(0.05)  # what it had sent to the server is done there
            n_held = int(server.psql("SELECT coalesce(sum(n_rows), 0) FROM vecmill.leases WHERE NOT done")[0][0])
            other = start(counted, server.uri, 100, "--workers", 1, "--lease", 1)
            embedded(other)
            expect(server.psql("SELECT count(embedding) FROM t") == [("1500",)], "the other left rows behind")
            expect(n_held > 0, "it held nothing")
            frozen.send_signal(signal.SIGCONT)
            output, errors = frozen.communicate(timeout=60)
            expect(frozen.returncode == 0, f"{frozen.returncode} {errors}")
            n_lost += "given up: their lease ran out, and they were taken over" in output
            expect("changed while" not in output, output)
            each_written_once(server, 1500)
            n_texts = struct.unpack("=QQ", (folder / "calls").read_bytes())[0]
            expect(1500 <= n_texts <= 1500 + n_held, f"the model ran on {n_texts} texts for 1500 rows, of which {n_held} were held by the one that froze")
            n_again += n_texts - 1500
    expect(n_lost > 0, "it never had anything to lose")
    print(f"  frozen {n_rounds} times past its lease, {n_lost} of them with writes that did not land; each row written once, {n_again} texts embedded again", flush=True)


def test_frozen_before_its_write(vecmill, folder):
    """Its write is still to come when another has taken its rows over, which has not written either: it must not land."""
    with fresh() as server:
        fill(server, 20)
        log_writes(server, "t", "id")
        with Gate(server, WRITES, Fate.PASS) as gate, Gate(server, WRITES, Fate.PASS) as other_gate:
            frozen = start(vecmill, gate.uri, 20, "--connections", 1, "--lease", 1)
            gate.wait()
            frozen.send_signal(signal.SIGSTOP)
            [[session]] = server.psql("SELECT pid FROM pg_stat_activity WHERE application_name = 'vecmill'")
            asked = f"FROM pg_stat_activity WHERE pid = {session}"
            before = server.psql(f"SELECT query_start {asked}")[0][0]
            until(server, "SELECT count(*) FROM vecmill.leases WHERE fence = 1 AND NOT done AND expires < clock_timestamp()", "1")
            other = start(vecmill, other_gate.uri, 20, "--connections", 1)
            other_gate.wait()
            taken = server.psql("SELECT fence > 1, done, n_rows FROM vecmill.leases")
            expect(taken == [("t", "f", "20")], f"not taken over: {taken}")
            gate.open()
            frozen.send_signal(signal.SIGCONT)
            # it has its answer, and asks for more or is gone
            until(server, f"SELECT count(*) {asked} AND (query_start <= '{before}' OR query LIKE 'WITH vecmill_lease AS%')", "0")
            expect(server.psql("SELECT count(*) FROM log") == [("0",)], "a write that came after its rows were taken over has landed")
            other_gate.open()
            expect(embedded(other) == 20, "the other did not write")
            output, errors = frozen.communicate(timeout=60)
            expect(frozen.returncode == 0 and "Rows: 20 given up: their lease ran out, and they were taken over\n" in output, f"{frozen.returncode} {output} {errors}")
        each_written_once(server, 20)


class InTurn(Gate):
    """Two messages, each of which waits for an opening of its own."""

    def __init__(self, server, words: bytes):
        self.second = threading.Event()
        super().__init__(server, words, Fate.PASS, times=2)

    def fate_of(self, kind: bytes, message: bytes) -> Fate:
        with self.lock:
            is_second = self.words in message and self.left == 1
            self.left -= is_second
        if is_second:
            self.second.wait()
        return super().fate_of(kind, message)

    def __exit__(self, *_):
        self.second.set()
        super().__exit__()


def test_fenced(vecmill, folder):
    """A process that slept past its lease takes its own rows over: what it had under way before does not land, and nobody else is blamed."""
    for _ in range(20):  # whether it prolongs its lease first when it wakes is up to chance
        with fresh() as server, InTurn(server, WRITES) as gate:
            fill(server, 20)
            log_writes(server, "t", "id")
            run = start(vecmill, gate.uri, 20, "--lease", 1)
            gate.wait()
            run.send_signal(signal.SIGSTOP)
            until(server, "SELECT count(*) FROM vecmill.leases WHERE fence = 1 AND NOT done AND expires < clock_timestamp()", "1")
            run.send_signal(signal.SIGCONT)
            time.sleep(0.3)
            taken = server.psql("SELECT count(*) FROM vecmill.leases WHERE fence > 1") == [("1",)]
            gate.open()
            time.sleep(0.3)
            if taken:
                expect(server.psql("SELECT count(*) FROM log") == [("0",)], "a write that came after its rows were taken over has landed")
            gate.second.set()
            output, errors = run.communicate(timeout=60)
            expect(run.returncode == 0 and "Embedded 20 rows" in output, f"{run.returncode} {output} {errors}")
            each_written_once(server, 20)
            if taken:
                expect("Rows: 20 given up: their lease ran out, and they were taken over\n" in output, output)
                return
    raise AssertionError("it never took its own rows over")


def test_edited_and_back_in_place(vecmill, folder):
    """Rows in flight are edited and lie where they lay, after a VACUUM: another text at the same place takes no vector of the old."""
    texts = "UPDATE t SET text = '{} ' || id"
    with fresh() as server, Gate(server, WRITES, Fate.PASS) as gate:
        fill(server, 20)
        server.psql("CREATE INDEX ON t(text)")  # so that nothing is left where an old version lay
        run = start(vecmill, gate.uri, 20, "--connections", 1)
        gate.wait()
        before = server.psql("SELECT id, ctid FROM t ORDER BY id")
        for _ in range(10):  # a VACUUM keeps what somebody may still see, an ANALYZE of the server's own
            server.psql(texts.format("moon"))
            server.psql("VACUUM t")
            server.psql(texts.format("planet"))
            n_back = sum(was == now for was, now in zip(before, server.psql("SELECT id, ctid FROM t ORDER BY id"), strict=True))
            if n_back > 0:
                break
        expect(n_back > 0, "none is back in its place: nothing was shown")
        gate.open()
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 0, f"{run.returncode} {output} {errors}")
        rows = server.psql("SELECT text, embedding FROM t")
        alone = made_alone(vecmill, folder, [text for text, _ in rows])
        wrong = [text for text, vector in rows if vector is None or struct.pack(f"<{N_DIMENSIONS}f", *floats(vector)) != alone[text]]
        expect(not wrong, f"of {n_back} that were back in their place, these have no vector of their text: {wrong}")


def test_dead_elsewhere(vecmill, folder):
    """A process of another machine that is gone: its leases are waited for, and taken over; no run ends before."""
    with fresh() as server:
        fill(server, 300)
        log_writes(server, "t", "id")
        run = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 6, "--sleep", 0.3)
        begun(run, 1)
        until(server, "SELECT count(*) > 0 FROM vecmill.leases WHERE NOT done", "t")
        run.kill()
        run.communicate()
        server.psql("UPDATE vecmill.workers SET host = 'elsewhere'; UPDATE vecmill.columns SET pass_over = true, cursor = ARRAY['300']")
        n_held = int(server.psql("SELECT sum(n_rows) FROM vecmill.leases WHERE NOT done AND expires > clock_timestamp()")[0][0])
        # nothing but those leases is left in this pass: a process that comes to it waits for them all the same
        from_s = time.monotonic()
        n_before = int(server.psql("SELECT count(embedding) FROM t")[0][0])
        expect(embedded(start(vecmill, server.uri, 20)) == 300 - n_before and n_held > 0, "not what was left")
        expect(time.monotonic() - from_s > 1, "not waited for")
        server.psql("DELETE FROM vecmill.workers WHERE host = 'elsewhere'")  # otherwise the next run's
        each_written_once(server, 300)


def test_dead_and_not_waited_for(vecmill, folder):
    """A process of this machine that is dead, though its parent has not asked for its end: its leases are not waited for."""
    with fresh() as server:
        fill(server, 2000)
        log_writes(server, "t", "id")
        dead = start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.1)
        begun(dead, 1)
        dead.kill()
        from_s = time.monotonic()
        embedded(start(vecmill, server.uri, 100))
        expect(Path(f"/proc/{dead.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "somebody has asked for its end")
        expect(time.monotonic() - from_s < 45, "its lease of 60 s was waited for")
        dead.communicate()
        each_written_once(server, 2000)


def test_blocked_longer_than_its_lease(vecmill, folder):
    """One connection, and a commit that waits for somebody's lock: no sign of life, the leases expire, another takes over what it can; nothing is written twice."""
    for _ in range(20):  # how many batches the blocked one has claimed by then, and which it writes first, is up to chance
        with fresh() as server:
            fill(server, 60)
            log_writes(server, "t", "id")
            locker = server.session()
            locker.sql("BEGIN; SELECT 1 FROM t WHERE id = 5 FOR UPDATE")
            words = (20, "--connections", 1, "--lease", 2)
            blocked = start(vecmill, server.uri, *words)
            waiting(server)
            n_claimed = int(server.psql("SELECT count(*) FROM vecmill.leases WHERE NOT done")[0][0])
            if server.psql("SELECT count(embedding) FROM t") != [("0",)]:  # it wrote its other batches before this one
                locker.sql("ROLLBACK")
                expect(embedded(blocked) == 60, "rows without a vector")
                continue
            other = start(vecmill, server.uri, *words)
            until(server, "SELECT count(embedding) FROM t", "40")
            locker.sql("ROLLBACK")
            ends = [run.communicate(timeout=60) for run in (blocked, other)]
            expect([blocked.returncode, other.returncode] == [0, 0], str(ends))
            expect("Embedded 20 rows" in ends[0][0] and "Embedded 40 rows" in ends[1][0], str(ends))
            each_written_once(server, 60)
            if n_claimed > 1:
                expect(f"Rows: {20 * (n_claimed - 1)} given up: their lease ran out, and they were taken over\n" in ends[0][0], ends[0][0])
                return
    raise AssertionError("it never had anything to lose")


def test_beat_beside_a_lock(vecmill, folder):
    """A commit that waits for somebody's lock for longer than a lease costs a process that lives none of its other batches."""
    with fresh() as server:
        fill(server, 1000)
        log_writes(server, "t", "id")
        with locked(server, "id = 300"):
            run = start(vecmill, server.uri, 50, "--lease", 1)
            waiting(server)
            time.sleep(4)
            worked = server.psql("SELECT max(attempts), bool_and(seen > clock_timestamp() - interval '1 s') FROM vecmill.leases, vecmill.workers")
            jobs = vecmill.run("jobs", "--db", server.uri).stdout
        expect("lost" not in jobs and ", 50 in flight" in jobs, jobs)
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 0 and "given up" not in output and not errors, output + errors)
        expect(worked == [("1", "t")], f"attempts, signs of life: {worked}")
        each_written_once(server, 1000)


def test_killed_at_a_lock(vecmill, folder):
    """Killed while its commit waits for somebody's lock: others go on with all other rows, before the lock goes."""
    with fresh() as server:
        fill(server, 1000)
        log_writes(server, "t", "id")
        with locked(server, "id = 300"):
            killed = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 2)
            waiting(server)
            killed.kill()
            killed.communicate()
            runs = [start(vecmill, server.uri, 20, "--workers", 1, "--lease", 2) for _ in range(2)]
            until(server, "SELECT count(embedding) FROM t", "980")
        for run in runs:
            output, errors = run.communicate(timeout=60)
            expect(run.returncode == 0 and not errors, output + errors)
        ingest(vecmill, server.uri, 20)  # clears what the killed one's commit left, when the lock went
        each_written_once(server, 1000)


def test_beat(vecmill, folder):
    """Batches that take longer than a lease: the beat keeps them, and nobody takes them over."""
    with fresh() as server:
        fill(server, 200)
        log_writes(server, "t", "id")
        runs = [start(vecmill, server.uri, 20, "--workers", 1, "--lease", 1, "--sleep", 1.2, "--connections", n) for n in (3, 1)]
        n_most = 0
        while any(run.poll() is None for run in runs):
            time.sleep(0.1)
            if server.psql("SELECT to_regclass('vecmill.leases')") != [(None,)]:
                n_most = max(n_most, int(server.psql("SELECT coalesce(max(attempts), 0) FROM vecmill.leases")[0][0]))
        expect(sum(map(embedded, runs)) == 200 and n_most == 1, f"taken over: attempts {n_most}")
        each_written_once(server, 200)


def test_other_leases(vecmill, folder):
    """Whether a process lives is told by its own --lease, and not by that of whoever asks."""
    def of_rows(server, where, lease):
        return start(vecmill, server.uri, 100, "--workers", 1, "--lease", lease, "--where", where)

    with fresh() as server:
        fill(server, 4000)
        patient = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 60, "--sleep", 0.2, "--where", "id <= 3000")
        begun(patient, 1)
        stop_between_pages(server, patient)
        server.psql("DELETE FROM vecmill.leases")
        time.sleep(1.5)
        hasty = of_rows(server, "id > 3000", 1)
        _, errors = hasty.communicate(timeout=60)
        expect(hasty.returncode == 1 and "with other rows in view, or other metrics: id id (integer); text text; --where id <= 3000" in errors, f"{hasty.returncode} {errors}")
        patient.send_signal(signal.SIGCONT)
        embedded(patient)
        dead = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 1, "--sleep", 0.05, "--where", "id > 3000 AND id % 2 = 0")
        begun(dead, 1)
        dead.kill()
        dead.communicate()
        server.psql("UPDATE vecmill.workers SET host = 'elsewhere'")
        time.sleep(1.5)
        from_s = time.monotonic()
        embedded(of_rows(server, "id > 0", 60))
        expect(time.monotonic() - from_s < 20, "the lease of whoever asks was waited for")
        expect(server.psql("SELECT count(embedding) FROM t") == [("4000",)], "rows without a vector")


def test_other_run(vecmill, folder):
    """One that was frozen past its lease, and meanwhile others began a run of other rows: it ends, and does not touch theirs."""
    with fresh() as server:
        fill(server, 3000)
        log_writes(server, "t", "id")
        frozen = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 1, "--sleep", 0.05, "--where", "id <= 1500")
        begun(frozen)
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(2.5)  # the server ends its transaction, if it is in one
        other = start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.05, "--where", "id % 2 = 0")
        begun(other, 1)
        frozen.send_signal(signal.SIGCONT)
        output, errors = frozen.communicate(timeout=60)
        wanted = ("vecmill: table t: another run, with other rows in view, began on its column embedding while this one was not heard of for more than its "
                  "--lease: id id (integer); text text; --where id % 2 = 0; as postgres, search path public (what was committed is kept; run again when that one has finished)\n")
        expect(frozen.returncode == 1 and errors.splitlines(keepends=True)[-1] == wanted, f"{frozen.returncode} {errors}")
        expect(other.poll() is None, "the other ended first: nothing was shown")
        n_before = int(server.psql("SELECT count(embedding) FROM t")[0][0])
        output, errors = other.communicate(timeout=60)
        expect(other.returncode == 0 and n_before < 1500, f"{other.returncode} {errors} {n_before}")
        expect(server.psql("SELECT count(*) FROM t WHERE id % 2 = 0 AND embedding IS NULL") == [("0",)], "it left rows behind")
        progress = [[int(word) for word in line.split("Progress: ")[1].split()[:3:2]] for line in output.splitlines() if "Progress: " in line]
        n_done = [n for n, _ in progress]
        expect(progress[-1][0] == progress[-1][1] and n_done == sorted(set(n_done)), f"{progress[-3:]}")
        each_written_once(server, int(server.psql("SELECT count(embedding) FROM t")[0][0]))


# --- a text that ends whoever embeds it ---


def poison(server, *ids) -> None:
    """Commits of these rows take for ever: time to kill who sent them."""
    server.psql(f"""CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); RETURN new; END$$;
        CREATE TRIGGER wait BEFORE UPDATE OF embedding ON t FOR EACH ROW WHEN (new.id IN ({", ".join(map(str, ids))})) EXECUTE FUNCTION wait()""")


def dies(server, run) -> str | None:
    """Kills the run as soon as it would write such a row, and gives what it said on stderr; None: it ended."""
    asleep = "SELECT pid FROM pg_stat_activity WHERE application_name = 'vecmill' AND wait_event = 'PgSleep'"
    while run.poll() is None:
        if server.psql(asleep):
            run.kill()
            _, errors = run.communicate()
            server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'vecmill'")
            return errors
        time.sleep(0.02)
    return None


def test_poison(vecmill, folder):
    """A text with which every process dies: all others get their vectors, and in the end it is recorded as failed."""
    n_lost = 6  # three times with its page, three times alone
    with fresh() as server:
        fill(server, 400)
        log_writes(server, "t", "id")
        poison(server, 77, 300)
        told = "vecmill: table t: rows whose process died 3 times in a row are now embedded one by one\n"
        n_alone = 0
        for n in range(1, 30):
            run = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 2)
            if (errors := dies(server, run)) is None:
                break
            expect(errors in ("", told), errors)
            if errors == told:  # only at the end
                left = server.psql("SELECT count(*) FROM t WHERE embedding IS NULL AND NOT EXISTS (SELECT 1 FROM vecmill.leases WHERE NOT done AND "
                                   "t.id BETWEEN first_key[1]::integer AND last_key[1]::integer) AND id::text NOT IN (SELECT key[1] FROM vecmill.failures)")
                expect(left == [("0",)], f"{left} rows wait for the one")
                n_alone += 1
        output, errors = run.communicate()
        expect(run.returncode == 3 and "failed" in output, f"{run.returncode} {output[-300:]} {errors}")
        expect(n_lost < n <= 2 * n_lost + 1 and n_alone == n_lost, f"ended with run {n}, {n_alone} died with one row in hand")
        expect("1 rows could not be embedded, the first because: the process that was embedding it died, three times" in errors, errors)
        got = server.psql("SELECT key[1], reason FROM vecmill.failures ORDER BY 1")
        expect([key for key, _ in got] == ["300", "77"] and all("it died, three times with nothing else in hand" in why for _, why in got), str(got))
        each_written_once(server, 398)
        run = start(vecmill, server.uri, 20)
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 3 and "Nothing to embed" in output, f"{run.returncode} {output} {errors}")


def sockets_of(pid: int) -> set:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(path))
    return found


def test_poison_shared(vecmill, folder):
    """The same beside a process that is patient: what it holds is not taken away, and it takes over what is left."""
    with fresh() as server:
        fill(server, 2000)
        log_writes(server, "t", "id")
        poison(server, 77)
        n = 0
        runs = [start(vecmill, server.uri, 20, "--workers", 1, "--lease", 2, "--sleep", 0.02) for _ in range(2)]
        while any(run.poll() is None for run in runs) and n < 20:
            sleeps = server.psql("SELECT client_port, pid FROM pg_stat_activity WHERE application_name = 'vecmill' AND wait_event = 'PgSleep'")
            if not sleeps:
                time.sleep(0.02)
                continue
            ports = {int(line.split()[1].split(":")[1], 16): line.split()[9] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
            inode = ports.get(int(sleeps[0][0]))
            who = next((i for i, run in enumerate(runs) if run.poll() is None and f"socket:[{inode}]" in sockets_of(run.pid)), None)
            if who is None:  # it has just gone
                continue
            runs[who].kill()
            runs[who].communicate()
            server.psql(f"SELECT pg_terminate_backend({sleeps[0][1]})")
            n += 1
            runs[who] = start(vecmill, server.uri, 20, "--workers", 1, "--lease", 2)
        ends = [(run.communicate(timeout=60), run.returncode) for run in runs]
        expect(n == 6 and 3 in (status for _, status in ends), f"{n} deaths: {ends}")
        expect(server.psql("SELECT key[1] FROM vecmill.failures") == [("77",)], "not what failed")
        each_written_once(server, 1999)


def test_given_back(vecmill, folder):
    """Runs that are stopped do not die: nobody takes their rows for dangerous."""
    with fresh() as server:
        fill(server, 4000)
        for _ in range(4):
            run = start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.05)
            begun(run, 1)
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=60)
            expect(run.returncode == 130, f"{run.returncode}")
            expect(server.psql("SELECT count(*) FROM vecmill.leases WHERE NOT done AND attempts > 0") == [("0",)], "taken for lost")
        run = start(vecmill, server.uri, 100)
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 0 and not errors, f"{run.returncode} {errors}")
        expect(server.psql("SELECT count(embedding) FROM t") == [("4000",)], "rows without a vector")


def test_claimed_ahead(vecmill, folder):
    """Several pages by one claim where they are soon used up, and given back when the run is stopped; one where workers are slow."""
    def claims(batch: int) -> dict:
        """Of the pages that are out at this moment: how many bear the number of the same transaction."""
        return {xmin: int(n) for xmin, n in server.psql(f"SELECT xmin::text, count(*) FROM vecmill.leases WHERE NOT done AND n_rows = {batch} GROUP BY 1")}

    def most_at_once(run, batch: int) -> int:
        most, deadline = 0, time.monotonic() + 20
        while run.poll() is None and time.monotonic() < deadline and most < 2:
            most = max(most, 0, *claims(batch).values())
        return most

    with fresh() as server:
        fill(server, 40000)
        log_writes(server, "t", "id")
        slow = start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.2)
        begun(slow, 1)  # its first page took a moment, and the run has yet to learn that the others take longer
        time.sleep(0.2)
        first, later, deadline = claims(20), {}, time.monotonic() + 15
        while len(later) < 3 and time.monotonic() < deadline:
            later |= {xmin: max(n, later.get(xmin, 0)) for xmin, n in claims(20).items() if xmin not in first}
            time.sleep(0.02)
        expect(len(later) >= 3 and set(later.values()) == {1}, f"pages claimed at once by a run that takes a fifth of a second for each: {later} after {first}")
        slow.send_signal(signal.SIGINT)
        slow.communicate(timeout=60)
        expect(slow.returncode == 130, f"{slow.returncode}")
        fast = start(vecmill, server.uri, 10)
        begun(fast, 1)
        expect(most_at_once(fast, 10) > 1, "each page was claimed by itself, by a run that takes a few milliseconds for each")
        fast.send_signal(signal.SIGINT)
        fast.communicate(timeout=60)
        expect(fast.returncode == 130, f"{fast.returncode}")
        expect(server.psql("SELECT count(*) FROM vecmill.leases WHERE NOT done AND attempts > 0") == [("0",)], "pages were not given back")
        n = int(server.psql("SELECT count(*) FROM t WHERE btrim(text) <> ''")[0][0])
        output, errors = start(vecmill, server.uri, 1000).communicate(timeout=100)
        expect(not errors, f"{errors} {output[-300:]}")
        each_written_once(server, n)


# --- answers that are lost ---


class Forgetful(Proxy):
    """Loses the server's answer to some COMMITs and some commits of vectors, and the connection with it."""

    EVERY = {"COMMIT": 3, "vectors": 6}

    def __init__(self, server, seed: int):
        self.rng, self.n_lost = random.Random(seed), {"COMMIT": 0, "vectors": 0}
        super().__init__(server)

    def fate_of(self, kind: bytes, message: bytes) -> Fate:
        what = "COMMIT" if message[5:] == b"COMMIT\0" else "vectors" if kind == b"P" and b"SET done = " in message else None
        if not what or self.rng.randrange(self.EVERY[what]) > 0:
            return Fate.PASS
        self.n_lost[what] += 1
        return Fate.LOSE


def test_lost_answers(vecmill, folder):
    """What the server has done although nobody heard of it is neither done again nor waited for."""
    with fresh() as server:
        fill(server, 3000)
        log_writes(server, "t", "id")
        server.psql("ALTER TABLE t ADD CHECK (id % 400 <> 7 OR embedding IS NULL)")
        with Forgetful(server, 11) as proxy:
            for _ in range(20):  # at the beginning a lost connection is the run's end
                run = start(vecmill, proxy.uri, 20, "--workers", 1, "--sleep", 0.02)  # few pages are claimed at once
                output, errors = run.communicate(timeout=100)
                if "Processed" in output:
                    break
        expect(run.returncode == 3, f"{run.returncode} {output[-300:]} {errors}")
        print(f"  answers lost: {proxy.n_lost}")
        expect(proxy.n_lost["COMMIT"] >= 3 and proxy.n_lost["vectors"] >= 3, str(proxy.n_lost))
        got = int(output.partition("Embedded ")[2].split()[0])
        expect(got == 2992 and "8 failed" in output and "changed" not in output, output[-400:])
        each_written_once(server, 2992)


def test_leaving(vecmill, folder):
    """A connection that breaks as a process leaves, and the next one too: it leaves all the same, and nobody waits for it."""
    with fresh() as server:
        fill(server, 100)
        log_writes(server, "t", "id")
        with Gate(server, b'DELETE FROM "vecmill"."workers" WHERE owner', Fate.BREAK, times=2) as gate:
            done = ingest(vecmill, gate.uri)
            expect("Embedded 100 rows" in done.stdout and gate.left == 0, f"{gate.left} did not break: {done.stdout} {done.stderr}")
        each_written_once(server, 100)


def test_heard_late(vecmill, folder):
    """Whose commit is answered late, when others have ended the run and begun another: what it wrote is known for its own."""
    with fresh() as server:
        fill(server, 100)
        log_writes(server, "t", "id")
        with Gate(server, b"SET done = ", Fate.LOSE) as gate:
            late = start(vecmill, gate.uri, 1000, "--workers", 1)
            gate.wait()
            for first in (101, 201):
                server.psql(f"INSERT INTO t SELECT i, 'star ' || i FROM generate_series({first}, {first + 99}) AS i")
                expect("Embedded 100 rows" in ingest(vecmill, server.uri).stdout, "not by the others")
            expect(server.psql("SELECT run FROM vecmill.columns") == [("2",)], "no other run has begun")
        output, errors = late.communicate(timeout=60)
        expect(late.returncode == 0 and "Embedded 100 rows" in output and "given up" not in output, f"exit {late.returncode}: {output} {errors}")
        each_written_once(server, 300)


# --- pgbouncer ---


def test_bouncer(vecmill, folder):
    """Everything through pgbouncer in transaction mode, where each transaction may come to another session."""
    for pool_size, connections in ((1, 1), (3, 2), (3, None)):
        with fresh() as server, Bouncer(server, pool_size=pool_size) as bouncer:
            fill(server, 2000)
            log_writes(server, "t", "id")
            words = ["--connections", connections] if connections else []
            runs = [start(vecmill, bouncer.uri, 50, "--workers", 1, *words) for _ in range(2)]
            expect(sum(map(embedded, runs)) == 2000, "rows embedded twice, or never")
            each_written_once(server, 2000)
            again = ingest(vecmill, bouncer.uri, 50, *words)
            expect("Nothing to embed" in again.stdout and not again.stderr, again.stdout + again.stderr)
            server.psql("UPDATE t SET embedding = NULL WHERE id % 100 = 0; ALTER TABLE t ADD CHECK (id <> 500 OR embedding IS NULL)")
            again = ingest(vecmill, bouncer.uri, 50, *words, status=3)  # row by row, with savepoints
            expect("Embedded 19 rows" in again.stdout, again.stdout)
            expect(server.psql("SELECT count(embedding) FROM t") == [("1999",)], "rows without a vector")
            for more in ([], ["--exact"]):
                done = vecmill.run("search", "t", "star 77", "--db", bouncer.uri, "--json", "-k", 1, *more)
                expect(json.loads(done.stdout)["id"] == 77, done.stdout)
            # what is left in the sessions that it used: nothing
            for _ in range(pool_size):
                left = bouncer.psql("SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('enable_seqscan'), current_setting('enable_sort'), "
                                    "current_setting('enable_bitmapscan'), current_setting('idle_in_transaction_session_timeout'), "
                                    "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_class WHERE relpersistence = 't')")
                expect(left == [("0", "on", "on", "on", "0", "0", "0")], f"left in a session: {left}")
            n_sessions = int(server.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'corpus' AND pid <> pg_backend_pid() AND backend_type = 'client backend'")[0][0])
            expect(0 < n_sessions <= pool_size, f"{n_sessions} sessions")


def test_limited_by_waiting(vecmill, folder):
    """Who waits for a page that a frozen process holds, in the middle of a pass or at its end, says so: that is no work of its reader's."""
    with fresh() as server:
        for n in (100, 2000):
            server.psql("DROP TABLE IF EXISTS t")
            fill(server, n)
            frozen = start(vecmill, server.uri, 50, "--lease", 3, "--workers", 1, "--sleep", 0.2)
            begun(frozen, 1)
            stop_between_pages(server, frozen)
            output, _ = (run := start(vecmill, server.uri, 50)).communicate(timeout=60)
            frozen.kill()
            frozen.communicate()
            expect(run.returncode == 0 and "; limited by: waiting (reader " in output, output)
            busy = float(output.split("waiting (reader ")[1].split("%")[0])
            expect(busy < 50, output)


def test_bouncer_by_session(vecmill, folder):
    """In session mode each connection keeps one of the pool's, and one more waits for good: who has some goes on with these."""
    with fresh() as server:
        fill(server, 1000)
        log_writes(server, "t", "id")
        # it waits for 5 s, or until the pooler itself has waited for long enough
        for pool_size, settings in ((1, {}), (3, {"query_wait_timeout": 1})):
            with Bouncer(server, pool_mode="session", pool_size=pool_size, settings=settings) as bouncer:
                done = ingest(vecmill, bouncer.uri, 100)
                expect("Embedded 1000 rows" in done.stdout and f"going on with {pool_size} (where a pooler has no room for more: lower --connections, or let it "
                       "pool by transaction)\n" in done.stderr and done.stderr.count("\n") == 1, done.stdout + done.stderr)
                for words in (("search", "t", "star 77", "-k", 1), ("ingest", "t", "--metrics-only", "--create-metrics"), ("ingest", "t", "--dry-run"), ("jobs",)):
                    done = vecmill.run(*words, "--db", bouncer.uri, timeout=60)
                    expect(not done.stderr, f"{words}: {done.stderr}")
            each_written_once(server, 1000)
            server.psql("UPDATE t SET embedding = NULL; TRUNCATE log; DROP TABLE t_metrics")
        with Bouncer(server, pool_mode="session", pool_size=1) as bouncer:
            stopped = start(vecmill, bouncer.uri)
            while not any(pool[0] == "corpus" and int(pool[3]) > 0 for pool in bouncer.show("POOLS")):  # cl_waiting
                expect(stopped.poll() is None, "it ended before it was stopped")
                time.sleep(0.05)
            stopped.send_signal(signal.SIGINT)
            _, errors = stopped.communicate(timeout=60)
            expect(stopped.returncode == 130 and errors == "vecmill: stopped while connecting to PostgreSQL\n", f"exit {stopped.returncode}: {errors}")
            expect("Embedded 1000 rows" in ingest(vecmill, bouncer.uri, "--connections", 1).stdout, "not after it was stopped")
        server.psql("UPDATE t SET embedding = NULL; TRUNCATE log")
        with Bouncer(server, pool_mode="session", pool_size=1, settings={"query_wait_timeout": 1}) as bouncer, bouncer.session():
            told(vecmill, bouncer.uri, f"{place(bouncer)}: cannot check the names: query_wait_timeout (pgbouncer's pool has no room: lower --connections of those "
                 "who use it, raise its size, or let it pool by transaction)")
        with Bouncer(server, settings={"max_client_conn": 2}) as bouncer:
            done = ingest(vecmill, bouncer.uri, status=1)
            expect("no more connections allowed (max_client_conn) (pgbouncer takes no more: lower --connections or raise its max_client_conn)\n" in done.stderr,
                   done.stderr)
        with Bouncer(server, pool_mode="session", pool_size=6) as bouncer:
            runs = [start(vecmill, bouncer.uri, 20, "--workers", 1) for _ in range(4)]
            expect(sum(map(embedded, runs)) == 1000, "rows embedded twice, or never")
        each_written_once(server, 1000)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
