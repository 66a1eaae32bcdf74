#!/usr/bin/python3
"""Settings of the real command: options, environment, .env; prefixes; passwords that stay out of sight.

  test_settings.py --vecmill PATH
"""
import fcntl
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from cases import given_vecmill, run_cases  # noqa: E402

VECMILL = MODEL = ""
TEXTS = ["the water of the river", "a small library for reading", "state of the art", "ka la nani", "broken disks and tapes"]


def environment(**more) -> dict:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EMBED_", "PG", "HF_", "VECMILL_HOME"))}
    return {**kept, "VECMILL_HOME": str(Path(MODEL).parent / "home"), "HF_HUB_CACHE": MODEL, **more}


def run(folder, *words, stdin="", status=None, **more):
    done = subprocess.run([VECMILL, *map(str, words)], input=stdin, capture_output=True, text=True, timeout=120, check=False,
                          cwd=folder, env=environment(**more))
    assert status is None or done.returncode == status, (words, done)
    return done


def settings(folder, text: str) -> None:
    (Path(folder) / ".env").write_text(text, encoding="utf-8")


def make_table(folder, name="t.db", texts=TEXTS) -> str:
    with closing(sqlite3.connect(Path(folder) / name)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO t(text) VALUES(?)", [(text,) for text in texts])
        db.commit()
    return name


def query(folder, sql: str, name="t.db") -> list:
    with closing(sqlite3.connect(Path(folder) / name)) as db:
        return db.execute(sql).fetchall()


def refused(folder, told: str, *words, **more) -> None:
    done = run(folder, *words, status=2, **more)
    assert (done.stdout, done.stderr) == ("", f"vecmill: {told}\n"), done


def test_precedence(folder):
    ingest = ["ingest", "t", "--db", make_table(folder), "--model", MODEL]
    settings(folder, "EMBED_WORKERS=2\nEMBED_BATCH_SIZE=7\n")
    for words, more, workers, batch in [([], {}, 2, 7), ([], {"EMBED_WORKERS": "3", "EMBED_BATCH_SIZE": "8"}, 3, 8),
                                        ([], {"EMBED_WORKERS": "", "EMBED_BATCH_SIZE": ""}, 2, 7),
                                        (["9", "--workers", "1"], {"EMBED_WORKERS": "x", "EMBED_BATCH_SIZE": "x"}, 1, 9),
                                        (["--workers", "auto"], {"EMBED_WORKERS": "3"}, len(os.sched_getaffinity(0)), 7)]:
        line = run(folder, *ingest[:2], *words, *ingest[2:], status=0, **more).stdout.splitlines()[0]
        if "auto" not in words:
            assert line == f"Configuration: workers={workers}, batch_size={batch}, table=t", (words, more, line)
        else:  # a quota may allow fewer than the affinity mask
            assert 1 <= int(re.search(r"workers=(\d+)", line)[1]) <= workers, line
    (Path(folder) / ".env").unlink()
    assert ", batch_size=100," in run(folder, *ingest, status=0).stdout


def test_refusals(folder):
    db = make_table(folder)
    ingest = ["ingest", "t", "--db", db, "--model", MODEL]
    settings(folder, "# settings\n\nEMBED_WORKERS=abc\n")
    number = "not a number of workers (1 to 4096, or auto)"
    refused(folder, f"EMBED_WORKERS=abc (.env line 3): {number}", *ingest)
    refused(folder, f"EMBED_WORKERS=0 (environment): {number}", *ingest, EMBED_WORKERS="0")
    refused(folder, f"--workers 4097: {number}", *ingest, "--workers", "4097", EMBED_WORKERS="2")
    refused(folder, f"EMBED_WORKERS=abc (.env line 3): {number}", "embed", "--model", MODEL)
    run(folder, "tokenize", "--model", MODEL, status=0)  # has no workers
    settings(folder, "EMBED_DEVICE=cuda\n")
    cuda = "cuda: not supported; use cpu"
    refused(folder, f"EMBED_DEVICE=cuda (.env line 1): {cuda}", *ingest)
    refused(folder, f"EMBED_DEVICE=cuda (.env line 1): {cuda}", "search", "t", "q", "--db", db)
    refused(folder, f"EMBED_DEVICE=cuda (.env line 1): {cuda}", "embed", "--model", MODEL)
    refused(folder, f"--device {cuda}", *ingest, "--device", "cuda")
    refused(folder, "--device tpu: unknown device (auto or cpu)", *ingest, "--device=tpu")
    refused(folder, "EMBED_BATCH_SIZE=1e3 (environment): not a number of rows (1 to 1000000)", *ingest, "--device", "cpu", EMBED_BATCH_SIZE="1e3")
    refused(folder, "BATCH 0: not a number of rows (1 to 1000000)", "ingest", "t", "0", *ingest[2:])
    refused(folder, "--sleep -1: not a number of seconds (0 to 86400, as 0.5)", *ingest, "--sleep", "-1")
    refused(folder, "EMBED_SLEEP=soon (environment): not a number of seconds (0 to 86400, as 0.5)", *ingest, EMBED_SLEEP="soon")
    assert query(folder, "SELECT name FROM pragma_table_info('t')") == [("id",), ("text",)], "a refused run wrote"
    run(folder, *ingest, "--device", "auto", status=0)


def test_file(folder):
    """What is wrong with .env is told by its line alone, and stops nothing."""
    settings(folder, "PGPASSWORD: s3cret\nexport EMBED_MODEL='" + MODEL + "' # ours\r\nTOKEN='s3cret\n=s3cret\n")
    done = run(folder, "tokenize", stdin="a\n", status=0)
    assert done.stdout.startswith("[2, "), done
    assert done.stderr == ("vecmill: warning: .env line 1: not KEY=VALUE (left out)\n"
                           "vecmill: warning: .env line 3: a quote is not closed (left out)\n"
                           "vecmill: warning: .env line 4: not KEY=VALUE (left out)\n"), done.stderr
    (Path(folder) / ".env").unlink()
    os.mkfifo(Path(folder) / ".env")
    done = run(folder, "tokenize", "--model", MODEL, stdin="a\n", status=0)
    assert done.stderr == "vecmill: warning: cannot read .env: not a regular file (left out)\n", done.stderr
    (Path(folder) / ".env").unlink()
    settings(folder, "#" * (1 << 20) + "\n")
    done = run(folder, "tokenize", "--model", MODEL, stdin="a\n", status=0)
    assert done.stderr == "vecmill: warning: cannot read .env: 1048577 bytes, more than the 1048576 allowed (left out)\n", done.stderr
    (Path(folder) / ".env").unlink()
    (Path(folder) / ".env").mkdir()  # a virtual environment is sometimes named so
    assert run(folder, "tokenize", "--model", MODEL, stdin="a\n", status=0).stderr == ""


def test_model(folder):
    db = make_table(folder)
    settings(folder, f"EMBED_MODEL={MODEL}\n")
    assert f"Loading model '{MODEL}'" in run(folder, "ingest", "t", "--db", db, status=0).stdout
    assert len(json.loads(run(folder, "embed", stdin="a\n", status=0).stdout)["embedding"]) == 32
    told = run(folder, "doctor", "--db", db, status=0, EMBED_WORKERS="2").stdout
    assert f"\nsettings   EMBED_WORKERS=2 (environment)\n           EMBED_MODEL={MODEL} (.env line 1)\n" in told, told
    told = run(folder, "doctor", "--db", db, status=1, EMBED_SLEEP="x").stdout
    assert "EMBED_SLEEP=x (environment): not a number of seconds" in told and "cannot run: a setting is wrong\n" in told, told
    told = run(folder, "doctor", "--db", db, status=1, EMBED_WORKERS="a\nb\x1b[31m").stdout
    assert "\nsettings   EMBED_WORKERS=a\\x0ab\\x1b[31m (environment)\n" in told, told
    assert "           EMBED_WORKERS=a b [31m (environment): not a number of workers" in told, told
    settings(folder, "EMBED_MODEL=no/such\n")
    for words in (["ingest", "t", "--db", db], ["embed"], ["tokenize"]):
        done = run(folder, *words, status=1)
        assert done.stderr.startswith("vecmill: EMBED_MODEL=no/such (.env line 1): model no/such: not on this machine ("), done
        done = run(folder, *words, status=1, EMBED_MODEL="none/such")
        assert done.stderr.startswith("vecmill: EMBED_MODEL=none/such (environment): model none/such: "), done
        done = run(folder, *words, "--model", "x/y", status=1)
        assert done.stderr.startswith("vecmill: model x/y: not on this machine ("), done
    assert "model      EMBED_MODEL=no/such (.env line 1): model no/such: " in run(folder, "doctor", status=1).stdout


def floats(blob: bytes) -> tuple:
    return struct.unpack(f"<{len(blob) // 4}f", blob)


def embedded(folder, text: str) -> list:
    return json.loads(run(folder, "embed", "--model", MODEL, stdin=text + "\n", status=0).stdout)["embedding"]


def prefix_of(folder, model, *words, **more) -> str:
    """The prefix that a fresh table is made with: recorded, and seen in its vectors."""
    name = make_table(folder, f"{time.monotonic_ns()}.db")
    run(folder, "ingest", "t", "--db", name, "--model", model, *words, status=0, **more)
    prefix = query(folder, "SELECT prefix FROM vecmill_columns", name)[0][0]
    vectors = [floats(row[0]) for row in query(folder, "SELECT embedding FROM t ORDER BY id", name)]
    assert vectors[0] == tuple(struct.unpack("<f", struct.pack("<f", x))[0] for x in embedded(folder, prefix + TEXTS[0])), prefix
    return prefix


def test_prefix(folder):
    e5 = Path(folder) / "multilingual-e5-tiny"
    shutil.copytree(MODEL, e5)
    assert prefix_of(folder, MODEL) == ""
    assert prefix_of(folder, e5) == "passage: "
    for said, whole in [("", ""), ("passage", "passage: "), ("text:", "text: "), ("a: ", "a: ")]:
        assert prefix_of(folder, e5, EMBED_PREFIX=said) == whole, said
        assert prefix_of(folder, MODEL, EMBED_PREFIX=said) == whole, said
    settings(folder, "EMBED_PREFIX=mine: # without quotes the blank goes\n")
    assert prefix_of(folder, MODEL) == "mine: "
    assert prefix_of(folder, e5, EMBED_PREFIX="") == ""
    for literal in ("passage", "", "a:"):
        assert prefix_of(folder, e5, "--prefix", literal, EMBED_PREFIX="x") == literal
    settings(folder, "")
    instruct, prompted = Path(folder) / "e5-instruct", Path(folder) / "prompted"
    shutil.copytree(MODEL, instruct)
    assert prefix_of(folder, instruct) == ""
    shutil.copytree(MODEL, prompted)
    (prompted / "config_sentence_transformers.json").write_text('{"prompts": {"document": "Doc: "}}', encoding="utf-8")
    assert prefix_of(folder, prompted) == "Doc: "


def test_prefix_of_another_column(folder):
    db = make_table(folder)
    run(folder, "ingest", "t", "--db", db, "--model", MODEL, "--limit", "2", status=0)
    settings(folder, "EMBED_PREFIX=passage\n")
    done = run(folder, "ingest", "t", "--db", db, "--model", MODEL, status=1)
    assert done.stderr == ("vecmill: EMBED_PREFIX=passage (.env line 1): table t: column embedding was made with prefix \"\", not "
                           "\"passage: \" (give that --prefix, or no EMBED_PREFIX, or another --vector-column)\n"), done.stderr
    run(folder, "ingest", "t", "--db", db, "--model", MODEL, "--prefix", "", status=0)


def test_query_prefix(folder):
    """A question asked of an E5's column is put as E5 wants it: the scores are those of "query: "."""
    e5 = Path(folder) / "e5-tiny"
    shutil.copytree(MODEL, e5)
    db = make_table(folder)
    run(folder, "ingest", "t", "--db", db, "--model", e5, status=0)
    hits = [json.loads(line) for line in run(folder, "search", "t", "small rivers", "--db", db, "--json", status=0).stdout.splitlines()]
    question = embedded(folder, "query: small rivers")
    assert len(hits) == len(TEXTS)
    for hit in hits:
        passage = embedded(folder, "passage: " + hit["text"])
        dot = sum(a * b for a, b in zip(question, passage))
        cosine = dot / math.sqrt(sum(a * a for a in question) * sum(b * b for b in passage))
        assert abs(cosine - hit["score"]) < 1e-5, (hit, cosine)


def stop_at_rest(folder, db, batch):
    """A worker's first rest would take a day, and is ended by a signal: how many rows have got a vector by then."""
    def n_vectors():
        return query(folder, "SELECT count(embedding) FROM t", db)[0][0]

    n_before = n_vectors() if query(folder, "SELECT 1 FROM pragma_table_info('t') WHERE name = 'embedding'", db) else 0
    words = [VECMILL, "ingest", "t", str(batch), "--db", db, "--model", MODEL, "--workers", "1", "--sleep", "86400"]
    process = subprocess.Popen(words, cwd=folder, env=environment(EMBED_SLEEP="0"), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        for line in process.stdout:
            if line.startswith("Using parallel"):
                break
        until = time.monotonic() + 10
        while n_vectors() < n_before + batch and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)  # the worker rests, and nobody has anything to do
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, process.returncode
    assert "limited by: embed (" in out and "Embedded " in out, out
    return n_vectors() - n_before


def test_sleep(folder):
    """A worker rests once it has embedded BATCH rows, however many batches of tokens they are. A signal ends the rest."""
    for db, text in (("short.db", "ka la nani {}"), ("long.db", "the water of the river " * 50 + "{}")):
        make_table(folder, db, texts=[text.format(i) for i in range(250)])
        for n_run in range(2):
            n_done = stop_at_rest(folder, db, 100)
            assert n_done == 100, (db, n_run, n_done)
        run(folder, "ingest", "t", "50", "--workers", "1", "--db", db, "--model", MODEL, status=0, EMBED_SLEEP="86400")  # none after the last row
        assert query(folder, "SELECT count(embedding) FROM t", db)[0][0] == 250
    make_table(folder)
    assert stop_at_rest(folder, "t.db", 1) == 1
    run(folder, "ingest", "t", "--db", "t.db", "--model", MODEL, status=0, EMBED_SLEEP="0.001")
    assert query(folder, "SELECT count(embedding) FROM t")[0][0] == len(TEXTS)


def test_passwords(folder):
    """In no output, whatever is wrong and wherever the password stands."""
    settings(folder, "PG_PASSWORD=s3cret\nPGUSER=ana\nPG_PORT=1\nPG_HOST=127.0.0.1\n")
    for db in ("postgresql://ana:s3cret@127.0.0.1:1/d", "postgres://ana:s%33cret@127.0.0.1:1/d", "host=127.0.0.1 port=1 password=s3cret",
               "postgresql://127.0.0.1:1/d?password=s3cret", "host=127.0.0.1 password='s3cret", "postgresql://ana:x@s3cret@127.0.0.1/d",
               "postgresql://127.0.0.1:1/d", "password=s3cret user"):
        for words in (["ingest", "t", "--model", MODEL], ["search", "t", "q"], ["doctor", "--model", MODEL]):
            done = run(folder, *words, "--db", db)
            assert done.returncode in (1, 2), done
            assert not re.search("s3cret|s%33cret", done.stdout + done.stderr), done


def test_service_file(folder):
    """The one that .env names describes the services, whoever names the service; the environment's wins."""
    for name, port in (("ours", 1), ("theirs", 2)):
        (Path(folder) / f"{name}.conf").write_text(f"[s]\nhost=127.0.0.1\nport={port}\n", encoding="utf-8")
    settings(folder, "PGSERVICEFILE=ours.conf\n")
    for words, more, port in [(["--db", "service=s"], {}, 1), ([], {"PGSERVICE": "s"}, 1), ([], {"PGSERVICE": "s", "PGSERVICEFILE": "theirs.conf"}, 2)]:
        done = run(folder, "jobs", *words, status=1, **more)
        assert f'connection to server at "127.0.0.1", port {port} failed' in done.stderr, (words, more, done)
    settings(folder, "PGSERVICEFILE=ours.conf\nPGSERVICE=s\n")
    assert '"127.0.0.1", port 1 failed' in run(folder, "jobs", status=1).stderr


def test_process_list(folder):
    """The password of --db is gone from the list of arguments before anything else happens."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"x" * 4096)  # full: the first line of output waits
    words = [VECMILL, "ingest", "t", "--model", MODEL, "--db", "postgresql://ana:s3cret@127.0.0.1:1/d"]
    process = subprocess.Popen(words, cwd=folder, env=environment(), stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        for _ in range(600):
            shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
            if b"s3cret" not in shown and b"ingest" in shown:
                break
            time.sleep(0.05)
        assert process.poll() is None, "it did not wait"
        assert b"\0postgresql://ana:xxxxxx@127.0.0.1:1/d\0" in shown, shown
    finally:
        process.kill()
        process.wait()
        os.close(read)


def main() -> int:
    global VECMILL, MODEL
    VECMILL = given_vecmill()
    with tempfile.TemporaryDirectory() as folder:
        MODEL = os.path.join(os.path.realpath(folder), "tiny")
        subprocess.run([sys.executable, ROOT / "scripts" / "make_tiny_model.py", MODEL], check=True)
        return run_cases(globals())


if __name__ == "__main__":
    sys.exit(main())
