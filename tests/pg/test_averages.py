#!/usr/bin/python3
"""The averages of a batch's line and of the summary are of the rows that were written, whatever kept the others from it.

  test_averages.py --vecmill PATH [NAME..]
"""
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import N_DIMENSIONS, fresh, ingest, start, waiting  # noqa: E402


def fill(server, rule: str = "") -> None:
    """Row i has i words, but 5 has the text of 6."""
    server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, text text, other integer, embedding vector({N_DIMENSIONS}){rule}); "
                "INSERT INTO t SELECT i, trim(repeat('star ', CASE i WHEN 5 THEN 6 ELSE i END)) FROM generate_series(1, 10) AS i")


def told(output: str) -> list:
    """Rows of each batch and their average number of words; then that of the run."""
    return [(line.split()[2] if line.startswith("P") else "all", line.split("avg_wc=")[1].split()[0]) for line in output.splitlines() if "avg_wc=" in line]


def test_refused(vecmill, folder):
    """By a CHECK: the page is written row by row."""
    for rule, wanted in ((", CHECK (id = 10 OR embedding IS NULL)", "10.0"), (", CHECK (id <> 10 OR embedding IS NULL)", "5.1"), (", CHECK (embedding IS NULL)", "n/a")):
        with fresh() as server:
            fill(server, rule)
            done = ingest(vecmill, server.uri, 10, "--create-metrics", status=3)
            expect(told(done.stdout) == [("10", wanted), ("all", wanted)], f"{rule}: {done.stdout}")


def test_changed_in_flight(vecmill, folder):
    """Their new texts count when these are written; a row of which another column changed is written all the same."""
    triggers = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN new; END$$; CREATE TRIGGER f BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"
    for first in ("", triggers):
        for edit, wanted in (("text = 'moon'", [("5", "8.0"), ("5", "1.0"), ("all", "4.5")]), ("other = 1", [("10", "5.6"), ("all", "5.6")]),
                             ("other = 1, text = CASE WHEN id > 3 THEN text ELSE 'moon' END", [("7", "7.1"), ("3", "1.0"), ("all", "5.3")])):
            with fresh() as server:
                fill(server)
                server.psql(first or "SELECT 1")
                with server.session() as editor:
                    editor.sql(f"BEGIN; UPDATE t SET {edit} WHERE id <= 5")
                    run = start(vecmill, server.uri, 10, "--create-metrics", "--workers", 1, "--connections", 1)
                    waiting(server)
                    editor.sql("COMMIT")
                    output, errors = run.communicate(timeout=60)
                expect(run.returncode == 0 and not errors and told(output) == wanted, f"{edit}: {output} {errors}")
                got = server.psql("SELECT round(avg(word_count), 1) FROM t_metrics")
                expect(got == [(wanted[-1][1],)], f"{edit}: {got}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
