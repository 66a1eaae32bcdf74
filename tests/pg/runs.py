"""What the tests of runs against real servers share: a server as good as new, tables, runs of the command, and what they wait for.

    with fresh() as server:
        fill(server, 300)
        with locked(server, "id = 7"):
            run = start(vecmill, server.uri, 50)
            waiting(server)
        at_its_end(run, 300)
"""
import contextlib
import functools
import json
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import MAKE_TINY_MODEL, expect  # noqa: E402
from servers import Server  # noqa: E402

N_DIMENSIONS = 32  # of the tiny model


# --- servers and tables ---


@functools.cache
def shared_server() -> Server:
    return Server()


@contextlib.contextmanager
def fresh():
    """A server of several tests, as good as new. The end of the program ends it."""
    server = shared_server()
    server.psql("DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS vecmill CASCADE; CREATE SCHEMA public; CREATE EXTENSION vector",
                options="-c client_min_messages=error")
    yield server
    server.close_sessions()


def place(server) -> str:
    return f"{server.user}@{server.host}:{server.port}/{server.database}"


def fill(server, n: int, **more) -> None:
    server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS})); "
                f"INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, {n}) AS i", **more)


def narrow(server, table: str = "contents") -> None:
    """The corpus's column, as wide as the tiny model is."""
    server.psql(f"ALTER TABLE {table} DROP COLUMN embedding; ALTER TABLE {table} ADD COLUMN embedding vector({N_DIMENSIONS})")


def log_writes(server, table: str, key: str, column: str = "embedding") -> None:
    server.psql(f"""CREATE TABLE log(key text);
        CREATE FUNCTION log_write() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES(new.{key}::text); RETURN new; END$$;
        CREATE TRIGGER log_write AFTER UPDATE OF {column} ON {table} FOR EACH ROW EXECUTE FUNCTION log_write()""")


def each_written_once(server, n: int) -> None:
    got = server.psql("SELECT count(*), count(DISTINCT key) FROM log")
    expect(got == [(str(n), str(n))], f"writes and ids: {got}, not {n}")
    left = server.psql("SELECT (SELECT count(*) FROM vecmill.leases), (SELECT count(*) FROM vecmill.workers)")
    expect(left == [("0", "0")], f"left behind: {left}")


STATE = ("columns", "leases", "workers", "failures", "hashes", "hash_pages", "version")
ALL_OF_STATE = ", ".join(f'"vecmill"."{table}"' for table in STATE)


def state_grants(user: str, writes: bool = True) -> str:
    """What the owner of the state is told to run for a user."""
    return (f'GRANT USAGE ON SCHEMA "vecmill" TO "{user}"; GRANT SELECT{", INSERT, UPDATE, DELETE" if writes else ""} ON {ALL_OF_STATE} TO "{user}"; ')


def quoted(text: str) -> str:
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"

# --- runs ---


@functools.cache
def model_of_384(folder: Path) -> Path:
    """As wide as the corpus tables' columns, and no deeper than need be."""
    path = folder / "tiny-384"
    subprocess.run([sys.executable, MAKE_TINY_MODEL, path, "--hidden", "384", "--heads", "12", "--layers", "1", "--intermediate", "8"], check=True)
    return path


def ingest(vecmill, db: str, *words, table: str = "t", model=None, status: int | None = 0, wait: int | None = None):
    environment = {"VECMILL_SERVER_WAIT": str(wait)} if wait else None
    return vecmill.run("ingest", table, *words, "--db", db, "--model", model or vecmill.model, status=status, environment=environment, timeout=120)


def start(vecmill, db: str, *words, table: str = "t", wait: int = 120):
    environment = vecmill.environment | {"VECMILL_SERVER_WAIT": str(wait)}
    return vecmill.start("ingest", table, *words, "--db", db, "--model", vecmill.model, env=environment)


def told(vecmill, db: str, message: str, *words, status: int = 1, **more):
    """The run ends with just this on stderr."""
    done = ingest(vecmill, db, *words, status=status, **more)
    expect(done.stderr == f"vecmill: {message}\n", f"{done.stderr!r}, not {message!r}")


def begun(run, n_batches: int = 3):
    """Reads until so many batches are committed."""
    while n_batches > 0:
        line = run.stdout.readline()
        expect(line != "", "the run ended before its time")
        n_batches -= line.startswith("Processed batch")


def ended(run, status: int, within_s: float) -> str:
    """Its stderr; it must end so, in time."""
    from_s = time.monotonic()
    _, errors = run.communicate(timeout=120)
    took_s = time.monotonic() - from_s
    expect(run.returncode == status, f"exit {run.returncode}, not {status}: {errors}")
    expect(took_s < within_s, f"{took_s:.1f} s until it ended: {errors}")
    return errors


def embedded(run) -> int:
    """Of a run that has ended well: how many rows its summary says."""
    output, errors = run.communicate(timeout=120)
    expect(run.returncode == 0, f"exit {run.returncode}: {output[-400:]} {errors}")
    return sum(int(line.split()[1]) for line in output.splitlines() if line.startswith("Embedded "))

def stop_between_pages(server, run) -> None:
    """SIGSTOP at a moment when no transaction of its is open, which would hold the others up."""
    while True:
        run.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        if server.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecmill' AND state LIKE 'idle in transaction%'") == [("0",)]:
            return
        run.send_signal(signal.SIGCONT)
        time.sleep(0.02)


# --- what is waited for ---


def until(server, sql: str, wanted: str) -> None:
    deadline = time.monotonic() + 60
    while (got := server.psql(sql)) != [(wanted,)]:
        expect(time.monotonic() < deadline, f"{sql}: {got}, not {wanted}")
        time.sleep(0.02)


def waiting(server, n: int = 1) -> None:
    """Until so many of vecmill's sessions wait for a lock."""
    for _ in range(600):
        got = server.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecmill' AND wait_event_type = 'Lock'")
        if int(got[0][0]) >= n:
            return
        time.sleep(0.02)
    raise AssertionError("nobody waits for a lock")


@contextlib.contextmanager
def locked(server, where: str, table: str = "t"):
    """These rows are locked by another session; its sql("ROLLBACK") lets them go before the end."""
    with server.session() as locker:
        locker.sql(f"BEGIN; SELECT 1 FROM {table} WHERE {where} FOR UPDATE")
        yield locker
        locker.sql("ROLLBACK")


def alone(server) -> None:
    """Until the server has ended the sessions of a run that has ended."""
    for _ in range(600):
        if server.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecmill'") == [("0",)]:
            return
        time.sleep(0.02)
    raise AssertionError("sessions of nobody")

# --- vectors ---


def floats(text: str) -> list:
    return json.loads(text)


def by_sqlite(vecmill, folder: Path, texts: list) -> list:
    """The vectors that SQLite gets of these texts, as lists of floats."""
    path = folder / "same.db"
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO t(text) VALUES(?)", [(text,) for text in texts])
        db.commit()
        vecmill.ingest(path)
        return [struct.unpack(f"<{len(v) // 4}f", v) if v else None for v, in db.execute("SELECT embedding FROM t ORDER BY id")]
