#!/usr/bin/python3
"""make test: builds every way that matters, runs the suites, counts.

  run_tests.py             what CI runs
  run_tests.py --torture   the long forms
  run_tests.py PASS...     these passes alone (run_tests.py --list names them)

A pass is one build folder with one environment, and the suites that it runs. Each
suite's seconds are printed; the last line is "N passed, N failed", counting test
cases where a program tells them (cmocka) and programs otherwise.
"""
import argparse
import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import fetch_model

ROOT = Path(__file__).resolve().parent.parent
LOW_ROOMS = ["kernel", "text", "model", "provider", "embed"]
ONCE = ["rules", "scripts", "install"]  # nothing of theirs changes with the build
THREADED = ["base", "embed", "ingest", "pg"]
CASES = re.compile(r"\[  PASSED  \] (\d+) test\(s\)\.")
FAILED_CASES = re.compile(r"\[  FAILED  \] (\d+) test\(s\), listed below")
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


@dataclass
class Pass:
    name: str
    folder: str
    suites: list | None = None  # None: all that the folder has
    setup: list = field(default_factory=list)
    env: dict = field(default_factory=dict)
    slower: int = 1  # how many times the usual time limit
    prepare: list = field(default_factory=list)  # makes the folder instead of `meson setup`
    mode: str = ""  # VECMILL_TEST: what a slow path leaves out
    torture_mode: str = "golden"  # VECMILL_TEST in torture: all golden texts, and the rest as ever


TORTURE_SEEDS = 100
TORTURE_REPEATS = 30
RANDOM_TESTS = ["kernel/test-nn", "kernel/test-vec", "text/test-text-vocab", "text/test-text-tokenizer", "ingest/test_pipeline"]
CLANG = {"CC": "clang"}
DEBUG = ["-Dbuildtype=debugoptimized", "-Db_lundef=false"]
ASAN = {"ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
PASSES = [
    Pass("gcc", "build", torture_mode="torture"),
    Pass("clang", "build/clang", LOW_ROOMS + ["base"], env=CLANG, mode="short"),
    Pass("no-avx512", "build", LOW_ROOMS + ["models"], env={"VECMILL_CPU": "-avx512"}, mode="short"),
    Pass("no-avx2", "build", LOW_ROOMS + ["models"], env={"VECMILL_CPU": "-avx512,-avx2"}, slower=4, mode="short"),
    Pass("neon", "build/arm64", LOW_ROOMS + ["base"], prepare=["scripts/arm64", "setup"], slower=10,
         mode="short"),
    Pass("asan-ubsan", "build/asan", setup=["-Db_sanitize=address,undefined", *DEBUG],
         env=CLANG | ASAN, slower=6, mode="short", torture_mode="short"),
    Pass("tsan", "build/tsan", THREADED, setup=["-Db_sanitize=thread", *DEBUG],
         env=CLANG | {"TSAN_OPTIONS": "allocator_may_return_null=1:halt_on_error=1:exitcode=99"}, slower=10, mode="short",
         torture_mode="short"),
]


def run(command: list, env: dict, log: Path) -> bool:
    """Runs quietly; shows what was said when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as out:
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
                              stdout=out, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        print("\n".join(lines[-40:]))
        print(f"{' '.join(map(str, command))}: exit {code} ({log.relative_to(ROOT)})", flush=True)
    return code == 0


def build(one: Pass) -> bool:
    folder = ROOT / one.folder
    log = ROOT / "build" / "test-logs" / f"build-{one.name}.txt"
    if not (folder / "build.ninja").exists():
        if not run(one.prepare or ["meson", "setup", str(folder), *one.setup], one.env, log):
            return False
    # a folder that `make` made before cmocka was there has no tests yet
    return (run(["meson", "configure", str(folder), "-Dtests=enabled"], one.env, log)
            and run(["ninja", "-C", str(folder)], one.env, log))


def suites_of(one: Pass) -> list:
    told = subprocess.run(["meson", "introspect", "--tests", one.folder], cwd=ROOT, check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    names = []
    for test in json.loads(told):
        suite = test["suite"][0].partition(":")[2] or test["suite"][0]
        if suite not in names:
            names.append(suite)
    if one.suites:
        return [name for name in names if name in one.suites]
    return [name for name in names if one.folder == "build" or name not in ONCE]


def count(logs: list) -> tuple[int, int]:
    """Cases that passed and failed, as the programs of one meson test tell them."""
    passed = failed = 0
    for line in "".join(log.read_text(encoding="utf-8") for log in logs).splitlines():
        test = json.loads(line)
        said = test.get("stdout", "") + test.get("stderr", "")
        ok = test["result"] in ("OK", "EXPECTEDFAIL")
        n_passed = sum(map(int, CASES.findall(said))) + sum(int(p) for p, _ in COUNTS.findall(said))
        n_failed = sum(map(int, FAILED_CASES.findall(said))) + sum(int(f) for _, f in COUNTS.findall(said))
        if not ok:
            n_failed = max(n_failed, 1)
        elif n_passed == 0:
            n_passed = 1
        passed, failed = passed + n_passed, failed + n_failed
    return passed, failed


def untested(logs: list) -> list:
    """What the tests say they could not run here, such as a kernel variant: never passed over in silence."""
    tests = [json.loads(line) for log in logs for line in log.read_text(encoding="utf-8").splitlines()]
    said = "".join(test.get("stdout", "") for test in tests if "-without-" not in test["name"])
    return sorted(set(re.findall(r"^.* not run on this processor:.*$", said, re.MULTILINE)))


@functools.lru_cache
def fixed_addresses() -> bool:
    """clang 14's shadow memory does not fit under the widest address randomisation of newer kernels."""
    return shutil.which("setarch") is not None and subprocess.run(
        ["setarch", "-R", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0


def run_suite(one: Pass, suite: str, env: dict) -> tuple[int, int]:
    start = time.monotonic()
    log = ROOT / "build" / "test-logs" / f"{one.name}-{suite}.txt"
    command = ["meson", "test", "-C", one.folder, "--no-rebuild", "--print-errorlogs",
               "--timeout-multiplier", str(one.slower), "--suite", suite, "--logbase", f"{one.name}-{suite}"]
    if "san" in one.name and fixed_addresses():
        command += ["--wrapper", "setarch -R"]
    def told() -> list:  # meson adds the wrapper's name to the file's
        return list((ROOT / one.folder / "meson-logs").glob(f"{one.name}-{suite}*.json"))
    for old in told():
        old.unlink()
    ok = run(command, {**env, "MESON_TESTTHREADS": str(os.cpu_count() or 1)}, log)
    passed, failed = count(told())
    if not ok:
        failed = max(failed, 1)
    print(f"  {one.name:<12} {suite:<10} {time.monotonic() - start:7.1f} s"
          f"  {passed:5} passed{f', {failed} FAILED' if failed else ''}", flush=True)
    if not one.env:
        for line in untested(told()):
            print(f"  {line}", flush=True)
    return passed, failed


def run_pass(one: Pass, torture: bool) -> tuple[int, int]:
    start = time.monotonic()
    if not build(one):
        return 0, 1
    print(f"  {one.name:<12} {'(build)':<10} {time.monotonic() - start:7.1f} s", flush=True)
    env = {**one.env, "VECMILL_TEST": one.torture_mode if torture else one.mode}
    totals = [run_suite(one, suite, env) for suite in suites_of(one)]
    return sum(p for p, _ in totals), sum(f for _, f in totals)


def quote(log: Path, wanted: str) -> None:
    """Shows the lines of a log that hold what is to be quoted."""
    for line in log.read_text(encoding="utf-8").splitlines():
        if re.search(wanted, line):
            print(f"  {line.strip()}", flush=True)


def repeated(n: int, *tests: str) -> list:
    """Command that runs tests of the build for races `n` times over."""
    wrapper = ["--wrapper", "setarch -R"] if fixed_addresses() else []
    return ["meson", "test", "-C", "build/tsan", "--no-rebuild", "--repeat", str(n), "--timeout-multiplier", "10", *wrapper, *tests]


def torture_extras(seed: int) -> dict:
    """What only make torture does, by name: (command, environment) one after the other."""
    def on(name: str, *words: str) -> list:
        return [sys.executable, f"tests/{name}", "--vecmill", "build/vecmill", *words]

    def kills(*words: str) -> list:
        return [(on("ingest/kill_harness.py", *words), {})]
    tsan = next(p.env for p in PASSES if p.name == "tsan")
    return {
        "kill-tiny": kills("--kills", "60"),
        "kill-pg": [(on("pg/kill_harness.py", "--kills", "100", "--restarts", "20"), {})],
        "frozen-pg": [(on("pg/test_sharing.py", "frozen"), {"VECMILL_TEST": "long"})],
        "edits": [(on(name, "--seconds", "90"), {}) for name in ("ingest/test_edits.py", "pg/test_edits_shared.py")],
        "workers-pg": [(on("pg/test_workers.py", "--model", str(fetch_model.folder())), {})],
        "kill-minilm": kills("--kills", "50", "--rows", "1000", "--model", str(fetch_model.folder())),
        "seeds": [([f"build/tests/{name}"], {"VECMILL_SEED": str(seed + i)}) for name in RANDOM_TESTS for i in range(TORTURE_SEEDS)],
        "races": [(repeated(TORTURE_REPEATS, "queue", "thread", "mem", "embed", "pipeline"), tsan),
                  (repeated(3, "ingest-command", "ingest-kill", "pg-kill", "pg-workers"), {**tsan, "VECMILL_TEST": "short"})],
    }


def run_extra(name: str, runs: list) -> tuple[int, int]:
    """Runs that count as one each; the log of a run that failed stays, and its seed is told."""
    start, failed = time.monotonic(), 0
    if not build(next(p for p in PASSES if p.name == ("tsan" if name == "races" else "gcc"))):
        return 0, 1
    for i, (command, env) in enumerate(runs):
        log = ROOT / "build" / "test-logs" / f"torture-{name}-{i}.txt"
        if not run(command, {"VECMILL_TEST": "torture", **env}, log):
            failed += 1
            print(f"  torture      {name}: again: VECMILL_SEED={env.get('VECMILL_SEED', os.environ['VECMILL_SEED'])}"
                  f" {' '.join(map(str, command))}", flush=True)
        quote(log, r"in flight at|each id written once|^uninterrupted|embedded once|past its lease|^\d+ edits|^model calls|^Ok:|^Fail:")
    print(f"  torture      {name:<12} {time.monotonic() - start:6.1f} s"
          f"  {len(runs) - failed} of {len(runs)} runs passed", flush=True)
    return len(runs) - failed, failed


def run_all(names: list, seed: int | None) -> dict:
    """(passed, failed, seconds) of each pass, and of what only torture does."""
    jobs = {one.name: functools.partial(run_pass, one, seed is not None) for one in PASSES}
    if seed is not None:
        jobs |= {name: functools.partial(run_extra, name, runs) for name, runs in torture_extras(seed).items()}
    if unknown := set(names) - set(jobs):
        sys.exit(f"no such pass: {', '.join(sorted(unknown))} (there are: {', '.join(jobs)})")
    told = {}
    for name, job in jobs.items():
        if names and name not in names:
            continue
        start = time.monotonic()
        told[name] = (*job(), time.monotonic() - start)
    return told


def summarise(told: dict) -> tuple[int, int]:
    print(f"\n  {'':<12} {'passed':>7} {'failed':>7} {'seconds':>8}")
    for name, (passed, failed, seconds) in told.items():
        print(f"  {name:<12} {passed:7} {failed:7} {seconds:8.0f}")
    passed, failed = sum(t[0] for t in told.values()), sum(t[1] for t in told.values())
    print(f"all passes: {sum(t[2] for t in told.values()):.0f} s")
    print(f"{passed} passed, {failed} failed", flush=True)
    return passed, failed


def main() -> None:
    parser = argparse.ArgumentParser(description="builds and tests every way that matters")
    parser.add_argument("--torture", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("passes", nargs="*", metavar="PASS")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(one.name for one in PASSES))
        return
    seed = None
    if arguments.torture:
        seed = int(os.environ.get("VECMILL_SEED") or random.SystemRandom().randrange(1 << 31))
        os.environ["VECMILL_SEED"] = str(seed)
        print(f"seed {seed} (VECMILL_SEED={seed} make torture does it again)", flush=True)
    passed, failed = summarise(run_all(arguments.passes, seed))
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
