#!/usr/bin/python3
"""What goes wrong at a server, and what vecmill says of it: whole messages and exit statuses, from real servers.

  test_errors.py --vecmill PATH [NAME..]
"""
import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from guard import children_of  # noqa: E402
from ingest_case import expect, run_tests  # noqa: E402
from runs import N_DIMENSIONS, alone, begun, each_written_once, ended, fill, fresh, ingest, locked, log_writes, place, start, told, waiting  # noqa: E402
from servers import TLS, Server  # noqa: E402


# --- the server itself ---


def test_server_gone(vecmill, folder):
    """Waited for, then given up, once and not once a page; what was committed is kept."""
    with Server() as server:
        fill(server, 20000)
        log_writes(server, "t", "id")
        run = start(vecmill, server.uri, 20, "--workers", 1, wait=3)
        begun(run)
        server.stop("immediate")
        lines = ended(run, 1, 8).splitlines()
        expect(len(lines) in (2, 3) and all(line.endswith("; trying again (Ctrl-C gives up)") for line in lines[:-1]), str(lines))
        wanted = (rf'vecmill: PostgreSQL: cannot connect: connection to server at "127\.0\.0\.1", port {server.port} failed: Connection refused '
                  r"\(is the server running there, and is that its port\?\); gave up after [34] s: what was committed is kept \(run again\)")
        expect(re.fullmatch(wanted, lines[-1]), lines[-1])
        run = start(vecmill, server.uri, 20)
        told_by_run = ended(run, 1, 3)  # at the beginning nobody is waited for
        expect(told_by_run == f'vecmill: PostgreSQL: cannot connect: connection to server at "127.0.0.1", port {server.port} failed: Connection refused '
                              "(is the server running there, and is that its port?)\n", told_by_run)
        server.start()
        run = start(vecmill, server.uri, 1000, wait=60)
        begun(run, 1)
        server.stop("fast")
        time.sleep(0.3)
        run.send_signal(signal.SIGINT)
        errors = ended(run, 130, 4)
        expect("stopped" in errors.splitlines()[-1], errors)
        server.start()
        ingest(vecmill, server.uri, 1000)
        each_written_once(server, 20000)


def test_server_frozen(vecmill, folder):
    """One that is there and says nothing: Ctrl-C ends the run all the same."""
    with Server() as server:
        fill(server, 20000)
        run = start(vecmill, server.uri, 500)
        begun(run)
        pids = [*children_of(server.pid), server.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(0.3)
            run.send_signal(signal.SIGINT)
            ended(run, 130, 15)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        ingest(vecmill, server.uri, 1000)
        expect(server.psql("SELECT count(embedding) FROM t") == [("20000",)], "rows without a vector")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        db = f"postgresql://x@127.0.0.1:{port}/x"
        told(vecmill, f"{db}?connect_timeout=2", f"PostgreSQL: cannot connect: 127.0.0.1 port {port} does not answer (is the server running there, and can it "
             "be reached? connect_timeout says how long to wait)")
        run = start(vecmill, db)
        time.sleep(0.5)
        run.send_signal(signal.SIGTERM)
        errors = ended(run, 143, 4)
        expect(errors == "vecmill: stopped while connecting to PostgreSQL\n", errors)


def test_several_hosts(vecmill, folder):
    """The first that answers is taken, and asked first from then on: a silent one is waited for once, not by each connection."""
    with fresh() as server, socket.create_server(("127.0.0.1", 0)) as silent:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'one')")
        dead = silent.getsockname()[1]
        hosts = f"host=127.0.0.1,localhost user=postgres dbname=corpus connect_timeout=2 gssencmode=disable sslmode=disable port={dead},"
        vecmill.run("ingest", "t", "--db", f"{hosts}{server.port}", "--model", vecmill.model)
        expect(server.psql("SELECT count(embedding) FROM t") == [("1",)], "not written")
        silent.settimeout(0)
        calls = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                calls += 1
        expect(calls == 1, f"the silent host was asked {calls} times")
    refused = 'connection to server at "127.0.0.1", port 1 failed: Connection refused (is the server running there, and is that its port?)'
    told(vecmill, "host=127.0.0.1,127.0.0.1 port=1 user=u dbname=d", "; then ".join([f"PostgreSQL: cannot connect: {refused}"] * 2))
    told(vecmill, "host=a,b port=1,2,3 user=u dbname=d", "PostgreSQL: cannot connect: could not match 3 port numbers to 2 hosts (as many ports as hosts, or one for all)")


def test_copy_instead(vecmill, folder):
    """A server that answers with a COPY is given up on, where libpq would tell of the COPY for ever."""
    def serve(listener) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")  # welcome
            client.recv(65536)
            client.sendall(b"1\0\0\0\x04" b"2\0\0\0\x04" b"H\0\0\0\x07\0\0\0")
            while client.recv(65536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,), daemon=True)
        server.start()
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        told(vecmill, f"postgresql://u@{place}/d?sslmode=disable&gssencmode=disable", f"u@{place}/d: cannot check the names: the server began a COPY that "
             "nobody asked for (is it PostgreSQL?)")
        server.join(10)


def test_too_many_connections(vecmill, folder):
    """Which limit, how many are in use, and what to do; with fewer it works."""
    with fresh() as server:
        fill(server, 50)
        server.psql("DROP ROLE IF EXISTS few; CREATE ROLE few LOGIN CONNECTION LIMIT 2; GRANT ALL ON SCHEMA public TO few; GRANT ALL ON t TO few; "
                    "GRANT CREATE ON DATABASE corpus TO few", options="-c client_min_messages=error")
        few = server.uri_of(user="few")
        told(vecmill, few, "too many connections: the server allows role few 2, 2 in use; lower --connections or ALTER ROLE .. CONNECTION LIMIT")
        alone(server)
        ingest(vecmill, few, "--connections", 2)
        alone(server)
        with server.session(user="few"), server.session(user="few"):
            told(vecmill, few, 'PostgreSQL: too many connections: too many connections for role "few" (lower --connections or ALTER ROLE .. CONNECTION LIMIT)')
        alone(server)
        server.psql("ALTER ROLE few CONNECTION LIMIT -1; ALTER DATABASE corpus CONNECTION LIMIT 2")
        told(vecmill, few, "too many connections: the server allows database corpus 2, 2 in use; lower --connections or ALTER DATABASE .. CONNECTION LIMIT")
        alone(server)
        with server.session(user="few"), server.session(user="few"):
            told(vecmill, few, 'PostgreSQL: too many connections: too many connections for database "corpus" (lower --connections or ALTER DATABASE .. CONNECTION LIMIT)')
        server.psql("ALTER DATABASE corpus CONNECTION LIMIT -1; DROP OWNED BY few; DROP ROLE few")
    with Server(settings={"max_connections": 4, "superuser_reserved_connections": 0, "max_wal_senders": 0}) as server:
        fill(server, 50)
        with server.session(), server.session():
            told(vecmill, server.uri, "too many connections: the server allows 4, 4 in use; lower --connections or raise max_connections")
            alone(server)
            expect(server.psql("SELECT to_regclass('vecmill.leases'), count(embedding) FROM t")[0][1] == "0", "rows were written")
            ingest(vecmill, server.uri, "--connections", 2, 10)
            server.psql("UPDATE t SET embedding = NULL")
            ingest(vecmill, server.uri, "--connections", 1, 10)
            expect(server.psql("SELECT count(embedding) FROM t") == [("50",)], "rows without a vector")


def test_passwords_and_tls(vecmill, folder):
    """Refused as libpq refuses, with what to check; no message holds the password. TLS is the 15's, which has no pgvector."""
    no_pgvector = "this database has no pgvector (install it, then as a superuser: CREATE EXTENSION vector)"
    with Server(version=15, tls=True, auth="scram-sha-256") as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'a')")
        (server.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        server.restart()
        at = f'PostgreSQL: cannot connect: connection to server at "127.0.0.1", port {server.port} failed: '
        told(vecmill, server.uri, f"{place(server)}: {no_pgvector}")
        told(vecmill, server.uri_of(sslmode="require", sslrootcert=None), f"{place(server)}: {no_pgvector}")
        told(vecmill, server.uri_of(password="Wr0ngPassw0rd"), at + 'FATAL: password authentication failed for user "postgres" (check the user and its password)')
        told(vecmill, server.uri_of(password=None), at + "fe_sendauth: no password supplied (check the user and its password)")
        told(vecmill, server.uri_of(sslrootcert=server.tls.wrong_ca), at + "SSL error: certificate verify failed (check sslrootcert and the host's name)")
        done = ingest(vecmill, server.uri_of(sslmode="disable"), status=1)
        expect(done.stderr == f'vecmill: {at}FATAL: no pg_hba.conf entry for host "127.0.0.1", user "postgres", database "corpus", no encryption '
                              "(check the user and pg_hba.conf)\n", done.stderr)
        # the name must be right as well: the certificate is for localhost and 127.0.0.1
        done = ingest(vecmill, server.uri_of(host="other.invalid", hostaddr="127.0.0.1"), status=1)
        expect("does not match host name \"other.invalid\" (check sslrootcert and the host's name)" in done.stderr, done.stderr)
        told(vecmill, server.uri_of(dbname="nowhere"), at + 'FATAL: database "nowhere" does not exist (give another --db; psql -l lists the databases)')
    with fresh() as server:
        at = f'PostgreSQL: cannot connect: connection to server at "127.0.0.1", port {server.port} failed: '
        told(vecmill, server.uri_of(sslmode="verify-full", sslrootcert=TLS().ca),
             at + "server does not support SSL, but SSL was required (sslmode says whether TLS must be)")


def test_read_only(vecmill, folder):
    why = "(the server takes no writes: a standby, or default_transaction_read_only; name the primary)"
    with fresh() as server:
        fill(server, 50)
        told(vecmill, server.uri_of(options="-c default_transaction_read_only=on"),
             f"{place(server)}: cannot create vecmill's schema: cannot execute CREATE SCHEMA in a read-only transaction {why}")
        # turned on under way
        fill_more = "INSERT INTO t SELECT i, 'star ' || i FROM generate_series(51, 20000) AS i"
        server.psql(fill_more)
        run = start(vecmill, server.uri, 20)
        begun(run)
        server.psql("ALTER SYSTEM SET default_transaction_read_only = on")
        server.psql("SELECT pg_reload_conf()")
        errors = ended(run, 1, 10)
        expect(re.fullmatch(rf"vecmill: {re.escape(place(server))}: .*: cannot execute \w+( FOR (NO KEY )?UPDATE)? in a read-only transaction {re.escape(why)}\n", errors), errors)
        server.psql("SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only")
        server.psql("SELECT pg_reload_conf()")
        ingest(vecmill, server.uri, 1000)
        expect(server.psql("SELECT count(embedding) FROM t") == [("20000",)], "rows without a vector")


# --- errors of statements ---


def raising(server, code: str, times: int | None) -> None:
    """Updates of vectors fail with this code: so many times, then no more; None: always."""
    server.psql(f"""DROP SEQUENCE IF EXISTS raised; CREATE SEQUENCE raised;
        CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
          IF nextval('raised') <= {times if times is not None else 1000000} THEN RAISE EXCEPTION 'as it was told to' USING ERRCODE = '{code}'; END IF;
          RETURN new; END$$;
        DROP TRIGGER IF EXISTS fail ON t; CREATE TRIGGER fail BEFORE UPDATE OF embedding ON t FOR EACH STATEMENT EXECUTE FUNCTION fail();
        UPDATE t SET text = text""", options="-c client_min_messages=error")


def test_raised(vecmill, folder):
    """Where trying again can help it is tried, however often it was in vain before; otherwise the message says what to do."""
    always = {
        "53100": "as it was told to (make room on the server's disk, run again: what was committed is kept)",
        "53200": "as it was told to (the server is short of memory: a smaller BATCH, or run again later)",
        "53000": "as it was told to (the server is short of something: run again later, what was committed is kept)",
        "58030": "as it was told to (the server's own disk or files: see its log)",
        "57014": "as it was told to (statement_timeout, or somebody cancelled it: raise it, or a smaller BATCH)",
        "XX000": "as it was told to (see the server's log)",
        "0A000": "as it was told to",
    }
    with fresh() as server:
        fill(server, 40)
        for code, words in always.items():
            raising(server, code, None)
            told(vecmill, server.uri, f"{place(server)}: cannot write vectors: {words}", 10)
            expect(server.psql("SELECT count(embedding) FROM t") == [("0",)], "something was written")
        for code in ("40001", "40P01", "53300", "57P03"):
            raising(server, code, 3)
            ingest(vecmill, server.uri, 10)
            expect(server.psql("SELECT count(embedding), (SELECT last_value FROM raised) FROM t") == [("40", "7")], f"{code}: not tried again")
            server.psql("DROP TRIGGER fail ON t; UPDATE t SET embedding = NULL")
        raising(server, "40001", None)
        done = ingest(vecmill, server.uri, 10, status=1, wait=2)
        expect(re.fullmatch(rf"vecmill: {re.escape(place(server))}: cannot write vectors: as it was told to \(others write to the same rows all the time: run again\); "
                            r"gave up after [23] s: what was committed is kept \(run again\)", done.stderr.splitlines()[-1]), done.stderr)
        # what fails once goes on in the next run
        raising(server, "53100", 1)
        ingest(vecmill, server.uri, 10, status=1)
        ingest(vecmill, server.uri, 10)
        expect(server.psql("SELECT count(embedding) FROM t") == [("40",)], "rows without a vector")


def test_serializable(vecmill, folder):
    """Servers that make every transaction serializable: three processes that get into each other's way all the time."""
    with fresh() as server:
        fill(server, 3000)
        log_writes(server, "t", "id")
        db = server.uri_of(options="-c default_transaction_isolation=serializable")
        runs = [start(vecmill, db, 50, "--workers", 1) for _ in range(3)]
        for run in runs:
            ended(run, 0, 90)
        each_written_once(server, 3000)


def test_deadlock(vecmill, folder):
    """A real one, whose victim is vecmill: the page is written again."""
    with fresh() as server:
        fill(server, 100)
        log_writes(server, "t", "id")
        with server.session(options="-c deadlock_timeout=60s") as other:
            other.sql("BEGIN")
            other.sql("UPDATE t SET text = text WHERE id = 60")
            run = start(vecmill, server.uri_of(options="-c deadlock_timeout=2s"), 100)
            waiting(server)
            other.sql("UPDATE t SET text = text WHERE id = 1")
            other.sql("COMMIT")
        errors = ended(run, 0, 30)
        expect("deadlock detected" in server.log(), "there was no deadlock")
        each_written_once(server, 100)
        expect("deadlock detected" in errors and errors.endswith("; trying again (Ctrl-C gives up)\n"), errors)


def test_locks(vecmill, folder):
    """Waited for, with a line after 5 s, until Ctrl-C or one of the server's own time limits ends it."""
    with fresh() as server:
        fill(server, 100)
        ingest(vecmill, server.uri, "--limit", 10)
        with server.session() as other:
            other.sql("BEGIN")
            other.sql("UPDATE t SET text = text WHERE id = 60")
            limited = (("statement_timeout=500", "canceling statement due to statement timeout (statement_timeout, or somebody cancelled it: raise it, or a "
                        "smaller BATCH)"),
                       ("lock_timeout=500", "canceling statement due to lock timeout (lock_timeout: raise it, or run again when the table rests)"))
            for setting, words in limited:
                told(vecmill, server.uri_of(options=f"-c {setting}"), f"{place(server)}: cannot write vectors: {words}", 100)
            run = start(vecmill, server.uri, 100)
            line = run.stderr.readline()
            expect(line == f"vecmill: {place(server)}: waiting for the server for 5 s: cannot write vectors (Ctrl-C gives up)\n", line)
            run.send_signal(signal.SIGINT)
            errors = ended(run, 130, 5)
            expect(errors == f"vecmill: {place(server)}: cannot write vectors: stopped while the server did not answer (something holds a lock, or it is busy)\n",
                   errors)
            other.sql("COMMIT")
        # a table that is locked as a whole, from before the run
        with server.session() as other:
            other.sql("BEGIN")
            other.sql("LOCK TABLE t")
            run = start(vecmill, server.uri, 100)
            waiting(server)
            run.send_signal(signal.SIGTERM)
            ended(run, 143, 5)
            run = start(vecmill, server.uri, 100)
            waiting(server)
            other.sql("COMMIT")
            ended(run, 0, 20)
        expect(server.psql("SELECT count(embedding) FROM t") == [("100",)], "rows without a vector")

def test_locked_metrics(vecmill, folder):
    """What is waited for is told: here the check of the metrics table, which somebody has locked."""
    with fresh() as server, server.session() as other:
        fill(server, 30)
        ingest(vecmill, server.uri, "--create-metrics", "--limit", 10)
        other.sql("BEGIN")
        other.sql("LOCK TABLE t_metrics")
        run = start(vecmill, server.uri)
        line = run.stderr.readline()
        expect(line == f"vecmill: {place(server)}: waiting for the server for 5 s: cannot check the metrics table (Ctrl-C gives up)\n", line)
        run.send_signal(signal.SIGINT)
        errors = ended(run, 130, 5)
        expect(errors == f"vecmill: {place(server)}: cannot check the metrics table: stopped while the server did not answer (something holds a lock, or it is "
                         "busy)\n", errors)
        other.sql("ROLLBACK")


def test_limited_by_the_writer(vecmill, folder):
    """The summary says so though nothing was committed; where nothing was embedded, nothing was the limit."""
    with fresh() as server:
        fill(server, 2000)
        with locked(server, "true"):
            run = start(vecmill, server.uri, 20, "--workers", 1)
            waiting(server)
            time.sleep(0.5)
            run.send_signal(signal.SIGINT)
            output, _ = run.communicate(timeout=60)
        expect(run.returncode == 130 and "\nEmbedded 0 rows of t " in output and "; limited by: writer (" in output, output)


def test_ignored_updates(vecmill, folder):
    """A trigger that passes over rows in silence, or takes the vector away: they have failed, and are not embedded again and again."""
    with fresh() as server:
        fill(server, 40)
        server.psql("""CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF new.id % 10 = 3 THEN RETURN NULL; END IF;
              IF new.id = 15 THEN new.embedding = NULL; END IF; RETURN new; END$$;
            CREATE TRIGGER passes BEFORE UPDATE OF embedding ON t FOR EACH ROW EXECUTE FUNCTION passes()""")
        done = ingest(vecmill, server.uri, 10, status=3)
        expect("5 rows could not be embedded, the first because: the database passed over the vector: a trigger on the table ignores the update, or changes the text with it (see vecmill.failures;" in done.stderr,
               done.stderr)
        expect("Embedded 35 rows" in done.stdout and "changed" not in done.stdout and "Progress: 40 / 40" in done.stdout, done.stdout)
        got = server.psql("SELECT string_agg(key[1], ' ' ORDER BY key[1]::int) FROM vecmill.failures")
        expect(got == [("3 13 15 23 33",)], str(got))
        expect(server.psql("SELECT count(DISTINCT k), count(k) FROM vecmill.hash_pages, unnest(keys) AS k") == [("35", "35")], "hashes of rows without a vector")
        done = ingest(vecmill, server.uri, 10, status=3)
        expect("earlier run" in done.stderr and "Processed" not in done.stdout, done.stdout)
        server.psql("DROP TRIGGER passes ON t")
        ingest(vecmill, server.uri, "--retry-failed")
        expect(server.psql("SELECT count(embedding), (SELECT count(*) FROM vecmill.failures) FROM t") == [("40", "0")], "not retried")


def test_trigger_changes_text(vecmill, folder):
    """No vector lands on a text that a trigger makes of it in the same write; and --changed does not chase it for ever."""
    with fresh() as server:
        fill(server, 10)
        server.psql("""CREATE FUNCTION grows() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF new.id % 2 = 0 THEN new.text = old.text || '!'; END IF; RETURN new; END$$;
            CREATE TRIGGER grows BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION grows()""")
        for _ in range(2):
            done = ingest(vecmill, server.uri, 4, "--changed", status=3)
            expect(server.psql("SELECT count(embedding), count(*) FILTER (WHERE text LIKE '%!') FROM t") == [("5", "0")], "a vector of another text")
        expect("5 rows failed in an earlier run and were not tried again" in done.stderr, done.stderr)


def test_touched_rows(vecmill, folder):
    """Rows that others write to just while they are committed, without a new text: not failed, but found again."""
    with fresh() as server:
        fill(server, 60)
        server.psql("ALTER TABLE t ADD COLUMN n integer")
        with server.session() as other:
            other.sql("BEGIN")
            other.sql("UPDATE t SET n = 1 WHERE id BETWEEN 20 AND 40")
            run = start(vecmill, server.uri, 60)
            waiting(server)
            other.sql("COMMIT")
        ended(run, 0, 20)
        expect(server.psql("SELECT count(embedding), count(n), (SELECT count(*) FROM vecmill.failures) FROM t") == [("60", "21", "0")], "taken for failed")


# --- what is not there ---


def test_missing(vecmill, folder):
    with fresh() as server:
        fill(server, 3)
        server.psql(f"CREATE TABLE wide(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS + 1})); INSERT INTO wide VALUES(1, 'a')")
        told(vecmill, server.uri, f"table wide: column embedding holds vectors of {N_DIMENSIONS + 1} numbers, the model makes {N_DIMENSIONS} (use the model that "
             "made it, or another --vector-column)", table="wide")
        ingest(vecmill, server.uri, "--schema", "public", table="public.t")
        told(vecmill, server.uri, f"{place(server)}: no table nope (tables: t, wide)", table="nope")  # its own are not named
        told(vecmill, server.uri, f"{place(server)}: no schema other (schemas: public)", "--schema", "other", table="public.t")
        server.psql('CREATE SCHEMA "Other"; CREATE TABLE "Other"."There"(id integer PRIMARY KEY, text text)')
        told(vecmill, server.uri, f'{place(server)}: no table There on the search path (there is "Other"."There": name it so)', table="There")
        told(vecmill, server.uri, f'{place(server)}: no table There in schema public (there is "Other"."There": name it so, without --schema)', "--schema", "public",
             table="There")
        server.psql('DROP SCHEMA "Other" CASCADE', options="-c client_min_messages=error")
        told(vecmill, server.uri, "table t: no column nope for --text-column (columns: id, text, embedding)", "--text-column", "nope")
        told(vecmill, server.uri, "table t: no column nope for --id-column (columns: id, text, embedding)", "--id-column", "nope")
    # dropped under way
    for statement, words in (("DROP TABLE t", 'relation "public.t" does not exist (the table was dropped or renamed meanwhile?)'),
                             ("ALTER TABLE t DROP COLUMN embedding", "column t.embedding does not exist (the column was dropped or renamed meanwhile?)")):
        with fresh() as server:
            fill(server, 20000)
            run = start(vecmill, server.uri, 20, "--workers", 1)
            begun(run)
            server.psql(statement)
            errors = ended(run, 1, 10)
            expect(re.fullmatch(rf"vecmill: {re.escape(place(server))}: cannot \w+ \w+( \w+)?: {re.escape(words)}\n", errors), errors)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
