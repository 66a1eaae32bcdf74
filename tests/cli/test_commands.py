#!/usr/bin/python3
"""vecmill embed and tokenize through the real command and the real model: exact output, errors and statuses.

  test_commands.py --vecmill PATH
"""
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cases import given_vecmill, run_cases  # noqa: E402

COMMAND = ""


def run(*words, stdin=b"", **env):
    return subprocess.run([COMMAND, *words], input=stdin, capture_output=True, timeout=120, env={**os.environ, **env})


def expect(done, status, stdout=None, stderr=None):
    assert done.returncode == status, f"exit {done.returncode}, not {status}: {done.stderr!r}"
    assert stdout is None or done.stdout == stdout, f"stdout {done.stdout!r}"
    assert stderr is None or done.stderr == stderr, f"stderr {done.stderr!r}"


def test_tokenize(_folder):
    expect(run("tokenize", stdin="hello world\n\nAloha kākou\r\n[SEP]".encode()), 0,
           b"[101, 7592, 2088, 102]\n[101, 102]\n[101, 2632, 11631, 2050, 10556, 24861, 102]\n[101, 102, 102]\n", b"")
    expect(run("tokenize", "--input=jsonl", "-", stdin=b'{"text":"a\\u0000b"}\n\n{"n":1,"text":""}\n'), 0,
           b"[101, 11113, 102]\n[101, 102]\n", b"")
    expect(run("tokenize", stdin=b""), 0, b"", b"")


def test_refusals(_folder):
    expect(run("embed", "--input", "jsonl", stdin=b'{"text":"a"}\n{"text":5}\n'), 1, None,
           b'vecmill: standard input line 2: not an object with a string "text"\n')
    expect(run("embed", "/nonexistent"), 1, b"", b"vecmill: cannot open /nonexistent: No such file or directory\n")
    expect(run("embed", "."), 1, b"", b"vecmill: cannot read .: Is a directory\n")
    expect(run("embed", "--format", "xml"), 2, b"", b"vecmill: --format xml: unknown (jsonl or npy)\n")
    expect(run("embed", "--wrong"), 2, b"", b"vecmill: --wrong: unknown option (see vecmill embed --help)\n")
    for words, why in [(["search", "a", "-k"], "-k: needs a value"), (["ingest", "t", "--db"], "--db: needs a value"),
                       (["embed", "-xy"], "-x: unknown option"), (["embed", "a", "-\u00e9"], "-?: unknown option"),
                       (["search", "a", "--json=5", "b"], "--json=5: takes no value"), (["ingest", "t", "--w", "2"], "--w: unknown option"), (["embed", "--form", "npy"], "--form: unknown option"),
                       (["embed", "--form=npy"], "--form: unknown option")]:
        expect(run(*words), 2, b"", f"vecmill: {why} (see vecmill {words[0]} --help)\n".encode())
    expect(run("fly"), 2, b"", b"vecmill: fly: no such command (see vecmill --help)\n")
    with tempfile.TemporaryDirectory() as folder:
        done = run("embed", VECMILL_HOME=folder, HF_HUB_CACHE=folder, EMBED_MODEL="")
        expect(done, 1, b"")
        assert done.stderr.startswith(b"vecmill: model intfloat/multilingual-e5-small: not on this machine"), done.stderr


def test_lost_output(_folder):
    """What could not be written is told, whichever command wrote it."""
    for words in (["--version"], ["--help"], ["doctor", "--help"], ["tokenize"], ["embed"], ["embed", "--format", "npy"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([COMMAND, *words], input=b"a\n", stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (1, b"vecmill: cannot write standard output: No space left on device\n"), (words, done)


def test_fields_stay(_folder):
    lines = ['{"id": 12345678901234567890123, "text":"hi", "x": {"a":[1.10]} }', '{"text": ""}', '{"embedding": 3, "text": "z"}']
    done = run("embed", "--input", "jsonl", stdin="\n".join(lines).encode())
    expect(done, 0, None, b"")
    out = done.stdout.decode().splitlines()
    assert out[0].startswith('{"id": 12345678901234567890123, "text":"hi", "x": {"a":[1.10]} , "embedding": ['), out[0][:90]
    assert [len(json.loads(line)["embedding"]) for line in out] == [384] * 3
    assert json.loads(out[2])["text"] == "z"


def test_embedding_that_came_in(_folder):
    """It goes, wherever it stands and however its name is written; the other fields stay as they are, to the byte."""
    cases = {r'{"embedding": {"a": ["}", ","]}, "text":"t", "n": 123456789012345678901234567890}':
             r'{ "text":"t", "n": 123456789012345678901234567890, "embedding": [',
             r'{"n": 1.10 ,"embeddin\u0067":null,"text":"a\"}"}': r'{"n": 1.10 ,"text":"a\"}", "embedding": [',
             r'{"x":{"embedding":1},"text":"t","embedding":[1,2] }': r'{"x":{"embedding":1},"text":"t", "embedding": ['}
    done = run("embed", "--input", "jsonl", stdin="\n".join(cases).encode())
    expect(done, 0, None, b"")
    for line, start in zip(done.stdout.decode().splitlines(), cases.values()):
        assert line.startswith(start), line[:100]
        assert len(json.loads(line)["embedding"]) == 384


def test_ill_formed_utf8(_folder):
    told = b"vecmill: 1 records of standard input held ill-formed UTF-8: each bad sequence became U+FFFD\n"
    good, bad = "a \ufffd b\nfine\n".encode(), b"a \xff b\nfine\n"
    expect(run("tokenize", stdin=bad), 0, run("tokenize", stdin=good).stdout, told)
    expect(run("embed", stdin=bad), 0, run("embed", stdin=good).stdout, told)
    expect(run("embed", "--input", "jsonl", stdin=b'{"text": "a \xe2\x82"}\n'), 0,
           run("embed", "--input", "jsonl", stdin='{"text": "a \ufffd"}\n'.encode()).stdout, told)


def test_truncation_is_told(_folder):
    expect(run("embed", stdin=b"word " * 300 + b"\nshort\n"), 0, None,
           b"vecmill: 1 of 2 texts truncated: longer than the model's 256 tokens\n")


def test_order_and_bytes(_folder):
    """npy to a pipe and to a file, one worker and three: the same bytes, in order, equal to what JSON says."""
    text = "".join(f"text number {i} " + "word " * (i * 7 % 90) + "\n" for i in range(400)).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "v.npy")
        expect(run("embed", "--format", "npy", "-o", path, "--workers", "1", stdin=text), 0, b"", b"")
        piped = run("embed", "--format", "npy", "--workers", "3", stdin=text)
        with open(path, "rb") as file:
            data = file.read()
        expect(piped, 0, data, b"")
        assert os.listdir(folder) == ["v.npy"], os.listdir(folder)
        assert data[:8] == b"\x93NUMPY\x01\x00" and b"'shape': (400, 384)" in data[:128]
        assert len(data) == 128 + 400 * 384 * 4
    first = json.loads(run("embed", stdin=text.splitlines()[7]).stdout)["embedding"]
    row = struct.unpack("<384f", data[128 + 7 * 1536:128 + 8 * 1536])
    assert [struct.unpack("<f", struct.pack("<f", v))[0] for v in first] == list(row)


def test_nothing_half_written(_folder):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "v.jsonl")
        expect(run("embed", "--input", "jsonl", "-o", path, stdin=b'{"text":"a"}\nbroken\n'), 1)
        assert os.listdir(folder) == [], os.listdir(folder)
        with open(path, "w", encoding="utf-8") as file:
            file.write("before")
        os.chmod(path, 0o640)
        link = os.path.join(folder, "link")
        os.symlink("v.jsonl", link)
        expect(run("embed", "--input", "jsonl", "-o", link, stdin=b"broken\n"), 1)
        with open(path, encoding="utf-8") as file:
            assert file.read() == "before"
        expect(run("embed", "-o", link, stdin=b"a\n"), 0, b"", b"")
        assert os.path.islink(link) and os.stat(path).st_mode & 0o777 == 0o640
        assert sorted(os.listdir(folder)) == ["link", "v.jsonl"], os.listdir(folder)
        os.mkdir(os.path.join(folder, "sub"))
        for name, target in (("first", "sub/second"), ("sub/second", "../new"), ("round", "round")):
            os.symlink(target, os.path.join(folder, name))
        expect(run("embed", "-o", os.path.join(folder, "first"), stdin=b"a\n"), 0, b"", b"")
        assert os.path.getsize(os.path.join(folder, "new")) > 384 and os.path.islink(os.path.join(folder, "sub", "second"))
        ring = os.path.join(folder, "round")
        expect(run("embed", "-o", ring, stdin=b"a\n"), 1, b"", f"vecmill: cannot write {ring}: Too many levels of symbolic links\n".encode())
        expect(run("embed", "-o", folder, stdin=b"a\n"), 1, b"", f"vecmill: cannot write {folder}: Is a directory\n".encode())
        if os.geteuid() == 0:
            os.chown(path, 1234, 2345)
            expect(run("embed", "-o", path, stdin=b"a\n"), 0, b"", b"")
            assert (os.stat(path).st_uid, os.stat(path).st_gid) == (1234, 2345)
        else:
            os.chmod(path, 0o444)
            expect(run("embed", "-o", path, stdin=b"a\n"), 1, b"", f"vecmill: cannot write {path}: Permission denied\n".encode())
    piped = run("embed", "--format", "npy", "-o", "/dev/stdout", stdin=b"a\n")
    expect(piped, 0, run("embed", "--format", "npy", stdin=b"a\n").stdout, b"")
    expect(run("embed", "-o", "/dev/full", stdin=b"a\n"), 1, b"", b"vecmill: cannot write /dev/full: No space left on device\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([COMMAND, "tokenize"], input=b"a\n", stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and b"No space left" in done.stderr, done


def main() -> int:
    global COMMAND
    COMMAND = given_vecmill()
    os.environ["EMBED_MODEL"] = "sentence-transformers/all-MiniLM-L6-v2"
    return run_cases(globals())


if __name__ == "__main__":
    sys.exit(main())
