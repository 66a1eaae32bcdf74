#!/usr/bin/python3
"""vecmill search on PostgreSQL: the order without an index, with one, and where an index brings too few.

  test_search.py --vecmill PATH [NAME..]
"""
import json
import math
import random
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from servers import Server  # noqa: E402

N = 3000


def fill(vecmill, server) -> dict:
    """A table whose record says the tiny model, then vectors of our own; {id: vector}."""
    draw = random.Random(7)
    server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'one')")
    vecmill.run("ingest", "t", "--db", server.uri, "--model", vecmill.model)
    made = {i: [round(draw.gauss(0, 1), 3) for _ in range(32)] for i in range(2, N + 1)}
    lines = "".join(f"{i}\ttext {i}\t{json.dumps(v)}\n" for i, v in made.items())
    server.psql(f"COPY t(id, text, embedding) FROM STDIN;\n{lines}\\.\n")
    return made | {1: json.loads(server.psql("SELECT embedding FROM t WHERE id = 1")[0][0])}


def search(vecmill, server, *words, **options):
    done = vecmill.run("search", "t", "one", "--db", server.uri, "--json", *words, **options)
    return [json.loads(line)["id"] for line in done.stdout.splitlines()], done.stderr


def test_orders(vecmill, folder):
    with Server() as server:
        vectors = fill(vecmill, server)
        query = vectors[1]  # of the same text, and the tiny model has no prompts
        scores = {i: sum(a * b for a, b in zip(query, v)) / math.hypot(*v) for i, v in vectors.items()}
        best = sorted(scores, key=lambda i: -scores[i])
        expect(search(vecmill, server, "-k", 20) == (best[:20], ""), "without an index")
        server.psql("UPDATE t SET embedding = array_fill(0::real, array[32])::vector WHERE id = 1; ANALYZE t")
        best.remove(1)
        few = [i for i in best if i % 300 == 0]
        told = "vecmill: by index near, which guesses (--exact compares every vector)\n"
        unusable = "vecmill: 1 rows hold no usable vector and were not compared (another size, all zeros, or not finite)\n"
        for kind in ("hnsw (embedding vector_cosine_ops)", "ivfflat (embedding vector_cosine_ops) WITH (lists = 12)"):
            server.psql(f"SET maintenance_work_mem = '32MB'; CREATE INDEX near ON t USING {kind}")
            for planner in ({}, {"PGOPTIONS": "-c enable_seqscan=off -c enable_sort=off"}):
                got, said = search(vecmill, server, "-k", 20, environment=planner)
                expect(said == told and len({*got} & {*best[:20]}) >= 10, f"{kind}: {got} {said}")
                expect(search(vecmill, server, "-k", 20, "--exact", environment=planner) == (best[:20], ""), f"{kind}: --exact")
                # the index knows nothing of the condition: what it guesses are other rows
                got, said = search(vecmill, server, "-k", 8, "--where", "id % 300 = 0", environment=planner)
                expect((got, said) == (few[:8], ""), f"{kind}, --where: {got} {said}, not {few[:8]}")
                got, said = search(vecmill, server, "-k", N, environment=planner)
                expect((got, said) == (best, unusable), f"{kind}, all: {len(got)} {said}")
            server.psql("DROP INDEX near")


def test_ids(vecmill, folder):
    """Numbers and truth are JSON's own, as the server writes them; equal scores come in the order of the values."""
    keys = {"real": ["'-Infinity'", "-3.5", "-1e-7", "0.1", "3", "20", "1e20", "'Infinity'", "'NaN'"],
            "double precision": ["-5e-324", "0.1", "1690000000.123", "1690000000.1231", "1.7976931348623157e308", "'NaN'"],
            "numeric": ["-12.50", "0.10", "3", "20", "9007199254740993", "1e30"],
            "numeric(4, 2)": ["0.1", "3", "20"],
            "years": ["-7", "30", "200"],
            "boolean": ["false", "true"],
            "proven": ["true"],
            "text": ["'3'", "'true'"]}
    wanted = {"real": ["-9e999", "-3.5", "-1e-07", "0.1", "3", "20", "1e+20", "9e999", '"NaN"'],
              "double precision": ["-5e-324", "0.1", "1690000000.123", "1690000000.1231", "1.7976931348623157e+308", '"NaN"'],
              "numeric": ["-12.50", "0.10", "3", "20", "9007199254740993", "1000000000000000000000000000000"],
              "numeric(4, 2)": ["0.10", "3.00", "20.00"],
              "text": ['"3"', '"true"']}
    with Server() as server:
        server.psql("CREATE DOMAIN years AS smallint; CREATE DOMAIN proven AS boolean")
        for kind, values in keys.items():
            server.psql(f"DROP TABLE IF EXISTS t; CREATE TABLE t(id {kind} PRIMARY KEY, text text); INSERT INTO t SELECT id, 'one' FROM unnest(ARRAY[{', '.join(values)}]::{kind}[]) AS id")
            vecmill.run("ingest", "t", "--db", server.uri, "--model", vecmill.model)
            lines = vecmill.run("search", "t", "one", "--db", server.uri, "--json").stdout.splitlines()
            got = [line.partition('{"id":')[2].partition(',"score"')[0] for line in lines]
            expect(got == wanted.get(kind, values), f"{kind}: {lines}")
            expect(all(isinstance(json.loads(line), dict) for line in lines), "no JSON")
        server.psql("DROP TABLE t; CREATE TABLE t(a boolean, b numeric, c text, text text, PRIMARY KEY(a, b, c)); INSERT INTO t VALUES(true, 10, 'x', 'one'), (true, 9.5, 'y', 'one')")
        vecmill.run("ingest", "t", "--db", server.uri, "--model", vecmill.model)
        expect(search(vecmill, server)[0] == [[True, 9.5, "y"], [True, 10, "x"]], "a composite key")


def test_views(vecmill, folder):
    """Have no key and no record: a search is told so, as a run is."""
    with Server() as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector(32)); CREATE VIEW v AS SELECT * FROM t; "
                    "CREATE MATERIALIZED VIEW m AS SELECT * FROM t")
        for name, kind in (("v", "view"), ("m", "materialized view")):
            for command in (("search", name, "one"), ("ingest", name, "--model", vecmill.model), ("ingest", name, "--dry-run", "--model", vecmill.model)):
                done = vecmill.run(*command, "--db", server.uri, status=1)
                expect(done.stderr == f"vecmill: {name}: a {kind}; vectors are written into a table, and searched there by its key and the record of what made "
                       "them (name the table behind it, with --where if need be)\n", done.stderr)


def test_writing_beside_an_index(vecmill, folder):
    """A run that will write says what each index costs, and what to do; one that has nothing to write says nothing."""
    with Server() as server:
        server.psql("""CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector(32)); INSERT INTO t VALUES(1, 'one');
            CREATE INDEX "N ear" ON t USING hnsw (embedding vector_ip_ops); CREATE INDEX u ON t USING ivfflat (embedding vector_l2_ops);
            CREATE INDEX v ON t USING btree (text)""", options="-c client_min_messages=error")
        told = ("""vecmill: table t: index "N ear" (hnsw) is kept up row by row, some milliseconds each (for many rows DROP INDEX "N ear" first, and """
                "create it again afterwards)\nvecmill: table t: index u (ivfflat) keeps the lists that it was made with (after many new rows REINDEX INDEX u)\n")
        for wanted in (told, ""):
            done = vecmill.run("ingest", "t", "--db", server.uri, "--model", vecmill.model)
            expect(done.stderr == wanted, done.stderr)
        server.psql("UPDATE t SET embedding = NULL")
        done = vecmill.run("ingest", "t", "--schema", "public", "--db", server.uri, "--model", vecmill.model)  # the schema may be on nobody's path
        expect('DROP INDEX public."N ear" first' in done.stderr and "REINDEX INDEX public.u)" in done.stderr, done.stderr)


def test_indexes_of_partitions(vecmill, folder):
    """One that a partition has for itself is told; one of the whole table once, and not for each partition again."""
    with Server() as server:
        server.psql("""CREATE TABLE t(id integer PRIMARY KEY, text text, embedding vector(32)) PARTITION BY RANGE (id);
            CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (20);
            INSERT INTO t VALUES(1, 'one'), (11, 'eleven'); CREATE INDEX near ON t USING hnsw (embedding vector_l2_ops);
            CREATE INDEX "low ear" ON low USING hnsw (embedding vector_ip_ops)""", options="-c client_min_messages=error")
        done = vecmill.run("ingest", "t", "--db", server.uri, "--model", vecmill.model)
        told = [line.split(" (hnsw)")[0] for line in done.stderr.splitlines()]
        expect(told == ['vecmill: table t: index "low ear"', "vecmill: table t: index near"], done.stderr)


def test_hints(vecmill, folder):
    """What is missing is told with a command that can be pasted: the connection as it was given."""
    with Server() as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, 'one')")
        where = server.conninfo_of(password="secret")
        shown = where.replace(" password='secret'", "")
        hints = {(): "", ("--db", server.uri): f" --db {server.uri}", ("--db", where): f' --db "{shown}"'}
        for db, hint in hints.items():
            done = vecmill.run("search", "t", "one", *db, status=1, environment=server.environment)
            expect(done.stderr == f"vecmill: table t: no column embedding (vecmill ingest t{hint} makes it)\n", done.stderr)
        vecmill.run("ingest", "t", "--db", server.uri, "--model", vecmill.model)
        server.psql("UPDATE t SET embedding = NULL")
        for db, hint in hints.items():
            done = vecmill.run("search", "t", "one", *db, environment=server.environment)
            expect(done.stderr == f"vecmill: table t: no row has a vector yet (vecmill ingest t{hint})\n", done.stderr)


def test_hints_name_the_same(vecmill, folder):
    """The command that is advised is about the table that was asked for, with the options that say so: pasted into a shell it makes the vectors."""
    names = ["--schema", "a b", "--state-schema", "it's", "--id-column", "k y", "--text-column", 'say "$x"', "--vector-column", "v"]
    shown = """--schema "a b" --state-schema "it's" --id-column "k y" --text-column 'say "$x"' --vector-column v"""
    with Server() as server:
        server.psql('''CREATE SCHEMA a; CREATE SCHEMA "a b"; CREATE TABLE t(id integer PRIMARY KEY, text text); CREATE TABLE a.t(LIKE t INCLUDING ALL);
            CREATE TABLE "a b"."t 1"("k y" integer NOT NULL UNIQUE, "say ""$x""" text, other text); INSERT INTO a.t VALUES(1, 'one');
            INSERT INTO "a b"."t 1" VALUES(1, 'one')''')
        for table, words, command, told in (("a.t", [], "a.t", "a.t"), ("t 1", names, f'"t 1" {shown}', "t 1")):
            done = vecmill.run("search", table, "one", *words, "--db", server.conninfo, status=1, environment=server.environment)
            advice = f'vecmill ingest {command} --db "{server.conninfo}"'
            expect(done.stderr == f"vecmill: table {told.split('.')[-1]}: no column {'v' if words else 'embedding'} ({advice} makes it)\n", done.stderr)
            pasted(vecmill, server, advice)
            at = '"a b"."t 1"' if words else "a.t"
            column = "v" if words else "embedding"
            expect(server.psql(f"SELECT count({column}) FROM {at}") == [("1",)], f"{advice}: not that table")
            server.psql(f"UPDATE {at} SET {column} = NULL")
            done = vecmill.run("search", table, "one", *words, "--db", server.conninfo, environment=server.environment)
            expect(done.stderr == f"vecmill: table {told}: no row has a vector yet ({advice})\n", done.stderr)
            done = vecmill.run("search", table, "one", *words, "--db", server.conninfo, "--where", "true", environment=server.environment)
            expect(done.stderr == f"vecmill: table {told}: no row that --where leaves has a vector\n", done.stderr)


def pasted(vecmill, server, command: str) -> None:
    environment = vecmill.environment | server.environment | {"EMBED_MODEL": str(vecmill.model)}
    done = subprocess.run(["sh", "-c", 'vecmill() { "$VECMILL_COMMAND" "$@"; }; ' + command], env=environment | {"VECMILL_COMMAND": vecmill.command},
                          capture_output=True, text=True, timeout=120, check=False)
    expect(done.returncode == 0, f"{command}: {done.stderr}")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
