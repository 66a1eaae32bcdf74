#!/usr/bin/python3
"""Who looks, and at which table: users who see other rows than others do, and tables that took another one's name.

  test_view.py --vecmill PATH [NAME..]
"""
import contextlib
import subprocess
import sys

sys.dont_write_bytecode = True
from runs import N_DIMENSIONS, begun, fill, fresh, ingest, start, state_grants  # noqa: E402, first: it sets the path
from ingest_case import MAKE_TINY_MODEL, expect, run_tests  # noqa: E402

QUIET = {"options": "-c client_min_messages=error"}


@contextlib.contextmanager
def owned(hides: bool):
    """A server with rows of two users, a and b, in turn; each sees his own alone, or, unless it `hides`, all."""
    with fresh() as server:
        server.psql(f"""DROP ROLE IF EXISTS a; DROP ROLE IF EXISTS b; CREATE ROLE a LOGIN; CREATE ROLE b LOGIN; CREATE TABLE q(id integer PRIMARY KEY, text text);
            CREATE TABLE t(id integer PRIMARY KEY, owner text, text text, embedding vector({N_DIMENSIONS}));
            INSERT INTO t SELECT i, CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'star ' || i FROM generate_series(1, 400) AS i; GRANT SELECT, UPDATE ON t TO a, b;
            GRANT USAGE ON SCHEMA public TO a, b""", **QUIET)
        if hides:
            server.psql("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (owner = current_user)")
        yield server
        server.psql("DROP OWNED BY a, b; DROP ROLE a, b", **QUIET)


def let_in(vecmill, server) -> None:
    ingest(vecmill, server.uri, table="q")
    for user in "ab":
        server.psql(state_grants(user))


def without_vector(server) -> list:
    return server.psql("SELECT owner, count(*) FROM t WHERE embedding IS NULL GROUP BY 1 ORDER BY 1")


def test_others_rows(vecmill, folder):
    """Users who see other rows, by a policy or by their --where, do not share a run: who looks last would end it for all."""
    for hides, words in ((True, ()), (False, ("--where", "owner = current_user"))):
        with owned(hides) as server:
            let_in(vecmill, server)
            first = start(vecmill, server.uri_of(user="a"), 10, "--workers", 1, "--sleep", 0.2, *words)
            begun(first, 2)
            for user in ("b", "postgres") if hides else ("b",):
                told = ingest(vecmill, server.uri_of(user=user), 10, *words, status=1).stderr
                expect("another vecmill is working on its column embedding with other rows in view, or other metrics: " in told and "; as a, search path public" in told
                       and ("under row-level security" in told) == hides, told)
            same = ingest(vecmill, server.uri_of(user="a"), 10, *words)
            output, errors = first.communicate(timeout=60)
            expect(first.returncode == 0 and not errors and "200 / 200" in output and "200 / 200" in same.stdout, f"{first.returncode} {output} {errors} {same.stdout}")
            expect(without_vector(server) == [("b", "200")], "not what a sees")
            ingest(vecmill, server.uri_of(user="b"), 10, *words)
            expect(without_vector(server) == [], "rows without a vector")


def test_search_paths(vecmill, folder):
    """Nor do those for whom a --where names other tables; who says nothing of rows shares them with whomever."""
    with owned(False) as server:
        let_in(vecmill, server)
        server.psql("""CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.todo AS SELECT id FROM t WHERE owner = 'a'; CREATE TABLE b.todo AS SELECT id FROM t WHERE owner = 'b'""")
        paths = [server.uri + f"?options=-csearch_path%3D{user},public" for user in "ab"]
        first = start(vecmill, paths[0], 10, "--workers", 1, "--sleep", 0.2, "--where", "id IN (SELECT id FROM todo)")
        begun(first, 2)
        told = ingest(vecmill, paths[1], "--where", "id IN (SELECT id FROM todo)", status=1).stderr
        expect("; as postgres, search path a, public, PGOPTIONS " in told, told)
        first.communicate(timeout=60)
        expect(without_vector(server) == [("b", "200")], "rows of a")
        first = start(vecmill, server.uri_of(user="a"), 10, "--workers", 1, "--sleep", 0.2)
        begun(first, 2)
        second = ingest(vecmill, paths[1], 10)
        first.communicate(timeout=60)
        expect(first.returncode == 0 and "200 / 200" in second.stdout and without_vector(server) == [], second.stdout)
        server.psql("DROP SCHEMA a, b CASCADE", **QUIET)


def test_hashes_of_others(vecmill, folder):
    """Who sees a part of the rows, or looks them up by another key, does not take the hashes of the rest for those of rows that are gone."""
    with owned(True) as server:
        server.psql("ALTER TABLE t ADD code text; UPDATE t SET code = 'c' || id; ALTER TABLE t ADD UNIQUE (code), ALTER code SET NOT NULL")
        ingest(vecmill, server.uri)
        let_in(vecmill, server)
        for uri, words in ((server.uri_of(user="b"), ()), (server.uri, ("--id-column", "code"))):
            ingest(vecmill, uri, "--changed", *words)
            expect(server.psql("SELECT count(*) FROM vecmill.hashes WHERE key[1] !~ 'c'") == [("400",)], f"hashes after {words}")
        server.psql("UPDATE t SET text = 'moon' WHERE id > 395; DELETE FROM t WHERE id <= 10")
        done = ingest(vecmill, server.uri, "--changed")
        expect("Embedded 5 rows" in done.stdout and "unknown text" not in done.stdout, done.stdout)
        expect(server.psql("SELECT count(*), min(key[1]::int) FROM vecmill.hashes") == [("390", "11")], "hashes of rows that are gone")


def other_model(folder):
    other = folder / "other-model"
    subprocess.run([sys.executable, MAKE_TINY_MODEL, other, "--layers", "1"], check=True)
    return other


def test_unseen_vectors(vecmill, folder):
    """Whose vectors a user may not see are made by what the record says all the same: no other model takes its place."""
    other = other_model(folder)
    with owned(True) as server:
        let_in(vecmill, server)
        ingest(vecmill, server.uri_of(user="a"))
        for words in ((), ("--dry-run",)):
            done = ingest(vecmill, server.uri_of(user="b"), *words, model=other, status=1)
            expect(f'column embedding was made with model "{vecmill.model}", not "{other}"' in done.stderr, done.stderr)
        expect(without_vector(server) == [("b", "200")], "vectors of two models")
        ingest(vecmill, server.uri_of(user="b"))


def copied(server) -> None:
    """The table is restored: another one of the same rows has its name."""
    server.psql("CREATE TABLE copy AS TABLE t; ALTER TABLE copy ADD PRIMARY KEY(id); DROP TABLE t; ALTER TABLE copy RENAME TO t")


def test_swapped(vecmill, folder):
    """A table that has taken another one's name has vectors of whatever made them, and not of what made the other's."""
    other = other_model(folder)
    with fresh() as server:
        fill(server, 20)
        ingest(vecmill, server.uri)
        server.psql(f"CREATE TABLE t_new(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS})); INSERT INTO t_new SELECT id, text FROM t")
        ingest(vecmill, server.uri, table="t_new", model=other)
        server.psql("""BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT; INSERT INTO t SELECT i, 'star ' || i FROM generate_series(21, 30) AS i;
            UPDATE t SET text = 'moon' WHERE id = 3""")
        for words in (("--model", vecmill.model), (), ("--dry-run",)):
            done = vecmill.run("ingest", "t", "--db", server.uri, *words, status=1)
            expect(f"table t: column embedding was not made by {vecmill.model}: of 20 rows embedded again the nearest has cosine " in done.stderr, done.stderr)
        done = vecmill.run("search", "t", "star 3", "--db", server.uri)
        expect("vecmill: warning: table t: not the table that its record was made for" in done.stderr, done.stderr)
        done = ingest(vecmill, server.uri, "--changed", model=other)
        expect("Embedded 10 rows" in done.stdout, done.stdout)
        expect(server.psql("SELECT count(*) FROM vecmill.columns WHERE table_name = 't' AND model LIKE '%other-model'") == [("1",)], "the record")
        done = vecmill.run("search", "t", "star 3", "--db", server.uri)
        expect(not done.stderr, done.stderr)


def test_swapped_for_a_mixture(vecmill, folder):
    """Whose record is another model's gives way to the model that made at least half of the vectors, and to none that made fewer."""
    other = other_model(folder)
    for n_foreign, status in ((11, 1), (10, 0)):
        with fresh() as server:
            fill(server, 20)
            ingest(vecmill, server.uri)
            server.psql(f"CREATE TABLE t_new(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS})); INSERT INTO t_new SELECT id, text FROM t")
            ingest(vecmill, server.uri, table="t_new", model=other)
            server.psql(f"UPDATE t_new SET embedding = array_fill(id::real, ARRAY[{N_DIMENSIONS}])::vector WHERE id <= {n_foreign}; "
                        "ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; INSERT INTO t VALUES(21, 'new')")
            done = ingest(vecmill, server.uri, model=other, status=status)
            expect((f"column embedding was not made by {other}" in done.stderr) == (status == 1), done.stderr)
            expect(server.psql("SELECT model = $$%s$$ FROM vecmill.columns WHERE table_name = 't'" % other) == [("f" if status else "t",)], "the record")


def test_swapped_and_unseen(vecmill, folder):
    """No choice of rows, and no policy, keeps the vectors that are there from being looked at: those of the other model would be passed over, and ours set beside them."""
    other = other_model(folder)
    with owned(True) as server:
        let_in(vecmill, server)
        ingest(vecmill, server.uri, table="t")
        server.psql(f"""CREATE TABLE t_new(id integer PRIMARY KEY, owner text, text text, embedding vector({N_DIMENSIONS})); INSERT INTO t_new SELECT id, owner, text FROM t WHERE owner = 'b';
            GRANT SELECT, UPDATE ON t_new TO a, b; ALTER TABLE t_new ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t_new USING (owner = current_user)""")
        ingest(vecmill, server.uri, table="t_new", model=other)
        server.psql("ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; INSERT INTO t SELECT i, 'a', 'star ' || i FROM generate_series(1001, 1040) AS i")
        for _ in range(2):
            done = ingest(vecmill, server.uri, "--where", "id > 1000", status=1)
            expect(f"table t: column embedding was not made by {vecmill.model}: of 20 rows" in done.stderr, done.stderr)
            done = ingest(vecmill, server.uri_of(user="a"), status=1)
            expect("table t: the record of column embedding may be that of another table, which had this name, and row-level security shows this user no vector beside a text to tell by "
                   "(have somebody who sees all rows run once)" in done.stderr, done.stderr)
        expect(without_vector(server) == [("a", "40")], "vectors of two models")
        ingest(vecmill, server.uri, "--where", "id = 1001", model=other)
        ingest(vecmill, server.uri_of(user="a"), model=other)
        expect(without_vector(server) == [], "not all")


def test_restored(vecmill, folder):
    """A copy of the table in its place goes on under the record, with its hashes, also where some of its texts were edited; one of other vectors does not."""
    with fresh() as server:
        fill(server, 40)
        ingest(vecmill, server.uri)
        copied(server)
        server.psql("""UPDATE t SET text = 'moon ' || id WHERE id <= 25;
            INSERT INTO t(id, text) VALUES(41, 'new')""")
        done = ingest(vecmill, server.uri)
        expect("Embedded 1 rows" in done.stdout, done.stdout)
        done = ingest(vecmill, server.uri, "--changed")
        expect("Embedded 25 rows" in done.stdout, done.stdout)
        server.psql("DROP TABLE t")
        fill(server, 20)
        server.psql(f"UPDATE t SET embedding = array_fill(id::real, ARRAY[{N_DIMENSIONS}])::vector")
        done = ingest(vecmill, server.uri, status=1)
        expect(f"column embedding was not made by {vecmill.model}: of 20 rows embedded again the nearest" in done.stderr, done.stderr)


def test_restored_and_mistaken(vecmill, folder):
    """Beside a copy of the table another text column or prefix is refused as it is beside the table, though many rows come close to it."""
    with fresh() as server:
        fill(server, 100)
        server.psql("ALTER TABLE t ADD other text; UPDATE t SET other = CASE WHEN id % 2 = 0 THEN text ELSE 'moon ' || id END")
        ingest(vecmill, server.uri)
        copied(server)
        server.psql("INSERT INTO t(id, text, other) VALUES(101, 'new', 'neuf')")
        for words, named, unnamed in ((("--text-column", "other"), "as it is asked for: of 20 rows embedded again the furthest has cosine ", 'made with text column "text", not "other"'),
                                      (("--prefix", "moon: "), "as it is asked for: of 20 rows embedded again the furthest has cosine ", 'made with prefix "", not "moon: "')):
            done = ingest(vecmill, server.uri, *words, status=1)
            expect(named in done.stderr and "below 0.9999 (" in done.stderr, done.stderr)
            done = vecmill.run("ingest", "t", "--db", server.uri, *words, status=1)
            expect(unnamed in done.stderr, done.stderr)
        expect(server.psql("SELECT text_column, prefix, (SELECT count(*) FROM t WHERE embedding IS NULL) FROM vecmill.columns") == [("text", "", "1")], "the record")
        ingest(vecmill, server.uri)


def test_other_keys_hashes(vecmill, folder):
    """Hashes by one key are no other's, whose values may be the same: they are neither found nor written over."""
    with fresh() as server:
        fill(server, 40)
        server.psql("ALTER TABLE t ADD alt integer UNIQUE; UPDATE t SET alt = 41 - id; ALTER TABLE t ALTER alt SET NOT NULL")
        ingest(vecmill, server.uri)
        for words in (("--id-column", "alt"), ("--id-column", "alt", "--dry-run"), ()):
            done = ingest(vecmill, server.uri, "--changed", *words)
            expect("edited since" not in done.stdout and "Embedded" not in done.stdout, f"{words}: {done.stdout}")
        server.psql("UPDATE t SET embedding = NULL WHERE id <= 10")
        ingest(vecmill, server.uri, "--id-column", "alt")
        server.psql("UPDATE t SET text = 'moon' WHERE id IN (5, 36)")
        done = ingest(vecmill, server.uri, "--changed")
        expect("Embedded 2 rows" in done.stdout, done.stdout)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
