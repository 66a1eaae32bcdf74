#!/usr/bin/python3
"""The seeds of fuzz/corpus/pg_answers answer the statements of the store's code: each comes as far as it is to come.

  test_fuzz_answers.py --replay build/fuzz/replay-pg_answers
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from fuzz_answers import REACHES, SEEDS  # noqa: E402


def problem_of(replay: str, name: str) -> str | None:
    """What is wrong with the seed."""
    path = ROOT / "fuzz" / "corpus" / "pg_answers" / name
    done = subprocess.run([replay, path], env=os.environ | {"FAKE_LIBPQ_TELL": "1"}, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        return f"exit {done.returncode}: {done.stderr[-400:]}"
    missing = [words for words in REACHES.get(name, ()) if words not in done.stderr]
    return f"never came to {missing[0]!r}; the last was: {done.stderr.splitlines()[-2][:300]}" if missing else None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replay", required=True)
    replay, n_failed, n = parser.parse_args().replay, 0, 0
    for name in SEEDS:
        problem = problem_of(replay, name)
        print(f"  FAIL  {name}: {problem}" if problem else f"  ok    {name}", flush=True)
        n, n_failed = n + 1, n_failed + bool(problem)
    print(f"{n - n_failed} passed, {n_failed} failed")
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
