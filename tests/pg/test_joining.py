#!/usr/bin/python3
"""Runs that begin when others are at their end, or have died in it: every row that was there at the start has its vector when a run is over.

  test_joining.py --vecmill PATH [NAME..]
"""
import contextlib
import copy
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import MAKE_TINY_MODEL, expect, run_tests  # noqa: E402
from proxy import Fate, Gate  # noqa: E402
from runs import begun, each_written_once, fill, fresh, ingest, locked, log_writes, start, stop_between_pages, until, waiting  # noqa: E402


def at_its_end(run, n: int) -> None:
    """It has ended well, and shown that all n rows of the run are done."""
    output, errors = run.communicate(timeout=60)
    expect(run.returncode == 0 and not errors and f" Progress: {n} / {n}" in output, f"exit {run.returncode}: {output[-400:]} {errors}")


def insert(server, first: int, last: int) -> None:
    server.psql(f"INSERT INTO t SELECT i, 'star ' || i FROM generate_series({first}, {last}) AS i")


def left(server) -> list:
    return server.psql("SELECT count(*) - count(embedding) FROM t")


def test_others_count_twins(vecmill, folder):
    """One has embedded all and counts equal texts: who comes then has a run of his own."""
    with fresh() as server:
        fill(server, 10)
        ingest(vecmill, server.uri, "--create-metrics")
        log_writes(server, "t", "id")
        insert(server, 11, 300)
        with locked(server, "true", table="t_metrics"):
            server.psql("UPDATE t SET text = 'star 1' WHERE id = 300")
            first = start(vecmill, server.uri, 50)
            until(server, "SELECT count(embedding) FROM t", "300")
            waiting(server)
            insert(server, 1001, 1020)
            second = start(vecmill, server.uri, 50)
            until(server, "SELECT count(embedding) FROM t", "320")
        at_its_end(first, 290)
        at_its_end(second, 20)
        each_written_once(server, 310)


def test_stopped_as_it_joins(vecmill, folder):
    """Who is stopped as it joins, while others end the run, finds what came after their last look."""
    with fresh() as server:
        fill(server, 300)
        log_writes(server, "t", "id")
        with locked(server, "id = 7"):
            run = start(vecmill, server.uri, 50)
            waiting(server)
            stopped = start(vecmill, server.uri, 50)
            until(server, "SELECT count(*) FROM vecmill.workers", "2")
            stop_between_pages(server, stopped)
        at_its_end(run, 300)
        insert(server, 1001, 1020)
        stopped.send_signal(signal.SIGCONT)
        output, errors = stopped.communicate(timeout=60)
        expect(stopped.returncode == 0, f"exit {stopped.returncode}: {output[-400:]} {errors}")
        each_written_once(server, 320)


def test_rows_were_added(vecmill, folder):
    """Who joins a run to which rows were added counts them in, from its first line on."""
    with fresh() as server:
        fill(server, 100)
        with locked(server, "id = 7"):
            first = start(vecmill, server.uri, 20, "--workers", 1)
            waiting(server)
            insert(server, 101, 400)
            second = start(vecmill, server.uri, 20, "--workers", 1)
            until(server, "SELECT n_total FROM vecmill.columns", "400")
        output, errors = second.communicate(timeout=60)
        lines = [line.split(" | ")[0] for line in output.splitlines() if " Progress: " in line]
        expect(lines and all(line.endswith(" / 400") for line in lines) and lines[-1].endswith(" 400 / 400") and not errors, f"{output} {errors}")
        at_its_end(first, 400)


def test_rows_come_meanwhile(vecmill, folder):
    """Rows that come when all have counted: whoever embeds them, both end with all that the run has done."""
    with fresh() as server:
        fill(server, 300)
        with locked(server, "id = 150"):
            runs = [start(vecmill, server.uri, 20, "--workers", 1)]
            waiting(server)
            runs.append(start(vecmill, server.uri, 20, "--workers", 1))
            until(server, "SELECT count(*) FROM vecmill.workers", "2")
            insert(server, 1001, 1100)
        for run in runs:
            at_its_end(run, 400)


def test_begun_otherwise(vecmill, folder):
    """Who comes with another model, prefix or text column before the first vector is there is refused, and leaves the record as it is; and so for all who begin at once but one."""
    subprocess.run([MAKE_TINY_MODEL, "--seed", "7", "--layers", "2", folder / "other"], check=True, stdout=subprocess.DEVNULL)
    ways = ("--prefix", "passage: "), ("--model", folder / "other"), ("--text-column", "other"), ("--prefix", "x: ", "--limit", 5)
    record = "SELECT model, revision, prefix, text_column FROM vecmill.columns"

    def made(server) -> None:
        fill(server, 300)
        server.psql("ALTER TABLE t ADD other text; UPDATE t SET other = 'no ' || id")

    def ours(server, *words):
        """All of it is said: what is not would be taken from the record."""
        usual = {"--model": vecmill.model, "--text-column": "text", "--prefix": ""}
        more = [word for name, value in usual.items() if name not in words for word in (name, value)]
        return vecmill.start("ingest", "t", 20, "--db", server.uri, *more, *words)

    for words in ways:
        with fresh() as server:
            made(server)
            with locked(server, "true"):
                first = ours(server)
                waiting(server)
                before = server.psql(record)
                output, errors = ours(server, *words).communicate(timeout=60)
                expect("table t: another vecmill is working on its column embedding" in errors and not "Processed" in output, f"{words}: {output} {errors}")
                expect(server.psql(record) == before, f"{words}: who was refused wrote the record: {server.psql(record)}")
            output, errors = first.communicate(timeout=60)
            expect(first.returncode == 0 and not errors, f"{words}: {output} {errors}")
            ended = ours(server, *words)
            expect("table t: column embedding was made with " in (errors := ended.communicate(timeout=60)[1]), f"{words}: {errors}")
            expect(ended.returncode == 1 and server.psql(record) == before, f"{words}: {server.psql(record)}")
    for _ in range(6):
        with fresh() as server:
            made(server)
            runs = [ours(server, *words) for words in ((), *ways[:3])]
            ends = [run.communicate(timeout=60) for run in runs]
            expect(sorted(run.returncode for run in runs) == [0, 1, 1, 1], f"{[run.returncode for run in runs]} {ends}")
            expect(left(server) == [("0",)], str(ends))


def test_begun_with_another_dimension(vecmill, folder):
    """Of two models whose vectors differ in length, begun at once on a table without a vector column, one has record and column; the other says so and leaves them alone."""
    wide = folder / "wide"
    subprocess.run([MAKE_TINY_MODEL, "--seed", "7", "--hidden", "64", "--heads", "4", wide], check=True, stdout=subprocess.DEVNULL)
    made = "SELECT atttypmod, (SELECT dimension FROM vecmill.columns), (SELECT count(*) FROM vecmill.columns) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'embedding'"
    # each halt is where the other one comes between: before the record is written, and after
    for halt in b'INSERT INTO "vecmill"."columns"', b"FOR NO KEY UPDATE", None, None, None, None:
        with fresh() as server, contextlib.ExitStack() as held:
            fill(server, 300)
            server.psql("ALTER TABLE t DROP COLUMN embedding")
            place = held.enter_context(Gate(server, halt, Fate.PASS)) if halt else server
            first = vecmill.start("ingest", "t", 20, "--db", place.uri, "--model", wide)
            if halt:
                place.wait()
            second = start(vecmill, server.uri, 20)
            if halt:
                output, errors = second.communicate(timeout=60)
                expect(second.returncode == 0 and not errors, f"{halt}: {output[-400:]} {errors}")
                place.open()
            ends = [run.communicate(timeout=60) for run in (first, second)] if not halt else [first.communicate(timeout=60)]
            codes = [run.returncode for run in (first, second)]
            expect(sorted(codes) == [0, 1], f"{halt}: {codes} {ends}")
            expect(left(server) == [("0",)], f"{halt}: {ends}")
            n = "32" if codes[1] == 0 else "64"
            expect(server.psql(made) == [(n, n, "1")], f"{halt}: {server.psql(made)} {ends}")
            refused = ends[codes.index(1)][1]
            expect("another vecmill is working on its column embedding, with model " in refused or "column embedding is made by " in refused
                   or "column embedding was made with " in refused or "the model makes " in refused, f"{halt}: {refused}")


def test_column_added_meanwhile(vecmill, folder):
    """Somebody else adds the column while the run waits to: one that is not for its vectors is told of before anything is embedded."""
    for kind, status in ("vector(64)", 1), ("vector(32)", 0):
        with fresh() as server:
            fill(server, 20)
            server.psql("ALTER TABLE t DROP COLUMN embedding")
            with server.session() as other:
                other.sql(f"BEGIN; ALTER TABLE t ADD embedding {kind}")
                run = start(vecmill, server.uri)
                waiting(server)
                other.sql("COMMIT")
            output, errors = run.communicate(timeout=60)
            expect(run.returncode == status and ("table t: column embedding was added meanwhile, as vector(64), and the model makes vectors of 32 numbers" in errors) == bool(status), f"{output} {errors}")
            expect(left(server) == [("20" if status else "0",)], "not that")


def test_begun_otherwise_meanwhile(vecmill, folder):
    """Frozen before its first vector is there, beyond its lease: another run with another prefix has the column by then, and who wakes writes nothing there."""
    with fresh() as server:
        fill(server, 300)
        with Gate(server, b"SET done = ", Fate.PASS) as gate:
            frozen = start(vecmill, gate.uri, 20, "--connections", 1, "--lease", 1)
            gate.wait()
            frozen.send_signal(signal.SIGSTOP)
            until(server, "SELECT count(*) FROM vecmill.workers WHERE seen > clock_timestamp() - lease_seconds * interval '1 s'", "0")
            until(server, "SELECT count(*) FROM vecmill.leases WHERE NOT done AND expires > clock_timestamp()", "0")
            output = ingest(vecmill, server.uri, "--prefix", "passage: ").stdout
            expect("Embedded 300 rows" in output, output)
            before = server.psql("SELECT id, embedding FROM t ORDER BY id")
            gate.open()
            frozen.send_signal(signal.SIGCONT)
            output, errors = frozen.communicate(timeout=60)
        expect(frozen.returncode == 1 and "table t: a run of another model, prefix or text column has taken its column embedding, which held no vector, while this one was not heard of "
               "for more than its --lease (run again to see what it holds)\n" in errors, f"{frozen.returncode} {output} {errors}")
        expect(server.psql("SELECT id, embedding FROM t ORDER BY id") == before, "vectors of two prefixes")


def test_begun_at_once(vecmill, folder):
    """The first vectors come while another one still loads its model: it finds the record beside them, and embeds none again to see who made them."""
    with fresh() as server:
        fill(server, 400)
        counted, calls = copy.copy(vecmill), folder / "calls"
        counted.environment = vecmill.environment | {"VECMILL_COUNT_CALLS": str(calls)}
        with Gate(server, b'"embedding" IS NOT NULL)::text', Fate.PASS) as gate:
            late = start(counted, gate.uri, 20)
            gate.wait()
            first = start(counted, server.uri, 20, "--workers", 1, "--sleep", 0.02)
            begun(first, 1)
            gate.open()
            at_its_end(late, 400)
            at_its_end(first, 400)
        n_texts = struct.unpack("=QQ", calls.read_bytes())[0]
        expect(n_texts == 400, f"{n_texts} texts embedded")


def test_failed_elsewhere(vecmill, folder):
    """A row that fails in one process of a run is told by all, and none of them says that all is done."""
    with fresh() as server:
        fill(server, 300)
        server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL OR id <> 150)")
        with locked(server, "id = 7"):
            runs = [start(vecmill, server.uri, 20)]
            waiting(server)
            runs += [start(vecmill, server.uri, 20) for _ in range(2)]
            until(server, "SELECT count(*) FROM vecmill.workers", "3")
            time.sleep(0.3)
        ends = [run.communicate(timeout=60) for run in runs]
        expect([run.returncode for run in runs] == [3] * 3, str(ends))
        expect(all("table t: 1 rows" in errors and "see vecmill.failures; --retry-failed" in errors for _, errors in ends), str(ends))
        expect(server.psql("SELECT count(embedding) FROM t") == [("299",)], "not all the others")


def test_another_run_begins(vecmill, folder):
    """A run that is over may be followed by another before all have seen its end: who wakes up then tells its failures too, and loses none of the other's rows."""
    for words, n_rows in ((), 300), (("--limit", 200), 200):
        with fresh() as server:
            fill(server, 300)
            server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL OR id <> 3)")
            with locked(server, "id = 290 OR id = 190"):
                first = start(vecmill, server.uri, 20, *words)
                waiting(server)
                stopped = start(vecmill, server.uri, 20, *words)
                until(server, "SELECT count(*) FROM vecmill.workers", "2")
                time.sleep(0.3)
                stop_between_pages(server, stopped)
            output, errors = first.communicate(timeout=60)
            expect(first.returncode == 3, f"exit {first.returncode}: {output[-400:]} {errors}")
            server.psql("DELETE FROM t WHERE id BETWEEN 101 AND 150")
            insert(server, -99, 0)
            with locked(server, "id = -99"):
                second = start(vecmill, server.uri, 20, *words)
                waiting(server)
                stopped.send_signal(signal.SIGCONT)
                time.sleep(0.5)
            for run in (stopped, second):
                output, errors = run.communicate(timeout=60)
                expect(run.returncode == 3 and "--retry-failed" in errors, f"exit {run.returncode}: {output[-400:]} {errors}")
            got = server.psql(f"SELECT count(*) FROM (SELECT * FROM t ORDER BY id LIMIT {n_rows}) AS t WHERE embedding IS NULL")
            expect(got == [("1",)], f"{got[0][0]} rows without a vector")
            got = server.psql("SELECT n_done = n_total, (SELECT count(*) FROM vecmill.leases), (SELECT count(*) FROM vecmill.workers) FROM vecmill.columns")
            expect(got == [("t", "0", "0")], str(got))


def test_counts_late(vecmill, folder):
    """Who counts when rows have been added and nearly all are done shows numbers that fit."""
    with fresh() as server:
        fill(server, 100)
        with locked(server, "id = 7"):
            first = start(vecmill, server.uri, 20)
            waiting(server)
            late = start(vecmill, server.uri, 20)
            until(server, "SELECT count(*) FROM vecmill.workers", "2")
            stop_between_pages(server, late)
            insert(server, 101, 600)
        at_its_end(first, 600)
        insert(server, 601, 610)
        late.send_signal(signal.SIGCONT)
        output, errors = late.communicate(timeout=60)
        lines = [line.split(" Progress: ")[1].split(" / ") for line in output.splitlines() if " Progress: " in line]
        expect(lines and all(int(done) <= int(total) for done, total in lines) and lines[-1][0] == lines[-1][1] and not errors, f"{output} {errors}")
        expect(left(server) == [("0",)], f"{left(server)} rows without a vector")


def test_locked_beside_a_failure(vecmill, folder):
    """A page that has recorded a failure and waits for a lock of somebody else's holds up nobody."""
    with fresh() as server:
        fill(server, 1000)
        server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL OR id <> 1)")
        with locked(server, "id = 2"):
            run = start(vecmill, server.uri, 20)
            waiting(server)
            until(server, "SELECT count(embedding) FROM t", "980")
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 3 and server.psql("SELECT count(embedding) FROM t") == [("999",)], f"exit {run.returncode}: {output[-400:]} {errors}")


def test_limit(vecmill, folder):
    """Where --limit ends is the same for all who share a run, whatever goes or comes meanwhile; with fewer rows, at the last."""
    for limit, wanted in ((200, 180), (1000, 280)):
        with fresh() as server:
            fill(server, 300)
            with locked(server, "id = 7"):
                runs = [start(vecmill, server.uri, 100, "--limit", limit, "--workers", 1)]
                waiting(server)
                server.psql("DELETE FROM t WHERE id BETWEEN 101 AND 120")
                insert(server, 301, 600)
                runs.append(start(vecmill, server.uri, 100, "--limit", limit, "--workers", 1))
                until(server, "SELECT count(*) FROM vecmill.workers", "2")
            for run in runs:
                at_its_end(run, min(limit, 300))
            got = server.psql(f"SELECT count(*), count(embedding), (SELECT count(embedding) FROM t) FROM t WHERE id <= {min(limit, 300)}")
            expect(got == [(str(wanted), str(wanted), str(wanted))], f"--limit {limit}: {got}")


def test_own_rows_go_others_come(vecmill, folder):
    """Whose own rows are deleted, while another does as many new ones, shows the end of the run too."""
    with fresh() as server:
        fill(server, 600)
        with locked(server, "id = 7"):
            first = start(vecmill, server.uri, 20, "--workers", 1, "--connections", 3)
            waiting(server)
            time.sleep(0.3)
            claimed = "id > 20 AND id <= (SELECT max(last_key[1]::int) FROM vecmill.leases)"
            n = int(server.psql(f"SELECT count(*) FROM t WHERE {claimed}")[0][0])
            server.psql(f"DELETE FROM t WHERE {claimed}")
            insert(server, 1001, 1000 + n)
            second = start(vecmill, server.uri, 20, "--workers", 1)
            until(server, "SELECT count(embedding) FROM t", "580")
        at_its_end(first, 600)
        at_its_end(second, 600)


def at_the_last_page(vecmill, folder, ends, status: int) -> None:
    """The last page of one waits for a lock, rows come behind it, another joins, the first is ended: the other finds the rows."""
    with fresh() as server:
        fill(server, 100)
        log_writes(server, "t", "id")
        with locked(server, "id = 7"):
            first = start(vecmill, server.uri, 1000, "--workers", 1)
            waiting(server)
            insert(server, -50, 0)
            second = start(vecmill, server.uri, 1000, "--workers", 1)
            until(server, "SELECT count(*) FROM vecmill.workers", "2")
            time.sleep(0.3)
            ends(first)
        at_its_end(second, 151)
        first.communicate(timeout=60)
        expect(first.returncode == status, f"exit {first.returncode}, not {status}")
        expect(left(server) == [("0",)], f"{left(server)} rows without a vector")
        ingest(vecmill, server.uri)  # clears what a killed one's commit left
        each_written_once(server, 151)


def test_interrupted_at_the_last_page(vecmill, folder):
    at_the_last_page(vecmill, folder, lambda run: run.send_signal(2), 130)


def test_killed_at_the_last_page(vecmill, folder):
    at_the_last_page(vecmill, folder, lambda run: run.kill(), -9)


def test_retry_failed(vecmill, folder):
    """What one process has tried again is not tried by the others of its run too."""
    with fresh() as server:
        fill(server, 300)
        server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL)")
        ingest(vecmill, server.uri, 50, status=3)
        counted = copy.copy(vecmill)
        counted.environment = vecmill.environment | {"VECMILL_COUNT_CALLS": str(folder / "calls")}
        runs = [start(counted, server.uri, 10, "--retry-failed", "--workers", 1, "--sleep", 0.02) for _ in range(3)]
        for run in runs:
            output, errors = run.communicate(timeout=60)
            expect(run.returncode == 3 and output.count(" 300 / 300") == 1, f"exit {run.returncode}: {output[-400:]} {errors}")
        n_texts, _ = struct.unpack("=QQ", (folder / "calls").read_bytes())
        expect(n_texts == 300, f"{n_texts} texts were tried again, of 300")


def test_retry_failed_joins_late(vecmill, folder):
    """Who joins when others have tried again in vain tells that, and not of an earlier run."""
    with fresh() as server:
        fill(server, 300)
        server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL OR id > 20)")
        ingest(vecmill, server.uri, status=3)
        server.psql("UPDATE t SET embedding = NULL")
        with locked(server, "id = 290"):
            runs = [start(vecmill, server.uri, 20, "--retry-failed", "--workers", 1)]
            waiting(server)
            until(server, "SELECT count(*) FROM vecmill.failures WHERE at >= (SELECT run_began FROM vecmill.columns)", "20")
            runs.append(start(vecmill, server.uri, 20, "--retry-failed", "--workers", 1))
            until(server, "SELECT count(*) FROM vecmill.workers", "2")
            time.sleep(0.3)
        ends = [run.communicate(timeout=60) for run in runs]
        expect([run.returncode for run in runs] == [3, 3], str(ends))
        expect("20 rows could not be embedded, the first because: " in ends[0][1], ends[0][1])
        expect("20 rows could not be embedded by the other processes of this run" in ends[1][1] and "earlier" not in ends[1][0], str(ends[1]))


def test_retry_failed_looks_late(vecmill, folder):
    """Whose last look at what has failed is late, when another run has begun to try it again: it tells of it all the same."""
    with fresh() as server:
        fill(server, 300)
        server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL OR id <> 150)")
        with Gate(server, b'SELECT EXISTS (SELECT 1 FROM "vecmill"."failures" WHERE column_id = 1)::text', Fate.PASS) as gate:
            with locked(server, "id = 150"):
                first = start(vecmill, server.uri, 20, "--retry-failed", "--workers", 1)
                waiting(server)
                late = start(vecmill, gate.uri, 20, "--retry-failed", "--workers", 1)
                until(server, "SELECT count(*) FROM vecmill.workers", "2")
                until(server, "SELECT count(embedding) FROM t", "280")
            output, errors = first.communicate(timeout=60)
            expect(first.returncode == 3, f"exit {first.returncode}: {output[-400:]} {errors}")
            gate.wait()
            with locked(server, "id = 150"):
                second = start(vecmill, server.uri, 20, "--retry-failed", "--workers", 1)
                waiting(server)
                gate.open()
                output, errors = late.communicate(timeout=60)
                expect(late.returncode == 3 and "1 rows could not be embedded by the other processes" in errors, f"exit {late.returncode}: {output[-400:]} {errors}")
        output, errors = second.communicate(timeout=60)
        expect(second.returncode == 3, f"exit {second.returncode}: {output[-400:]} {errors}")


def test_counts_begin_anew(vecmill, folder):
    """What the lease of a run that died half-way through a page has counted is not the next run's."""
    with fresh() as server:
        fill(server, 100)
        ingest(vecmill, server.uri)
        server.psql("""UPDATE t SET embedding = NULL WHERE id = 7; INSERT INTO vecmill.leases(column_id, owner, first_key, last_key, n_rows, expires, n_written,
            n_failed) SELECT id, gen_random_uuid(), '{1}', '{100}', 100, now() - interval '1 s', 99, 0 FROM vecmill.columns""")
        run = start(vecmill, server.uri)
        at_its_end(run, 1)
        expect(server.psql("SELECT n_done, n_total FROM vecmill.columns") == [("1", "1")] and left(server) == [("0",)], "not one row done, of one")


def test_commit_of_another_run(vecmill, folder):
    """A run of other rows does not begin beside a commit that is still under way: what that keeps of hashes would come after its own."""
    with fresh() as server:
        fill(server, 100)
        with locked(server, "id = 7"):
            run = start(vecmill, server.uri, 1000, "--workers", 1, "--lease", 1)
            waiting(server)
            run.kill()
            run.communicate()
            until(server, "SELECT (count(*) FILTER (WHERE expires > now())) FROM vecmill.leases", "0")
            done = ingest(vecmill, server.uri, "--changed", status=1)
            expect(done.stderr == "vecmill: table t: a commit of another run, with other rows in view, is still under way on its column embedding: id id (integer); "
                   "text text (another session has locked a row that it writes; run again when that is over)\n", done.stderr)
        until(server, "SELECT count(embedding) FROM t", "100")
        server.psql("UPDATE t SET text = 'another' WHERE id = 3")
        output = ingest(vecmill, server.uri, "--changed").stdout
        expect("Embedded 1 rows" in output, output)
        expect("Nothing to embed" in ingest(vecmill, server.uri, "--changed").stdout, "embedded again")


def test_progress_of_others(vecmill, folder):
    """What another process has done since is in the first line that follows, and not only in the last."""
    with fresh() as server:
        fill(server, 2000)
        slow = start(vecmill, server.uri, 20, "--workers", 1, "--connections", 1, "--sleep", 0.3)
        begun(slow, 1)
        stop_between_pages(server, slow)
        other = start(vecmill, server.uri, 20, "--workers", 1, "--sleep", 0.02)
        begun(other, 10)
        other.send_signal(signal.SIGINT)
        output, errors = other.communicate(timeout=60)
        expect(other.returncode == 130, f"exit {other.returncode}: {errors}")
        n_others = int(("\n" + output).split("\nEmbedded ")[1].split()[0])
        n_done = int(server.psql("SELECT count(embedding) FROM t")[0][0])
        expect(n_others >= 200 and n_done > n_others, f"{n_others} of {n_done}")
        slow.send_signal(signal.SIGCONT)
        # its own pages that were committed when it was stopped may be told first, one in each line
        lines = [slow.stdout.readline() for _ in range(2 + (n_done - n_others) // 20)]
        slow.kill()
        slow.communicate()
        places = [tuple(map(int, line.split(" Progress: ")[1].split(" / "))) for line in lines if " Progress: " in line]
        expect(len(places) == len(lines) and places[-1][0] > n_done and places[-1][1] == 2000, f"{n_done} done when it went on, and then: {lines}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
