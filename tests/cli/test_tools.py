#!/usr/bin/python3
"""vecmill doctor and bench, and the documents of all commands, through the real command.

  test_tools.py --vecmill PATH
"""
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from cases import given_vecmill, run_cases  # noqa: E402

COMMANDS = ["ingest", "search", "jobs", "embed", "tokenize", "doctor", "bench"]
KERNELS = ["peak_fma_f32", "microkernel_f32", "matmul_f32_384x1152", "matmul_f32_384x384", "matmul_f32_384x1536_gelu",
           "matmul_f32_1536x384", "attention_f32_16", "attention_f32_88", "attention_f32_256", "layer_norm_f32_384", "dot_f32_384"]
VECMILL = ""
MODEL = ""


def run(*words, folder=None, **env):
    return subprocess.run([VECMILL, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
                          check=False, cwd=folder, env={**{k: v for k, v in os.environ.items() if not k.startswith("PG")}, **env})


def options(text: str) -> set:
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+|-[a-z](?=[ `\]]))", text))


def section(text: str, start: str, heading: str) -> str:
    part = text[text.index(start) + len(start):]
    return part.split(heading)[0]


def test_documents_name_every_option(folder):
    """--help, docs/command.md and the manual page name the same options."""
    page = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    manual = re.sub(r"\\f[BIR]", "", (ROOT / "docs" / "vecmill.1").read_text(encoding="utf-8")).replace("\\-", "-")
    for command in COMMANDS:
        done = run(command, "--help")
        assert done.returncode == 0 and done.stderr == "", done
        told = options(done.stdout.replace(",", " "))
        assert {"--help", "-h"} < told and len(told) > 3, told
        assert run(command, "-h").stdout == done.stdout != "", command
        told.remove("-h")  # the pages say it once, of all commands
        in_page = options(section(page, f"\n## vecmill {command}\n", "\n## ").replace(",", " ")) | {"--help"}
        in_manual = options(section(manual, f"\n.SH vecmill {command}\n", "\n.SH ").replace(",", " "))
        assert told == in_page, f"{command}: docs/command.md: {told ^ in_page}"
        assert told == in_manual, f"{command}: docs/vecmill.1: {told ^ in_manual}"
        for option in told:  # what is named is there
            answer = run(command, option, "--help", folder=folder).stderr  # -o --help writes a file
            assert "unknown option" not in answer, answer


def test_documents_name_every_result(_folder):
    page = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
    for name in KERNELS + ["embed_f32", "embed_f32_long", "embed_f32_short", "embed_f32_generated"]:
        assert f"`{name}`" in page, name
    listed = run("--help").stdout
    assert listed == run("-h").stdout
    assert all(f"\n  {command} " in listed for command in COMMANDS), listed


def doctor(*words, **env) -> tuple:
    done = run("doctor", *words, **env)
    assert done.stderr == "", done.stderr
    return done.returncode, dict(line.split(None, 1) for line in done.stdout.splitlines() if line[0] != " ")


def test_doctor(folder):
    path = os.path.join(folder, "t.db")
    sqlite3.connect(path).execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
    status, told = doctor("--model", MODEL, "--db", path)
    assert status == 0 and told["main"] == "job   can run" and told["database"] == path, told
    assert told["libraries"].startswith(f"sqlite {sqlite3.sqlite_version}, libpq 1") and ", jansson 2." in told["libraries"], told
    assert ", openssl 3." in told["libraries"], told
    assert told["model"].startswith(f"{os.path.realpath(MODEL)}: BertModel, 2 layers, 32 dimensions"), told
    assert doctor("--model", MODEL)[0] == 0
    status, told = doctor(VECMILL_HOME=folder, HF_HUB_CACHE=folder, EMBED_MODEL="")
    assert status == 1 and told["main"] == "job   cannot run: no model", told
    assert "not on this machine" in told["model"], told
    status, told = doctor("--model", MODEL, "--db", path + "x")
    assert status == 1 and told["main"] == "job   cannot run: no database" and "no such database" in told["database"], told
    status, told = doctor("--model", MODEL, "--db", __file__)
    assert status == 1 and "not a database" in told["database"], told
    status, told = doctor("--model", MODEL, VECMILL_CPU="-avx512,-avx2")
    assert status == 0 and told["kernels"].startswith("c; compiled: c avx2"), told


def check_result(line: str, name: str, workers: int) -> None:
    result = json.loads(line)
    assert result["name"] == name and result["workers"] == workers and result["unit"] == "op/s", result
    assert result["pairs"] + result["discarded"] >= 9 and result["quiet_peak"] > 0, result
    if result["pairs"] > 0:
        assert 0 < result["share_low"] <= result["share"] <= result["share_high"], result
        assert result["value"] > 0 and result["peak"] > 0 and result["share_of_microkernel"] > 0, result


def test_bench(folder):
    path = os.path.join(folder, "some-short.txt")
    Path(path).write_text("a word\nand some more of them\n" * 50, encoding="utf-8")
    words = ["bench", "embed", "--model", MODEL, "--seconds", "0", "--json"]
    for more, name, workers in [(["--input", path, "--workers", "1"], "embed_f32_short", 1),
                                (["--workers", "2"], "embed_f32_generated", 2)]:
        done = run(*words, *more)
        assert done.returncode == 0 and done.stderr == "" and done.stdout.count("\n") == 1, done
        check_result(done.stdout, name, workers)
        assert json.loads(done.stdout)["tokens_per_text"] > 3, done.stdout
    done = run("bench", "kernels", "--seconds", "0", "--json", "--workers", "1")
    assert done.returncode == 0, done
    for line, name in zip(done.stdout.splitlines(), KERNELS):
        check_result(line, name, 1)
    assert done.stdout.count("\n") == len(KERNELS), done.stdout
    for wrong, told in [(["bench"], "bench : unknown"), (["bench", "fly"], "bench fly: unknown (embed or kernels)"),
                        (["bench", "embed", "x"], "x: one argument too many"),
                        (["bench", "kernels", "--workers", "0"], "--workers 0: not a number of workers"),
                        (["bench", "kernels", "--input", "x"], "bench kernels: takes no --input"),
                        (["bench", "embed", "--seconds", "61"], "--seconds 61: not a number of seconds (0 to 60)")]:
        done = run(*wrong)
        assert done.returncode == 2 and told in done.stderr, done
    done = run("bench", "embed", "--model", MODEL, "--input", "/nonexistent")
    assert done.returncode == 1 and done.stderr == "vecmill: cannot open /nonexistent: No such file or directory\n", done


def main() -> int:
    global VECMILL, MODEL
    VECMILL = given_vecmill()
    with tempfile.TemporaryDirectory() as model:
        subprocess.run([sys.executable, ROOT / "scripts" / "make_tiny_model.py", model], check=True)
        MODEL = model
        return run_cases(globals())


if __name__ == "__main__":
    sys.exit(main())
