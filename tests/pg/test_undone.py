#!/usr/bin/python3
"""Vectors that a trigger or another program takes away each time that they were committed: the run ends, and says so.

  test_undone.py --vecmill PATH [NAME..]
"""
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import fill, fresh, ingest, start  # noqa: E402

TAKES = "UPDATE t SET embedding = NULL WHERE id = new.id AND embedding IS NOT NULL"
CHANGES = "UPDATE t SET text = text || '.' WHERE id = new.id"


def undo(server, what: str, when: str, kind: str = "") -> None:
    server.psql(f"""CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF pg_trigger_depth() < 2 THEN {what}; END IF; RETURN NULL; END$$;
        CREATE {"CONSTRAINT " * bool(kind)}TRIGGER undo AFTER UPDATE ON t {kind} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION undo()""")


def line(n: int, more: str = "") -> str:
    return (f"table t: {n} rows were embedded 10 times or more, and each time a trigger or another program took the vector away or changed the text{more} "
            "(end that and run again)\n")


def finished(run, wanted: tuple) -> tuple:
    """Its stdout and stderr. Who runs on is killed."""
    try:
        output, errors = run.communicate(timeout=30)
    finally:
        run.kill()
    expect(run.returncode in wanted, f"exit {run.returncode}: {output[-300:]} {errors}")
    return output, errors


def test_taken_away(vecmill, folder):
    """By a trigger, at once or when the transaction ends; a text that is changed only where that is looked for."""
    deferred = "DEFERRABLE INITIALLY DEFERRED"
    for what, kind, words, n_left in ((TAKES, "", (), 1), (TAKES, deferred, (), 1), (TAKES, "", ("--changed",), 1), (CHANGES, "", ("--changed",), 1), (CHANGES, "", (), 0)):
        with fresh() as server:
            fill(server, 20)
            undo(server, what, "new.id = 7", kind)
            output, errors = finished(start(vecmill, server.uri, 10, *words), (3 if n_left else 0,))
            expect(errors == (f"vecmill: {line(1)}" if n_left else ""), f"{what} {kind} {words}: {errors}")
            n = int(output.split("\nEmbedded ")[1].split()[0])
            expect(19 + 10 <= n <= 19 + 13 if n_left else n == 20, f"{n} embeddings")
            expect(server.psql("SELECT (SELECT count(*) FROM vecmill.leases), (SELECT count(*) FROM vecmill.workers)") == [("0", "0")], "left behind")
            server.psql("DROP TRIGGER undo ON t")
            again = ingest(vecmill, server.uri, *words)
            expect(("Embedded 1 rows" if n_left else "Nothing to embed") in again.stdout, again.stdout)


def test_several_processes(vecmill, folder):
    """Each of them ends, though it sees but its own share, and nobody ends while there is more to do."""
    with fresh() as server:
        fill(server, 300)
        undo(server, TAKES, "new.id % 50 = 7")
        runs = [start(vecmill, server.uri, 3, "--workers", 1) for _ in range(3)]
        ends = [finished(run, (0, 3)) for run in runs]
        expect(any(run.returncode == 3 for run in runs), f"nobody told of it: {ends}")
        told = [errors for _, errors in ends if errors]
        expect(all("rows were embedded 10 times or more, and each time a trigger" in errors and errors.count("\n") == 1 for errors in told), str(told))
        expect(server.psql("SELECT count(embedding) FROM t") == [("294",)], "rows that nobody had")


def test_all_rows(vecmill, folder):
    """All of a table; and rows that failed are told of as well."""
    with fresh() as server:
        fill(server, 300)
        server.psql("ALTER TABLE t ADD CHECK (id <> 5 OR embedding IS NULL)")
        undo(server, TAKES, "true")
        _, errors = finished(start(vecmill, server.uri), (3,))
        expect(errors.startswith(f"vecmill: {line(299)}vecmill: table t: 1 rows could not be embedded, the first because: "), errors)


def test_others_go_on(vecmill, folder):
    """While rows are inserted nothing is given up: one that loses its vector each time and one that is edited each time are embedded each time."""
    with fresh() as server:
        fill(server, 20)
        undo(server, f"""{TAKES}; UPDATE t SET text = 'edited ' || (SELECT count(*) FROM t) WHERE id = 3;
            INSERT INTO t SELECT max(id) + 1, 'star ' || max(id) + 1 FROM t HAVING max(id) < 80""", "new.id = 7 AND new.embedding IS NOT NULL")
        output, errors = finished(start(vecmill, server.uri, 10, "--changed"), (3,))
        expect(errors == f"vecmill: {line(1)}", errors)
        n = int(output.split("\nEmbedded ")[1].split()[0])
        expect(78 + 2 * 55 <= n <= 78 + 2 * 75, f"{n} embeddings")
        expect(server.psql("SELECT id FROM t WHERE embedding IS NULL") == [("7",)], "rows that were inserted")
        server.psql("DROP TRIGGER undo ON t")
        expect("Embedded 1 rows" in ingest(vecmill, server.uri, "--changed").stdout, "what was left")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
