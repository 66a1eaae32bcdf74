#!/usr/bin/python3
"""make fuzz: builds the fuzz targets under clang's sanitizers and runs each for a while.

  run_fuzz.py [--seconds 60] [TARGET...]

What a run finds lies in build/fuzz/found/; the inputs that reached something new are
kept in build/fuzz/corpus/ and used again next time, beside the seeds of fuzz/corpus/.
Ends in "N passed, N failed".
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "fuzz"
SETUP = ["-Dfuzz=enabled", "-Dtests=disabled", "-Dbuildtype=debugoptimized", "-Db_lundef=false",
         "-Db_sanitize=address,undefined", "-Dc_args=-fsanitize=fuzzer-no-link"]


def build() -> None:
    for command in (["meson", "setup", str(FOLDER), *SETUP] if not (FOLDER / "build.ninja").exists() else None,
                    ["ninja", "-C", str(FOLDER)]):
        if command is None:
            continue
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "CC": "clang"}, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            sys.exit("\n".join(done.stdout.splitlines()[-40:]))


def fuzz(program: Path, seconds: int) -> tuple[str, bool, str]:
    name = program.name.removeprefix("fuzz-")
    kept, found, seeds = FOLDER / "corpus" / name, FOLDER / "found", ROOT / "fuzz" / "corpus" / name
    kept.mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    command = [program, f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048",
               "-print_final_stats=1", f"-artifact_prefix={found}/{name}-", kept]
    if seeds.is_dir():
        command.append(seeds)
    log = FOLDER / f"{name}.txt"
    with open(log, "w", encoding="utf-8", errors="replace") as out:
        code = subprocess.run(
            command, cwd=FOLDER, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False,
            env={**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1", "UBSAN_OPTIONS": "halt_on_error=1"},
        ).returncode
    said = log.read_text(encoding="utf-8", errors="replace")
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    covered = re.findall(r"cov: (\d+)", said)
    ran = int(executed[1]) if executed else 0
    detail = f"{ran:,} inputs, {covered[-1] if covered else 0} edges"
    if code != 0:
        detail += "\n" + "\n".join(said.splitlines()[-30:])
    return name, code == 0 and ran > 0, detail


def main() -> None:
    parser = argparse.ArgumentParser(description="runs every fuzz target for a while")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("targets", nargs="*")
    arguments = parser.parse_args()
    build()
    programs = sorted(path for path in (FOLDER / "fuzz").glob("fuzz-*") if path.is_file())
    if arguments.targets:
        programs = [path for path in programs if path.name.removeprefix("fuzz-") in arguments.targets]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, ok, detail in pool.map(lambda path: fuzz(path, arguments.seconds), programs):
            failed += not ok
            print(f"  {name:<16} {'ok' if ok else 'FAILED':<7} {arguments.seconds} s, {detail}", flush=True)
    print(f"{len(programs) - failed} passed, {failed} failed")
    sys.exit(1 if failed or not programs else 0)


if __name__ == "__main__":
    main()
