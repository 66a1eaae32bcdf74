#!/usr/bin/python3
"""A hot standby: what only reads works there, what writes is told to go to the primary, which libpq's own words find.

  test_standby.py --vecmill PATH [NAME..]
"""
import functools
import json
import struct
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import begun, by_sqlite, fill, floats, ingest, place, start, told  # noqa: E402
from servers import Server  # noqa: E402


class Standby(Server):
    """A copy of a primary that is stopped for it, and follows from then on."""

    def __init__(self, primary: Server):
        self.primary = primary
        super().__init__(settings={"primary_conninfo": primary.conninfo_of(dbname=None), "hot_standby": True})

    def initialise(self, auth: str, vector: bool) -> None:
        self.primary.write("data/pg_hba.conf", "local all all trust\nhost all,replication all 127.0.0.1/32 trust\n")
        self.primary.stop()
        self.ask(["cp", "-a", self.primary.data, self.data], user=None, group=None, extra_groups=None)
        self.write("data/standby.signal", "")
        self.primary.start()

    def catch_up(self) -> None:
        """Until all that the primary has committed is here."""
        place = self.primary.psql("SELECT pg_current_wal_lsn()")[0][0]
        for _ in range(1000):
            if self.psql(f"SELECT pg_last_wal_replay_lsn() >= '{place}'") == [("t",)]:
                return
            time.sleep(0.01)
        raise AssertionError("the standby does not follow")


@functools.cache
def pair() -> tuple:
    primary = Server()
    fill(primary, 400)
    return primary, Standby(primary)


def test_reads(vecmill, folder):
    """search, jobs and a dry run, as on the primary; not one row is written, and nothing is waited for."""
    primary, standby = pair()
    ingest(vecmill, primary.uri, "--limit", 300)
    standby.catch_up()
    for more in ([], ["--exact"]):
        found = [vecmill.run("search", "t", "star 77", "--db", server.uri, "--json", "-k", 3, *more).stdout for server in (primary, standby)]
        expect(found[0] == found[1] and json.loads(found[1].splitlines()[0])["id"] == 77, str(found))
    jobs = [json.loads(vecmill.run("jobs", "--db", server.uri, "--json").stdout) for server in (primary, standby)]
    expect(jobs[0] == jobs[1] and jobs[1]["done"] == 300, str(jobs))
    dry = ingest(vecmill, standby.uri, "--dry-run")
    expect("Remaining to embed in t: 100\n" in dry.stdout and "Dry run: nothing was written. 100 rows to embed" in dry.stdout, dry.stdout)


def test_writes(vecmill, folder):
    """Told before anything is embedded, whether there is a record of the table or nothing at all."""
    primary, standby = pair()
    advice = "in a read-only transaction (the server takes no writes: a standby, or default_transaction_read_only; name the primary)"
    primary.psql("CREATE TABLE bare(id integer PRIMARY KEY, text text); INSERT INTO bare VALUES(1, 'a')")
    standby.catch_up()
    for words in ([], ["--changed"], ["--create-metrics"]):
        told(vecmill, standby.uri, f"{place(standby)}: cannot lock the run: cannot execute SELECT FOR NO KEY UPDATE {advice}", *words)
    told(vecmill, standby.uri, f"{place(standby)}: cannot write the record: cannot execute INSERT {advice}", table="bare")


def both(*servers) -> str:
    """An address of several hosts, of which one that takes writes is wanted."""
    hosts = ",".join(f"{server.host}:{server.port}" for server in servers)
    return f"postgresql://{servers[0].user}@{hosts}/{servers[0].database}?target_session_attrs=read-write"


def test_both_named(vecmill, folder):
    """Of two hosts the one that takes writes, whichever stands first."""
    primary, standby = pair()
    for n, servers in ((301, (standby, primary)), (302, (primary, standby))):
        done = ingest(vecmill, both(*servers), "--limit", n)
        expect("Embedded 1 rows" in done.stdout and not done.stderr, done.stdout + done.stderr)


def test_promoted(vecmill, folder):
    """The primary goes and the standby takes its place: the run goes on there, and what had not come across is done again."""
    primary, standby = pair()
    primary.psql("INSERT INTO t SELECT i, 'star ' || i FROM generate_series(401, 4000) AS i")
    standby.catch_up()
    run = start(vecmill, both(primary, standby), 20, "--workers", 1, "--sleep", 0.01)
    begun(run, 10)
    primary.stop("immediate")
    standby.psql("SELECT pg_promote()")
    output, errors = run.communicate(timeout=100)
    expect(run.returncode == 0, f"{run.returncode} {output[-300:]} {errors}")
    expect(standby.psql("SELECT count(*), count(embedding) FROM t") == [("4000", "4000")], "rows without a vector")
    expect(standby.psql("SELECT (SELECT count(*) FROM vecmill.leases), (SELECT count(*) FROM vecmill.workers)") == [("0", "0")], "left behind")
    rows = standby.psql("SELECT text, embedding FROM t")
    expected = by_sqlite(vecmill, folder, [text for text, _ in rows])
    wrong = [text for (text, vector), wanted in zip(rows, expected) if [struct.pack("<f", x) for x in floats(vector)] != [struct.pack("<f", x) for x in wanted]]
    expect(not wrong, f"{len(wrong)} vectors of another text: {wrong[:3]}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
