"""How a Python test program runs its cases and tells of them: a line each, then "N passed, N failed"."""
import argparse
import os
import subprocess
import tempfile


def given_vecmill() -> str:
    """The command to test, which --vecmill names; wherever it is then run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    return os.path.abspath(parser.parse_args().vecmill)


def run_cases(namespace: dict) -> int:
    """Calls every test_* function with a folder of its own; the exit status."""
    tests = [(name, test) for name, test in namespace.items() if name.startswith("test_")]
    n_failed = 0
    for name, test in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(folder)
                print(f"  ok    {name}")
            except (AssertionError, subprocess.SubprocessError, OSError) as problem:
                n_failed += 1
                print(f"  FAIL  {name}: {problem}")
    print(f"{len(tests) - n_failed} passed, {n_failed} failed")
    return 1 if n_failed or not tests else 0
