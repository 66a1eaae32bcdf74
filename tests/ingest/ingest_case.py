"""What the tests of the real command share: databases, runs, comparisons. Python 3's standard library alone."""
import argparse
import array
import copy
import json
import os
import pwd
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

WORDS = ("ka", "la", "nani", "water", "engine", "small", "library", "for", "reading", "a", "of", "the", "stars", "and",
         "planets", "recovers", "broken", "disks", "Zürich", "naïve", "東京", "здравствуй", "🙂", "state-of-the-art")


def text_of(rng: random.Random) -> str:
    """Skewed lengths: most short, some long."""
    n = 1 + min(int(rng.expovariate(1 / 12)), 120)
    return " ".join(rng.choice(WORDS) for _ in range(n))


def make_table(path: Path, n_rows: int, seed: int, blank_every: int = 50, shuffled: bool = True) -> None:
    """Table t(id, text, embedding), its rows inserted in random order, and a log of each id whose vector is written."""
    rng = random.Random(seed)
    ids = list(range(1, n_rows + 1))
    texts = {i: (rng.choice([None, "", " \t\u00a0\u3000"]) if blank_every and i % blank_every == 0 else text_of(rng)) for i in ids}
    if shuffled:
        rng.shuffle(ids)
    with closing(sqlite3.connect(path)) as db:
        db.executescript("""
            CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, embedding BLOB);
            CREATE TABLE log(id INTEGER);
            CREATE TRIGGER wrote AFTER UPDATE OF embedding ON t BEGIN INSERT INTO log VALUES(new.id); END;
        """)
        db.executemany("INSERT INTO t(id, text) VALUES(?, ?)", ((i, texts[i]) for i in ids))
        db.commit()


def query(path: Path, sql: str, *values) -> list:
    with closing(sqlite3.connect(path, timeout=30)) as db:
        return db.execute(sql, values).fetchall()


def execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, timeout=30)) as db:
        db.executescript(sql)


def vectors(path: Path, table: str = "t", column: str = "embedding") -> dict:
    return dict(query(path, f'SELECT id, "{column}" FROM "{table}"'))


def made_alone(vecmill, folder: Path, texts: list) -> dict:
    """The vector of each text, as little-endian floats: by `vecmill embed`, which knows no table."""
    path, out = folder / "texts.jsonl", folder / "vectors.npy"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    vecmill.run("embed", path, "--input", "jsonl", "--format", "npy", "-o", out, "--model", vecmill.model)
    data = out.read_bytes()
    numbers = array.array("f", data[10 + struct.unpack("<H", data[8:10])[0]:])
    if sys.byteorder == "big":
        numbers.byteswap()
    whole, n = numbers.tobytes(), 4 * len(numbers) // max(len(texts), 1)
    return {text: whole[i * n:(i + 1) * n] for i, text in enumerate(texts)}


def floats(blob: bytes) -> tuple:
    return struct.unpack(f"<{len(blob) // 4}f", blob)


MAKE_TINY_MODEL = Path(__file__).resolve().parents[2] / "scripts" / "make_tiny_model.py"


class Vecmill:
    """The command, with a home of the tests' own, and a model: a tiny random BERT unless one is named."""

    def __init__(self, command: str, model: str | None):
        self.folder = Path(tempfile.mkdtemp(prefix="vecmill-ingest-"))
        if model is None:
            model = str(self.folder / "tiny-bert")
            subprocess.run([sys.executable, MAKE_TINY_MODEL, model], check=True)
        self.command, self.model = os.path.abspath(command), os.path.abspath(model)
        self.options = {}  # of every process
        self.started = []
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "VECMILL_", "HF_", "PG"))}
        self.environment["VECMILL_HOME"] = str(self.folder / "home")
        self.environment["HF_HOME"] = str(self.folder / "hf")
        for name in ("VECMILL_CPU",):  # a pass with masked features masks the command's too
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def close(self) -> None:
        self.end_all()
        shutil.rmtree(self.folder)

    def without_rights(self, folder: Path) -> "Vecmill":
        """The same, run by somebody who may write only where his rights allow it: for root, who may anywhere, by nobody."""
        if os.geteuid() != 0:
            return self
        user, other, home = pwd.getpwnam("nobody"), copy.copy(self), folder / "home-of-nobody"
        home.mkdir()
        other.command = shutil.copy(self.command, home)  # the build folder may be closed to others
        subprocess.run(["chmod", "-R", "a+rX", self.folder], check=True)
        os.chown(home, user.pw_uid, user.pw_gid)
        other.environment = {**self.environment, "HOME": str(home), "VECMILL_HOME": str(home / "vecmill")}
        other.options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": home}
        return other

    def start(self, *words, **options) -> subprocess.Popen:
        defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": self.environment}
        self.started.append(subprocess.Popen([self.command, *map(str, words)], text=True, encoding="utf-8", **{**defaults, **self.options, **options}))
        return self.started[-1]

    def end_all(self) -> None:
        """Processes that a test which failed has left behind, stopped ones too."""
        while self.started:
            run = self.started.pop()
            if run.poll() is None:
                run.kill()
                run.communicate()

    def run(self, *words, status: int | None = 0, environment: dict | None = None,
            timeout: float = 600) -> subprocess.CompletedProcess:
        done = subprocess.run([self.command, *map(str, words)], env={**self.environment, **(environment or {})}, text=True,
                              encoding="utf-8", capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, **self.options)
        if status is not None and done.returncode != status:
            raise AssertionError(f"{words}: exit {done.returncode}, not {status}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        return done

    def ingest(self, path: Path, *words, table: str = "t", status: int | None = 0, **options):
        return self.run("ingest", table, *words, "--db", path, "--model", self.model, status=status, **options)

    def ingest_json(self, path: Path, *words, **options) -> list:
        done = self.ingest(path, *words, "--progress", "json", **options)
        return [json.loads(line) for line in done.stdout.splitlines()]


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


def expect_in_flight(n_in_flight: int, n_kills: int) -> None:
    """Batches were in flight at 80 % of the kills. Chance rules over a few: of those, at half."""
    share = n_in_flight / n_kills
    print(f"batches were in flight at {share:.0%} of the kills")
    expect(share >= (0.8 if n_kills >= 20 else 0.5), f"batches in flight at only {share:.0%} of the kills")


def refused(vecmill: Vecmill, path: Path, message: str, *words, status: int, **options) -> None:
    """A run that must end with just this message and leave the database's bytes alone."""
    before = path.read_bytes()
    done = vecmill.ingest(path, *words, status=status, **options)
    expect(done.stderr == f"vecmill: {message}\n", done.stderr)
    expect(path.read_bytes() == before, f"{message}: the database was written to")


def run_tests(namespace: dict) -> int:
    """Calls the test_* functions that the command line names, else all, each with a folder of its own; the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    parser.add_argument("--model", help="a directory; a tiny random BERT if none is named")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    tests = {name[5:]: run for name, run in namespace.items() if name.startswith("test_") and callable(run)}
    failed = []
    vecmill = Vecmill(arguments.vecmill, arguments.model)
    try:
        for name in arguments.names or tests:
            folder = vecmill.folder / name
            folder.mkdir()
            try:
                tests[name](vecmill, folder)
                print(f"  ok    {name}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired, OSError) as problem:
                print(f"  FAIL  {name}: {problem}", flush=True)
                failed.append(name)
            vecmill.end_all()
            shutil.rmtree(folder)
    finally:
        vecmill.close()
    print(f"{len(arguments.names or tests) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0
