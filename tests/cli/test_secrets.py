#!/usr/bin/python3
"""A password that stands anywhere in --db, however the rest is written, is in no output and in no list of processes.

  test_secrets.py --vecmill PATH        VECMILL_SEED=N: other random strings
"""
import fcntl
import os
import random
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from cases import given_vecmill, run_cases  # noqa: E402

VECMILL = ""
SECRET = "S3cret0451"
NEITHER = ("vecmill: --db: not an SQLite file and not an address of PostgreSQL (give a file that exists, "
           "postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or \"host=HOST dbname=DATABASE user=USER\")\n")
PLACE = f"ana:{SECRET}@127.0.0.1:1/d"
# As they stand in other programs' settings; port 1 refuses.
CONNECTIONS = [f"postgresql+psycopg2://{PLACE}", f"postgresql+asyncpg://{PLACE}", f" postgresql://{PLACE}", f"POSTGRESQL://{PLACE}",
               f"postgresql://{PLACE}\n", f"'postgresql://{PLACE}'", f'"postgres://{PLACE}"', f"'host=127.0.0.1 port=1 password={SECRET}'"]
NEITHERS = [f"ana:{SECRET}@127.0.0.1/d", f"jdbc:postgresql://127.0.0.1:1/d?user=ana&password={SECRET}", f"HOST=127.0.0.1 PASSWORD={SECRET}",
            f"passwrod={SECRET} host=127.0.0.1", f"Server=127.0.0.1;Port=1;Password={SECRET}", f"127.0.0.1:1:d:ana:{SECRET}",
            f"DATABASE_URL=postgresql://{PLACE}", f"--db=postgresql://{PLACE}", f"postgis://{PLACE}", f"//{PLACE}", f"mysql://{PLACE}",
            f"/data/corpus.db password={SECRET}", f"'postgresql://{PLACE}"]


def environment() -> dict:
    return {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "PG", "VECMILL_"))}


def seen(folder, *words) -> tuple:
    """(what a list of processes shows, output, exit status). The command's first word of output has to wait, so that the
    list is looked at when it has begun and before it ends."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"." * 4096)
    process = subprocess.Popen([VECMILL, *words], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=write, stderr=write)
    os.close(write)
    shown, output = b"", b""
    try:
        for _ in range(1000):  # until it has begun
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if SECRET.encode() not in shown:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it did not wait"
        while select.select([read], [], [], 60)[0]:
            piece = os.read(read, 65536)
            if not piece:
                break
            output += piece
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
        os.close(read)
    return shown.decode(), output.decode().lstrip("."), process.returncode


def unseen(folder, *words) -> tuple:
    shown, output, status = seen(folder, *words)
    assert SECRET not in shown, (words, shown)
    assert SECRET not in output, (words, output)
    return output, status


def forms(db: str) -> list:
    commands = [["jobs"], ["ingest", "t"], ["search", "t", "q"], ["doctor", "--model", "none/such"]]
    return [[*command, *option] for command in commands for option in (["--db", db], [f"--db={db}"])]


def test_connections(folder):
    """Taken for what they are, and tried."""
    for db in CONNECTIONS:
        for words in forms(db)[:2]:
            output, status = unseen(folder, *words)
            assert status == 1 and output.startswith("vecmill: PostgreSQL: cannot connect: ") and "127.0.0.1" in output, (words, output)
        for words in forms(db)[2::2]:
            assert unseen(folder, *words)[1] == 1, words


def test_neither(folder):
    for db in NEITHERS:
        for words in forms(db)[:2]:
            output, status = unseen(folder, *words)
            assert (output, status) == (NEITHER, 2), (words, output, status)
        for words in forms(db)[2::2]:
            assert unseen(folder, *words)[1] in (1, 2), words


def test_without_db(folder):
    """Misspelt --db, or none."""
    address = f"postgresql://{PLACE}"
    for words in (["ingest", "t", "--bd", address], ["ingest", "t", f"--bd={address}"], ["ingest", address], ["ingest", "t", address],
                  ["jobs", address], ["search", address, "q"], ["search", "t", "q", f"postgresql+x://{PLACE}"], ["doctor", address],
                  ["ingest", "t", "--model", address], [address], ["jobs", f"db={address}"], ["jobs", f"-db={address}"],
                  ["ingest", "t", f"DB={address}"], [f"DATABASE_URL={address}", "ingest", "t"]):
        output, status = unseen(folder, *words)
        assert status == 2 and output == "vecmill: an address of PostgreSQL is given without --db before it\n", (words, output)
    for words in ([f"--db={address}", "ingest", "t"], ["--db", address, "jobs"]):
        output, status = unseen(folder, *words)
        assert status == 2 and output == "vecmill: an option stands before the command (vecmill COMMAND --db DB)\n", (words, output)
    for words in ([f"--db=host=h password={SECRET}", "jobs"], ["jobs", "--", f"--db={address}"], [f"PGPASSWORD={SECRET}", "jobs"], ["jobs", f"PG_PASSWORD={SECRET}"], ["search", "t", "q", f"--db{address}"],
                  [f"jobs --db={address}"], ["ingest", f"t --db={address}"], ["ingest", f"t PASSWORD = '{SECRET} and more'"], ["jobs", f"url=x://{PLACE}/@x"],
                  ["jobs", PLACE], ["jobs", "--model", f"x\tpassword\t=\t{SECRET}"], ["ingest", f"host=h password='it\\'s {SECRET}'"], ["ingest", f"host=h password=my\\ {SECRET}"]):
        done = subprocess.run([VECMILL, *words], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (1, 2) and SECRET not in done.stdout + done.stderr, (words, done)
    for words in (["jobs", f"host=h password={SECRET}"], ["ingest", "t", f"host=h password={SECRET}"], ["ingest", "t", f"--bd={SECRET}"]):
        done = subprocess.run([VECMILL, *words], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
        output, status = done.stdout + done.stderr, done.returncode
        assert status == 2 and SECRET not in output, (words, output)


def test_variables(folder):
    """A password, and an address where only a part of one is meant, in any of the variables, of the environment and of .env."""
    names = ["PG_HOST", "PGHOST", "PGHOSTADDR", "PG_PORT", "PGPORT", "PG_DATABASE", "PG_DB", "PGDATABASE", "PG_USER", "PGUSER", "PG_PASSWORD",
             "PGPASSWORD", "PGSERVICE", "PGSSLMODE", "PGSSLROOTCERT", "PGOPTIONS", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT", "EMBED_WORKERS"]
    for name in names:
        value = SECRET if "PASSWORD" in name else f"postgresql://{PLACE}"
        for settings, more in ((f"PGHOST=127.0.0.1\nPGPORT=1\n{name}={value}\n", {}), ("", {"PGHOST": "127.0.0.1", "PGPORT": "1", name: value})):
            (Path(folder) / ".env").write_text(settings, encoding="utf-8")
            for words in (["jobs"], ["doctor", "--model", "none/such"], ["ingest", "t"]):
                done = subprocess.run([VECMILL, *words], cwd=folder, env=environment() | more, capture_output=True, text=True, timeout=60, check=False)
                assert done.returncode in (1, 2) and SECRET not in done.stdout + done.stderr, (name, words, done)
                if words == ["jobs"] and "PASSWORD" not in name and name != "EMBED_WORKERS":
                    assert done.stderr.startswith(f"vecmill: {name}=... ({'.env line 3' if settings else 'environment'}): an address, where "), done


def mangled(draw: random.Random) -> str:
    """A connection whose parts but the secret's own surroundings are written wrong somehow."""
    def wrong(word: str) -> str:
        at = draw.randrange(len(word) + 1)
        return draw.choice([word, word.upper(), word.title(), word[:at] + word[at + 1:], word[:at] + draw.choice("x _-+:;/\\'\"%=&? ") + word[at:]])
    if draw.random() < 0.5:
        before = draw.choice(["", " ", "'", '"', "jdbc:", "x "]) + wrong(draw.choice(["postgresql", "postgresql+psycopg2", "postgres", ""]))
        return before + wrong("://") + wrong("ana") + f":{SECRET}@" + wrong("127.0.0.1:1/d") + draw.choice(["", " ", "'", '"', "?sslmode=disable"])
    pairs = [wrong(word) + draw.choice(["=", " = ", "= "]) + value for word, value in
             [("host", "127.0.0.1"), ("port", "1"), ("user", "ana"), ("dbname", "d")]]
    pairs.insert(draw.randrange(5), draw.choice(["password", "Password", "PASSWORD", "passwrod", "pwd", "sslpassword"]) + f"={SECRET}")
    return draw.choice([" ", ";", " ", ",", "&", " "]).join(pairs)


def test_random(folder):
    draw = random.Random(int(os.environ.get("VECMILL_SEED", "41")))
    for _ in range(150):
        db = mangled(draw)
        unseen(folder, *draw.choice(forms(db)[:6]))


if __name__ == "__main__":
    VECMILL = given_vecmill()
    sys.exit(run_cases(globals()))
