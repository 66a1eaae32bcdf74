"""Real PostgreSQL servers for tests: on loopback, as nobody in particular, gone with the test program.

    with Server() as server:                       # 16 with pgvector; version=18, version=15 (no pgvector)
        server.psql("SELECT 1, NULL")              # [("1", None)]
        run([vecmill, "ingest", ...], env=clean_environment(**server.environment))
        server.restart("immediate"); server.kill9(); server.start()
        with Bouncer(server) as bouncer:           # pgbouncer 1.18 in front of it
            bouncer.psql("SELECT 1")

Servers have a folder and a port of their own (guard.py) and a database `corpus`, with the extension vector where
there is one; their other database is template1. The constructors start; close(), the end of `with` or the end of the
program ends. The programs come from scripts/pg_binaries.py, which fetches them once.
"""
import csv
import io
import itertools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote, urlencode

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pg_binaries  # noqa: E402
from guard import (Port, children_of, end, give, guardian, once, remove, room, server_user,  # noqa: E402
                   started_at, wait_until_gone)

NULL = "\N{SYMBOL FOR NULL}null"  # what psql prints for NULL here; no test writes it
START_S = 60
ENVIRONMENT = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE",
               "password": "PGPASSWORD", "options": "PGOPTIONS", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
lender = None  # the room() of a test program that lends its programs and new clusters to those that it starts
_numbers = itertools.count(1)


class ServerError(OSError):
    """A server that did not start or stop, with the last lines of its log."""


class SqlError(OSError):
    """What the server said instead of rows; .sqlstate is its code ("" when there was no server to say one)."""

    def __init__(self, said: str):
        self.said = said.strip()
        words = next((line for line in self.said.splitlines() if "ERROR:" in line or "FATAL:" in line), "").split()
        after = words[words.index("ERROR:" if "ERROR:" in words else "FATAL:") + 1] if words else ""
        self.sqlstate = after.rstrip(":") if len(after.rstrip(":")) == 5 and after.endswith(":") else ""
        super().__init__(self.said)


def clean_environment(**more) -> dict:
    """This program's environment without what the caller's own PostgreSQL or vecmill settings would add."""
    theirs = ("PG", "EMBED_", "VECMILL_DB")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)} | more


def programs() -> Path:
    """The folder of the programs, as the server user reaches it: linked into the room where that is not ours."""
    try:
        kept = pg_binaries.ensure()
    except pg_binaries.Unavailable as problem:
        raise ServerError(f"cannot make PostgreSQL ready: {problem}") from problem
    if not server_user():
        return kept
    linked = (lender or room()) / "programs"
    with once:
        if not linked.exists():
            shutil.copytree(kept, linked, symlinks=True, copy_function=link)
            for folder in (linked, linked / "wheel", linked / "debian"):
                folder.chmod(0o755)
    return linked


def link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


# What a client sees

class Endpoint:
    """Somewhere to connect to. `.parameters` are libpq's; conninfo, URI and environment are made of them."""

    def __init__(self, **parameters):
        self.parameters = parameters
        self.sessions = []

    host = property(lambda self: self.parameters["host"])
    port = property(lambda self: self.parameters["port"])
    user = property(lambda self: self.parameters["user"])
    database = property(lambda self: self.parameters["dbname"])
    password = property(lambda self: self.parameters.get("password"))
    conninfo = property(lambda self: self.conninfo_of())
    uri = property(lambda self: self.uri_of())
    environment = property(lambda self: self.environment_of())

    def parameters_of(self, **changes) -> dict:
        """With changes; None takes a parameter away."""
        return {name: str(value) for name, value in (self.parameters | changes).items() if value is not None}

    def conninfo_of(self, **changes) -> str:
        def quoted(value: str) -> str:
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return " ".join(f"{name}={quoted(value)}" for name, value in self.parameters_of(**changes).items())

    def uri_of(self, **changes) -> str:
        left = self.parameters_of(**changes)
        user, password = quote(left.pop("user"), ""), left.pop("password", None)
        who = user + (f":{quote(password, '')}" if password else "")
        place = f"{left.pop('host')}:{left.pop('port')}/{quote(left.pop('dbname'), '')}"
        return f"postgresql://{who}@{place}" + (f"?{urlencode(left, quote_via=quote)}" if left else "")

    def environment_of(self, **changes) -> dict:
        """The PG* variables alone: add them to clean_environment()."""
        none = {"PGPASSFILE": str(room() / "no-passwords"), "PGSERVICEFILE": str(room() / "no-services")}
        return none | {ENVIRONMENT[name]: value for name, value in self.parameters_of(**changes).items()}

    def psql_command(self, **changes) -> dict:
        """The words and environment of a psql whose rows are CSV and whose errors carry their code."""
        kept = pg_binaries.folder()
        psql = kept / pg_binaries.PROGRAMS[15] / "psql"  # Debian's speaks TLS, and to any version
        words = ["-X", "-w", "-q", "-t", "--csv", "-P", f"null={NULL}", "-v", "VERBOSITY=verbose"]
        more = {"PGAPPNAME": "test", "PGCONNECT_TIMEOUT": "20", "PGCLIENTENCODING": "UTF8"}
        return {"args": [str(psql), *words],
                "env": clean_environment(**self.environment_of(**changes), **pg_binaries.environment(kept), **more)}

    def psql(self, sql: str, database: str | None = None, **changes) -> list:
        """Rows of all statements, one transaction each, as tuples of str or None; raises SqlError at the first error.

        Changes are connection parameters: user="reader", sslmode="disable".
        """
        if database is not None:
            changes["dbname"] = database
        command = self.psql_command(**changes)
        command["args"] += ["-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(**command, input=sql, capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode != 0:
            raise SqlError(done.stderr)
        return rows_of(done.stdout)

    def session(self, database: str | None = None, **changes) -> "Session":
        """A connection that stays: for transactions left open, locks, and many statements quickly."""
        if database is not None:
            changes["dbname"] = database
        self.sessions.append(Session(self, changes))
        return self.sessions[-1]

    def close_sessions(self) -> None:
        while self.sessions:
            self.sessions.pop().close()


def rows_of(csv_text: str) -> list:
    rows = csv.reader(io.StringIO(csv_text, newline=""))
    # one empty column is an empty line
    return [tuple(None if field == NULL else field for field in row) if row else ("",) for row in rows]


class Session:
    """A psql that stays connected. sql() waits for the rows; start() does not, finish() does."""

    def __init__(self, endpoint: Endpoint, changes: dict):
        self.said = open(room() / f"session-{next(_numbers)}", "w+", encoding="utf-8")
        self.process = subprocess.Popen(**endpoint.psql_command(**changes), stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=self.said, encoding="utf-8", errors="replace",
                                        start_new_session=True)
        guardian().tell(started=self.process.pid, at=started_at(self.process.pid), end=signal.SIGTERM)
        self.mark = secrets.token_hex(8)
        try:
            self.pid = int(self.sql("SELECT pg_backend_pid()")[0][0])
        except BaseException:
            self.close()
            raise

    def start(self, sql: str) -> None:
        """Sends statements and comes back at once: they may wait for a lock."""
        try:
            self.process.stdin.write(f"{sql.rstrip().rstrip(';')}\n;\n\\echo {self.mark}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # finish() tells why

    def finish(self) -> list:
        lines = []
        while (line := self.process.stdout.readline()) != f"{self.mark}\n":
            if not line:
                self.process.wait()
                break
            lines.append(line)
        self.said.seek(0)  # where psql writes it too: the file is emptied behind every statement
        said = self.said.read()
        self.said.seek(0)
        self.said.truncate()
        if "ERROR:" in said or "FATAL:" in said or self.process.returncode is not None:
            raise SqlError(said or "psql ended")
        return rows_of("".join(lines))

    def sql(self, sql: str) -> list:
        self.start(sql)
        return self.finish()

    def close(self) -> None:
        end({self.process.pid: (started_at(self.process.pid), signal.SIGTERM)})
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.said):
            try:
                file.close()
            except BrokenPipeError:
                pass
        Path(self.said.name).unlink(missing_ok=True)
        guardian().tell(ended=self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# What runs

class Service(Endpoint):
    """A server process in a folder of its own, on a port of its own."""

    name = "a server"
    ending = signal.SIGTERM  # how the guardian ends it

    def __init__(self, **parameters):
        super().__init__(host="127.0.0.1", **parameters)
        self.process = None
        self.port_lock = None
        self.folder = room() / f"{type(self).__name__.lower()}-{next(_numbers)}"
        self.folder.mkdir(mode=0o755)
        give(self.folder)
        guardian().tell(made=str(self.folder))
        self.log_file = self.folder / "log.txt"
        self.log_file.touch()
        give(self.log_file)

    def take_port(self) -> None:
        if self.port_lock:
            self.port_lock.release()
        self.port_lock = Port()
        self.parameters["port"] = self.port_lock.number

    def execute(self, command: list, libraries: Path | None) -> None:
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
        if libraries:
            env |= pg_binaries.environment(libraries)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                                            cwd=self.folder, start_new_session=True, **server_user())
        guardian().tell(started=self.process.pid, at=started_at(self.process.pid), end=self.ending)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                problem = f"exit {self.process.returncode}" if self.process.poll() is not None else f"not after {START_S} s"
                self.end(signal.SIGKILL)
                raise ServerError(f"{self.name} did not start ({problem}); the last lines of its log:\n{self.log(10)}")
            time.sleep(0.01)

    def start_on_a_port(self) -> None:
        """Starts; another port where a stranger took this one between the look and the start."""
        for attempt in range(5):
            self.take_port()
            try:
                return self.start()
            except ServerError as problem:
                if attempt == 4 or "address already in use" not in str(problem).lower():
                    raise

    def end(self, sign: int, seconds: float = 60) -> None:
        """Sends a signal and waits; tells when the process does not go."""
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.process.pid, sign)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                raise ServerError(f"{self.name} did not stop in {seconds} s; the last lines of its log:\n"
                                  f"{self.log(10)}") from None
        guardian().tell(ended=self.process.pid)
        self.process = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def log(self, n_lines: int | None = None) -> str:
        lines = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-n_lines:] if n_lines else lines)

    def close(self) -> None:
        """Ends it, and removes its folder. More than once is as good as once."""
        self.close_sessions()
        if self.process is not None:
            end({self.process.pid: (started_at(self.process.pid), self.ending)})
            self.process.wait()
            guardian().tell(ended=self.process.pid)
            self.process = None
        if self.folder.exists():
            remove(self.folder)
            guardian().tell(removed=str(self.folder))
        if self.port_lock:
            self.port_lock.release()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Server(Service):
    """A PostgreSQL server.

    version   16, 18 (pgvector, no TLS) or 15 (TLS, no pgvector)
    tls       True, or a TLS() to share; clients then ask for verify-full unless told otherwise
    auth      "trust" or "scram-sha-256" (a random password, in .password)
    fsync     False: what a kill -9 leaves is safe all the same, a power cut is not tested here
    wal_segment_mb  1: a cluster of 16 takes twice as long to make; measurements want PostgreSQL's own 16
    vector    whether `corpus` gets the extension (default: where there is one)
    settings  lines of postgresql.conf, {"max_connections": 10}
    """

    ending = signal.SIGQUIT
    SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

    def __init__(self, version: int = 16, tls=False, settings: dict | None = None, auth: str = "trust",
                 fsync: bool = False, vector: bool | None = None, wal_segment_mb: int = 1):
        self.version = version
        self.wal_segment_mb = wal_segment_mb
        self.name = f"PostgreSQL {version}"
        self.programs = programs()
        super().__init__(user="postgres", dbname="corpus")
        self.data = self.folder / "data"
        try:
            self.initialise(auth, vector if vector is not None else version != 15)
            self.tls = self.use_tls(TLS() if tls is True else tls) if tls else None
            self.settings = self.base_settings(fsync) | (settings or {})
            self.start_on_a_port()
            if auth != "trust":
                self.set_password()
        except BaseException:
            self.close()
            raise

    def initialise(self, auth: str, vector: bool) -> None:
        """A cluster of its own: a copy of what was made for this test program's first of the kind."""
        template = (lender or room()) / f"template-{self.version}-{vector}-{self.wal_segment_mb}"
        with once:
            if not template.exists():
                self.make_template(vector)
                os.rename(self.data, template)
        self.ask(["cp", "-a", template, self.data], user=None, group=None, extra_groups=None)
        self.write("data/pg_hba.conf", f"local all all trust\nhost all all 127.0.0.1/32 {auth}\n")

    def make_template(self, vector: bool) -> None:
        """Every database is 300 files: `corpus` is initdb's `postgres` by another name, in half the time of one more."""
        self.ask([self.program("initdb"), "-D", self.data, "-U", self.user, "-E", "UTF8", "--locale=C", "--no-sync",
                  "--auth=trust", f"--wal-segsize={self.wal_segment_mb}"])
        single = [self.program("postgres"), "--single", "-D", self.data, "-c", "fsync=off", "-c", "exit_on_error=true"]
        self.ask([*single, "template1"], told="ALTER DATABASE postgres RENAME TO corpus\n")
        if vector:
            self.ask([*single, "corpus"], told="CREATE EXTENSION vector\n")

    def ask(self, command: list, told: str = "", **options) -> None:
        env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"} | self.library_path()
        done = subprocess.run(command, env=env, cwd=self.folder, input=told, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, **server_user() | options)
        if done.returncode != 0:
            raise ServerError(f"{self.name}: {Path(command[0]).name} exited {done.returncode}; its last lines:\n"
                              + "\n".join(done.stdout.splitlines()[-10:]))

    def program(self, name: str) -> Path:
        return self.programs / pg_binaries.PROGRAMS[self.version] / name

    def library_path(self) -> dict:
        return pg_binaries.environment(self.programs) if self.version == 15 else {}

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(0o600)
        give(path)
        path.write_text(text, encoding="utf-8")

    def base_settings(self, fsync: bool) -> dict:
        # memory mapped from files of the data folder: a kill -9 leaves nothing in /dev/shm
        return {"listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder, "fsync": fsync,
                "dynamic_shared_memory_type": "mmap", "shared_buffers": "64MB", "min_wal_size": "80MB",
                "max_wal_size": "1GB", "lc_messages": "C", "timezone": "UTC",
                "log_line_prefix": "%m [%p] %q%u@%d %e ", "restart_after_crash": True}

    def use_tls(self, tls: "TLS") -> "TLS":
        for name in ("server.crt", "server.key"):
            self.write(f"data/{name}", (tls.folder / name).read_text())
        self.parameters |= {"sslmode": "verify-full", "sslrootcert": str(tls.ca)}
        return tls

    def configure(self, **settings) -> None:
        """Changes settings of a running server; some want a restart() to be seen."""
        self.settings |= settings
        self.write_settings()
        os.kill(self.process.pid, signal.SIGHUP)

    def write_settings(self) -> None:
        settings = self.settings | {"port": self.port}
        if self.tls:
            settings |= {"ssl": True, "ssl_cert_file": "server.crt", "ssl_key_file": "server.key"}
        def said(value) -> str:
            return ("on" if value else "off") if isinstance(value, bool) else str(value).replace("'", "''")
        self.write("data/postgresql.conf", "".join(f"{name} = '{said(value)}'\n" for name, value in settings.items()))

    def start(self) -> None:
        self.write_settings()
        self.execute([self.program("postgres"), "-D", self.data], self.programs if self.version == 15 else None)
        self.wait_ready()

    def is_ready(self) -> bool:
        """As pg_ctl asks: the postmaster writes "ready" once recovery is over."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"

    def stop(self, mode: str = "fast") -> None:
        """smart waits for clients, fast disconnects them, immediate is a crash by request."""
        self.end(self.SIGNALS[mode])

    def restart(self, mode: str = "fast") -> None:
        """Same port, same data."""
        self.stop(mode)
        self.start()

    def kill9(self) -> None:
        """The whole server at once, by SIGKILL, as when the machine goes down; start() recovers."""
        postmaster = self.process.pid
        os.kill(postmaster, signal.SIGSTOP)  # it starts no more
        lost = {pid: started_at(pid) for pid in [*children_of(postmaster), postmaster]}
        for pid in lost:
            os.kill(pid, signal.SIGKILL)
        wait_until_gone(lost, 20)
        self.end(signal.SIGKILL)

    def set_password(self) -> None:
        """By the socket, which asks for none; logged nowhere."""
        self.parameters["password"] = secrets.token_urlsafe(12)
        self.psql(f"ALTER USER {self.user} PASSWORD '{self.password}'", "template1", host=self.folder, sslmode=None,
                  options="-c log_statement=none -c log_min_duration_statement=-1")

    def create_database(self, name: str, vector: bool | None = None) -> None:
        quoted = name.replace('"', '""')
        self.psql(f'CREATE DATABASE "{quoted}"', database="template1")
        if vector if vector is not None else self.version != 15:
            self.psql("CREATE EXTENSION vector", database=name)

    def connections(self) -> int:
        """How many clients are connected to `corpus`, this question aside."""
        return int(self.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'corpus'", database="template1")[0][0])


class Bouncer(Service):
    """pgbouncer 1.18 in front of a Server. settings are lines of its [pgbouncer] section."""

    name = "pgbouncer"

    def __init__(self, server: Server, pool_mode: str = "transaction", pool_size: int = 20, settings: dict | None = None):
        self.programs = programs()
        super().__init__(user=server.user, dbname=server.database, password=server.password)
        self.server = server
        self.settings = {
            "listen_addr": "127.0.0.1", "unix_socket_dir": "", "pool_mode": pool_mode, "default_pool_size": pool_size,
            "auth_type": "scram-sha-256" if server.password else "trust", "auth_file": self.folder / "users.txt",
            "admin_users": server.user, "server_tls_sslmode": "require" if server.tls else "disable",
        } | (settings or {})
        try:
            self.start_on_a_port()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        users = self.folder / "users.txt"
        users.write_text(f'"{self.user}" "{self.password or ""}"\n')
        users.chmod(0o600)
        settings = self.settings | {"listen_port": self.port}
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        config = self.folder / "pgbouncer.ini"
        config.write_text(f"[databases]\n* = host=127.0.0.1 port={self.server.port}\n[pgbouncer]\n{lines}")
        give(users, config)
        self.execute([self.programs / pg_binaries.BOUNCER, config], self.programs)
        self.wait_ready()

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.end(signal.SIGTERM)

    def restart(self) -> None:
        self.stop()
        self.start()

    def show(self, what: str) -> list:
        """Rows of its own console: pools, servers, clients, stats."""
        return self.psql(f"SHOW {what}", database="pgbouncer")


class TLS:
    """A certificate authority, a certificate of it for localhost and 127.0.0.1, and an authority that is another.

    .ca and .wrong_ca are files for sslrootcert.
    """

    def __init__(self):
        self.folder = room() / f"tls-{next(_numbers)}"
        self.folder.mkdir(mode=0o755)
        self.ca = self.authority("ca")
        self.wrong_ca = self.authority("wrong-ca")
        self.certify("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")

    def openssl(self, *words) -> None:
        done = subprocess.run(["openssl", *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"openssl {words[0]} exited {done.returncode}: {done.stdout[-500:]}")

    def key(self, name: str) -> None:
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", f"{name}.key")
        (self.folder / f"{name}.key").chmod(0o600)

    def authority(self, name: str) -> Path:
        self.key(name)
        self.openssl("req", "-x509", "-new", "-key", f"{name}.key", "-subj", f"/CN=vecmill test {name}", "-days", "2",
                     "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", f"{name}.crt")
        return self.folder / f"{name}.crt"

    def certify(self, name: str, extension: str) -> None:
        self.key(name)
        self.openssl("req", "-new", "-key", f"{name}.key", "-subj", "/CN=localhost", "-out", f"{name}.csr")
        (self.folder / f"{name}.ext").write_text(extension + "\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "1",
                     "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
