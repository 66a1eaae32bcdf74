#!/usr/bin/python3
"""Memory does not grow with the table: the peak at 60,000 rows is at most 60 MB above that at 1,000. Nor is that of a dry run above a run's.

  test_memory.py --vecmill PATH [--model DIR] [--json]
"""
import argparse
import json
import os
import sys

from ingest_case import Vecmill, execute, expect, make_table, query

LIMIT_MB = 60


def peak_mb(vecmill, n_rows: int) -> float:
    path = vecmill.folder / f"{n_rows}.db"
    make_table(path, n_rows, seed=1)
    process = vecmill.start("ingest", "t", "--db", path, "--model", vecmill.model, "--progress", "off")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    expect(process.returncode == 0, process.stderr.read())
    expect(query(path, "SELECT count(embedding) FROM t")[0][0] == n_rows - n_rows // 50, "not all rows embedded")
    path.unlink()
    return usage.ru_maxrss / 1024


def large_texts(vecmill) -> None:
    """A dry run holds no more of its sample at once than a run of its rows: 200 texts of 1 MB."""
    path, peaks = vecmill.folder / "large.db", []
    execute(path, """CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT);
        WITH RECURSIVE s(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM s WHERE i < 200)
        INSERT INTO t(text) SELECT replace(hex(zeroblob(62500)), '0', 'star ' || i || ' ') FROM s""")
    for words in (["--dry-run"], []):
        process = vecmill.start("ingest", "t", 20, "--db", path, "--model", vecmill.model, *words)
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        expect(process.returncode == 0 and ("200 rows to embed, " if words else "Embedded 200 rows") in output, output + process.stderr.read())
        peaks.append(usage.ru_maxrss / 1024)
    path.unlink()
    dry, real = peaks
    print(f"200 texts of 1 MB: {dry:.1f} MB of a dry run, {real:.1f} MB of the run")
    expect(dry <= real + LIMIT_MB, f"a dry run took {dry - real:.1f} MB more than the run")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vecmill", required=True)
    parser.add_argument("--model", help="a directory; a tiny random BERT if none is named")
    parser.add_argument("--json", action="store_true", help="the peaks as an object, by rows")
    arguments = parser.parse_args()
    vecmill = Vecmill(arguments.vecmill, arguments.model)
    try:
        peak_mb(vecmill, 100)  # remembers the model's identity: neither run to be compared reads all of its file
        small, large = peak_mb(vecmill, 1000), peak_mb(vecmill, 60000)
        if not arguments.json:
            large_texts(vecmill)
    finally:
        vecmill.close()
    if arguments.json:
        print(json.dumps({"1000": round(small, 1), "60000": round(large, 1)}))
    print(f"peak resident size: {small:.1f} MB at 1,000 rows, {large:.1f} MB at 60,000")
    expect(large - small <= LIMIT_MB, f"{large - small:.1f} MB more at 60,000 rows than at 1,000 (at most {LIMIT_MB})")
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
