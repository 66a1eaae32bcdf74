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

ROOT = Path(__file__).resolve().parent.parent
LOW_ROOMS = ["kernel", "text", "model", "provider", "embed"]
ONCE = ["rules", "scripts", "install"]  # nothing of theirs changes with the build
THREADED = ["base", "embed", "ingest"]
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


TORTURE_SEEDS = 100
TORTURE_REPEATS = 30
CLANG = {"CC": "clang"}
DEBUG = ["-Dbuildtype=debugoptimized", "-Db_lundef=false"]
ASAN = {"ASAN_OPTIONS": "allocator_may_return_null=1:detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
PASSES = [
    Pass("gcc", "build"),
    Pass("clang", "build/clang", LOW_ROOMS + ["base"], env=CLANG, mode="short"),
    Pass("no-avx512", "build", LOW_ROOMS + ["models"], env={"VECMILL_CPU": "-avx512"}, mode="short"),
    Pass("no-avx2", "build", LOW_ROOMS + ["models"], env={"VECMILL_CPU": "-avx512,-avx2"}, slower=4, mode="short"),
    Pass("neon", "build/arm64", LOW_ROOMS + ["base"], prepare=["scripts/arm64", "setup"], slower=10,
         mode="short"),
    Pass("asan-ubsan", "build/asan", setup=["-Db_sanitize=address,undefined", *DEBUG],
         env=CLANG | ASAN, slower=6, mode="short"),
    Pass("tsan", "build/tsan", THREADED, setup=["-Db_sanitize=thread", *DEBUG],
         env=CLANG | {"TSAN_OPTIONS": "allocator_may_return_null=1:halt_on_error=1:exitcode=99"}, slower=10, mode="short"),
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
    # on a slow path torture takes all golden texts, and the rest as ever
    env = {**one.env, "VECMILL_TEST": one.mode if not torture else "golden" if one.mode else "torture"}
    totals = [run_suite(one, suite, env) for suite in suites_of(one)]
    return sum(p for p, _ in totals), sum(f for _, f in totals)


def quote(log: Path, wanted: str) -> None:
    """Shows the lines of a log that hold what is to be quoted."""
    for line in log.read_text(encoding="utf-8").splitlines():
        if re.search(wanted, line):
            print(f"  {line.strip()}", flush=True)


def torture_extra(seed: int) -> tuple[int, int]:
    """What only make torture does: kills of the real model's runs, many seeds, races looked for again and again."""
    home = subprocess.run(["scripts/fetch_model.py"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    vecmill, harness = "build/vecmill", "tests/ingest/kill_harness.py"
    kernels = [[f"build/tests/kernel/test-{name}"] for name in ("nn", "vec")]
    runs = [("kill-tiny", [[sys.executable, harness, "--vecmill", vecmill, "--kills", "60"]], {}),
            ("kill-minilm", [[sys.executable, harness, "--vecmill", vecmill, "--kills", "50", "--rows", "1000", "--model", home]], {}),
            ("kernel-seeds", [command for _ in range(TORTURE_SEEDS) for command in kernels], {}),
            ("races", [["meson", "test", "-C", "build/tsan", "--no-rebuild", "--repeat", str(TORTURE_REPEATS), "--timeout-multiplier", "10",
                        "--wrapper", "setarch -R", "embed", "pipeline"]], next(p.env for p in PASSES if p.name == "tsan"))]
    passed = failed = 0
    for name, commands, env in runs:
        start, ok = time.monotonic(), True
        for i, command in enumerate(commands):
            log = ROOT / "build" / "test-logs" / f"torture-{name}.txt"
            ok = run(command, {**env, "VECMILL_SEED": str(seed + i), "VECMILL_TEST": "torture"}, log) and ok
        print(f"  torture      {name:<12} {time.monotonic() - start:6.1f} s  {len(commands)} runs{'' if ok else ', FAILED'}", flush=True)
        quote(log, r"in flight at|each id written once|uninterrupted|^Ok:|^Fail:")
        passed, failed = passed + ok, failed + (not ok)
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
    unknown = set(arguments.passes) - {one.name for one in PASSES}
    if unknown:
        parser.error(f"no such pass: {', '.join(sorted(unknown))} (--list names them)")
    start, passed, failed = time.monotonic(), 0, 0
    if arguments.torture:
        seed = int(os.environ.get("VECMILL_SEED") or random.SystemRandom().randrange(1 << 31))
        os.environ["VECMILL_SEED"] = str(seed)
        print(f"seed {seed} (VECMILL_SEED={seed} make torture does it again)", flush=True)
    for one in PASSES:
        if not arguments.passes or one.name in arguments.passes:
            p, f = run_pass(one, arguments.torture)
            passed, failed = passed + p, failed + f
    if arguments.torture and not arguments.passes:
        p, f = torture_extra(seed)
        passed, failed = passed + p, failed + f
    print(f"all passes: {time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
