#!/usr/bin/python3
"""Which databases, tables, columns and names vecmill takes on PostgreSQL, and what it says of those that it does not.

  test_tables.py --vecmill PATH [NAME..]
"""
import contextlib
import json
import sqlite3
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import N_DIMENSIONS, begun, by_sqlite, fill, floats, fresh, ingest, place, start, state_grants, told  # noqa: E402
from servers import Bouncer  # noqa: E402


def state(server) -> list:
    """What a run could have left behind in the database: columns, schemas, tables."""
    return server.psql("SELECT n.nspname, relname, attname FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid JOIN pg_namespace AS n ON n.oid = relnamespace "
                       "WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2, 3; SELECT nspname FROM pg_namespace ORDER BY 1")


# --- names ---


def test_long_names(vecmill, folder):
    """A name that the server would cut is refused before anything is made under it; counted in the server's bytes."""
    with fresh() as server:
        fill(server, 5)
        before = state(server)

        def refused(option: str, name: str, n: int, *words, **more) -> None:
            told(vecmill, server.uri, f"{option} {name}: {n} bytes, and a name has 63 at most on this server (give a shorter one)", *words, status=2, **more)

        for option in ("--schema", "--state-schema", "--vector-column", "--text-column", "--id-column", "--metrics-table"):
            refused(option, "v" * 64, 64, option, "v" * 64)
            refused(option, "\u00e9" * 32, 64, option, "\u00e9" * 32)
        refused("--id-column", "id," + "v" * 70, 70, "--id-column", "id," + "v" * 70)
        refused("table", "v" * 64, 64, table="v" * 64)
        refused("table", "public." + "v" * 64, 64, table="public." + "v" * 64)
        done = vecmill.run("jobs", "--db", server.uri, "--state-schema", "v" * 64, status=2)
        expect("64 bytes" in done.stderr, done.stderr)
        expect(state(server) == before, "something was made")
        # a table whose metrics would have too long a name does without
        name = "t" * 60
        server.psql(f"ALTER TABLE t RENAME TO {name}")
        refused("--metrics-table", f"{name}_metrics", 68, "--create-metrics", table=name)
        ingest(vecmill, server.uri, "--state-schema", "s" * 63, "--vector-column", "\u00e9" * 31, table=f"public.{name}")
        ingest(vecmill, server.uri, "--state-schema", "s" * 63, "--vector-column", "\u00e9" * 31, "--metrics-table", "m" * 63, "--create-metrics", table=name)
        expect(server.psql(f"SELECT count(\"{chr(0xe9) * 31}\") FROM {name}") == [("5",)], "rows without a vector")


def test_names_of_tables(vecmill, folder):
    """A schema and a table are parted at whichever dot there is a table, or as SQL's quotes say; what is called so to the letter comes first."""
    long = "n" * 61 + '"'
    with fresh() as server:
        for schema in ("My.Schema", "My", "x", "q"):
            server.psql(f'CREATE SCHEMA "{schema}"')
        names = [("My.Schema", "a.b"), ("x", "t"), ("x", "T"), ("public", "t"), ("public", 'say "so"'), ("public", '"x"."t"'), ("q", '"'), ("q", "Word"), ("q", "d.e"), ("public", long)]

        def sql(name: str) -> str:
            return '"' + name.replace('"', '""') + '"'

        for schema, table in names:
            server.psql(f"CREATE TABLE {sql(schema)}.{sql(table)}(id integer PRIMARY KEY, text text)")

        def means(word: str, schema: str, table: str, *words) -> None:
            expect((schema, table) in names, "which table?")
            done = ingest(vecmill, server.uri, "--dry-run", *words, table=word)
            expect(f"Using table={table}, " in done.stdout, f"{word}: {done.stdout}")
            # a table of that name may be in several schemas: rows of this one alone are counted
            server.psql(f"INSERT INTO {sql(schema)}.{sql(table)} VALUES(1, 'star')")
            done = ingest(vecmill, server.uri, "--dry-run", *words, table=word)
            server.psql(f"DELETE FROM {sql(schema)}.{sql(table)}")
            expect(f"Remaining to embed in {table}: 1\n" in done.stdout, f"{word}: {done.stdout}")

        means("My.Schema.a.b", "My.Schema", "a.b")
        means("My.Schema.a.b", "My.Schema", "a.b", "--schema", "My.Schema")
        means("a.b", "My.Schema", "a.b", "--schema", "My.Schema")
        means('"a.b"', "My.Schema", "a.b", "--schema", "My.Schema")
        means('"My.Schema"."a.b"', "My.Schema", "a.b")
        means('"My.Schema"."a.b"', "My.Schema", "a.b", "--schema", "My.Schema")
        means("x.t", "x", "t")
        means("X.t", "x", "t")
        means("x.T", "x", "T")
        means('X."T"', "x", "T")
        means('"x".T', "x", "t")
        means('"t"', "public", "t")
        means('"x"."t"', "public", '"x"."t"')  # it is called so
        means('say "so"', "public", 'say "so"')
        means('"say ""so"""', "public", 'say "so"')
        means('Q.""""', "q", '"')
        means('q."', "q", '"')
        means('q."Word"', "q", "Word")
        means("q.d.e", "q", "d.e")
        means(long, "public", long)
        means(sql(long), "public", long)
        for word in ('"T"', '"t', 't"', '"t"".', '"t".', '."t"', '"x"."t".u', '"q"."d"."e"', '""', '"x" ."t"', '"' + "n" * 70 + '"'):
            done = ingest(vecmill, server.uri, status=1, table=word)
            expect(f": no table {word} (tables: " in done.stderr, done.stderr)
        done = ingest(vecmill, server.uri, "--schema", "x", status=1, table='"q"."Word"')
        expect(': no table "q"."Word" (tables: ' in done.stderr, done.stderr)
        server.psql('CREATE TABLE "My"."Schema.a.b"(id integer PRIMARY KEY, text text)')
        told(vecmill, server.uri, f'{place(server)}: My.Schema.a.b may be any of "My"."Schema.a.b", "My.Schema"."a.b" (give it so, with its quotes)',
             table="My.Schema.a.b", status=2)
        means('"My.Schema"."a.b"', "My.Schema", "a.b")
        means("My.Schema.a.b", "My.Schema", "a.b", "--schema", "My.Schema")
        done = ingest(vecmill, server.uri, status=1, table="nope")
        expect('no table nope (tables: "My"."Schema.a.b", "My.Schema"."a.b", ' in done.stderr and ', q.", q."d.e", q.Word, ' in done.stderr, done.stderr)
        server.psql('DROP SCHEMA "My.Schema", "My", x, q CASCADE', options="-c client_min_messages=error")


def test_empty_names(vecmill, folder):
    with fresh() as server:
        fill(server, 5)
        for option in ("--schema", "--state-schema"):
            told(vecmill, server.uri, f"{option} is empty (give a name, or leave it out)", f"{option}=", status=2)
            done = vecmill.run("search", "t", "star", "--db", server.uri, option, "", status=2)
            expect(done.stderr == f"vecmill: {option} is empty (give a name, or leave it out)\n", done.stderr)


def test_state_schema(vecmill, folder):
    """It holds none of the user's tables."""
    with fresh() as server:
        fill(server, 5)
        advice = "where vecmill keeps its own state (name a table of yours, or another schema with --state-schema)"
        told(vecmill, server.uri, f"table t: lies in schema public, {advice}", "--state-schema", "public", status=2)
        ingest(vecmill, server.uri)
        told(vecmill, server.uri, f"table leases: lies in schema vecmill, {advice}", table="vecmill.leases", status=2)


def test_record_gone(vecmill, folder):
    """A record that is not there although it was written, as when somebody removes it at that moment."""
    with fresh() as server:
        fill(server, 5)
        ingest(vecmill, server.uri)
        server.psql("""DELETE FROM vecmill.columns; UPDATE t SET embedding = NULL;
            CREATE FUNCTION ignore() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
            CREATE TRIGGER ignore BEFORE INSERT ON vecmill.columns FOR EACH ROW EXECUTE FUNCTION ignore()""")
        told(vecmill, server.uri, f"{place(server)}: the record of column embedding is gone (somebody removed it; run again)")


def test_made_again(vecmill, folder):
    """What failed, and the hashes of texts, in a table of the same name that is gone are no matter of the one that has it now; of one that was brought back from a dump they are."""
    with fresh() as server:
        fill(server, 30)
        server.psql("ALTER TABLE t ADD CHECK (embedding IS NULL OR id <> 3)")
        ingest(vecmill, server.uri, status=3)
        server.psql("DROP TABLE t")
        fill(server, 30)
        done = ingest(vecmill, server.uri, "--dry-run")
        expect("Remaining to embed in t: 30" in done.stdout and "failed" not in done.stdout, done.stdout)
        done = ingest(vecmill, server.uri)
        expect("Embedded 30 rows" in done.stdout and "failed" not in done.stdout, done.stdout)
        state = "SELECT (SELECT count(*) FROM vecmill.failures), (SELECT sum(cardinality(hashes)) FROM vecmill.hash_pages), (SELECT count(*) FROM vecmill.columns WHERE table_oid = 't'::regclass)"
        expect(server.psql(state) == [("0", "30", "1")], str(server.psql(state)))
        server.psql("ALTER TABLE t RENAME TO old; CREATE TABLE t (LIKE old INCLUDING ALL); INSERT INTO t SELECT * FROM old; DROP TABLE old; UPDATE t SET text = 'edited' WHERE id = 7")
        done = ingest(vecmill, server.uri, "--changed")
        expect("Embedded 1 rows" in done.stdout and "unknown" not in done.stdout, done.stdout)


# --- columns ---


def test_names_of_columns(vecmill, folder):
    """Columns may be called as the parts of our statements are."""
    names = "k0 k1 h v m0 j0 o0 place writer kept n u key hash reason owner done expires attempts column_id selection ctid_".split()
    with fresh() as server:
        server.psql("CREATE TABLE t(k0 integer, h text, v vector(%d), %s, PRIMARY KEY(k0, h)); INSERT INTO t(k0, h, key) SELECT i, i, 'star ' || i FROM generate_series(1, 9) AS i"
                    % (N_DIMENSIONS, ", ".join(f"{name} text" for name in names if name not in ("k0", "h", "v"))))
        words = ("--text-column", "key", "--vector-column", "v")
        ingest(vecmill, server.uri, *words, "--create-metrics")
        server.psql("UPDATE t SET key = 'moon' WHERE k0 = 3")
        expect("Embedded 1 rows" in ingest(vecmill, server.uri, *words, "--changed").stdout, "not the one row")
        expect(server.psql("SELECT count(v) FROM t") == [("9",)], "rows without a vector")


def test_case_of_columns(vecmill, folder):
    """A column is found whatever its ASCII case, as it is written first of all; of several that differ in nothing else none is."""
    with fresh() as server:
        server.psql("""CREATE TABLE t(id integer PRIMARY KEY, "Title" text, "Text" text, "VEC" vector(%d));
            INSERT INTO t SELECT i, 'moon', 'star ' || i FROM generate_series(1, 3) AS i""" % N_DIMENSIONS)
        done = ingest(vecmill, server.uri)
        expect("Using table=t, id_col=id, text_col=Text, " in done.stdout and "Embedded 3 rows of t into VEC " in done.stdout, done.stdout)
        done = ingest(vecmill, server.uri, "--text-column", "TITLE", "--id-column", "ID", "--vector-column", "other")
        expect("text_col=Title, " in done.stdout, done.stdout)
        # a text that is called so is no vector column; nor is one of two
        server.psql('ALTER TABLE t DROP "VEC", DROP other, ADD "Embedding" text; DROP SCHEMA vecmill CASCADE', options="-c client_min_messages=error")
        expect("Embedded 3 rows of t into embedding " in ingest(vecmill, server.uri).stdout, "not one of its own")
        server.psql('ALTER TABLE t ADD "TITLE" text')
        told(vecmill, server.uri, "table t: no column tITLE for --text-column (columns: id, Title, Text, Embedding, embedding, TITLE)", "--text-column", "tITLE",
             "--vector-column", "v")
        ingest(vecmill, server.uri, "--text-column", "TITLE", "--vector-column", "v")


def test_domains_of_vectors(vecmill, folder):
    """A column of a domain over vector is one of vectors: its dimension, what it refuses, a search."""
    with fresh() as server:
        server.psql(f"""CREATE DOMAIN v AS vector({N_DIMENSIONS}); CREATE DOMAIN vv AS v CHECK ((VALUE <-> '[{",".join("0" * N_DIMENSIONS)}]') > 0);
            CREATE DOMAIN h AS halfvec; CREATE DOMAIN other AS vector(31);
            CREATE TABLE t(id integer PRIMARY KEY, text text, vv vv, h h, other other); INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 20) AS i""")
        for column in ("vv", "h"):
            ingest(vecmill, server.uri, "--vector-column", column)
            server.psql("UPDATE t SET text = 'sun' WHERE id = 7; UPDATE t SET text = NULL WHERE id = 9")
            ingest(vecmill, server.uri, "--vector-column", column, "--changed")
            expect(server.psql(f"SELECT count({column}) FROM t") == [("19",)], "rows without a vector")
            done = vecmill.run("search", "t", "sun", "--db", server.uri, "--vector-column", column, "-k", 1)
            expect(" sun" in done.stdout, done.stdout)
            server.psql("UPDATE t SET text = 'star ' || id")
        expect(floats(server.psql("SELECT vv::vector FROM t WHERE id = 3")[0][0]) == floats(server.psql("SELECT vv FROM t WHERE id = 3")[0][0]), "its text")
        told(vecmill, server.uri, f"table t: column other holds vectors of 31 numbers, the model makes {N_DIMENSIONS} (use the model that made it, or another "
             "--vector-column)", "--vector-column", "other")
        server.psql("CREATE DOMAIN no AS vector CHECK (VALUE IS NULL); ALTER TABLE t ADD no no")
        done = ingest(vecmill, server.uri, "--vector-column", "no", status=3)
        expect("violates check constraint" in done.stdout + done.stderr, done.stdout + done.stderr)


def test_text_types(vecmill, folder):
    """Strings of every kind are embedded alike; what is no text is refused before anything is added."""
    strings = {"text": "text", "varchar": "varchar(40)", "bpchar": "char(40)", "citext": "citext", "name": "name", "words": "words", "cwords": "cwords"}
    others = {"integer": "1", "jsonb": "'1'", "timestamptz": "now()", "bytea": "'AB'", "text[]": "'{a}'", "uuid": "md5('')::uuid", "mood": "'glad'"}
    with fresh() as server:
        # citext's own definitions, the operators left out: these servers' programs come without the extension
        server.psql("""CREATE TYPE citext;
            CREATE FUNCTION citextin(cstring) RETURNS citext AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
            CREATE FUNCTION citextout(citext) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
            CREATE TYPE citext(INPUT = citextin, OUTPUT = citextout, INTERNALLENGTH = VARIABLE, STORAGE = extended, CATEGORY = 'S', COLLATABLE = true);
            CREATE CAST(citext AS text) WITHOUT FUNCTION AS IMPLICIT""", options="-c client_min_messages=error")
        server.psql("CREATE DOMAIN words AS text; CREATE DOMAIN cwords AS citext; CREATE TYPE mood AS ENUM('glad')")
        wanted = by_sqlite(vecmill, folder, ["star 1", "disk 2", "", "\u3000 ", "na\u00efve"])
        for kind, sql in strings.items():
            server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, body {sql}); INSERT INTO t VALUES(1, 'star 1'), (2, 'disk 2'), (3, ''), (4, U&'\\3000 '), "
                        "(5, U&'na\\00EFve')")
            for words in (["--text-column", "body"], []):
                ingest(vecmill, server.uri, *words)
                got = [floats(vector) if vector else None for vector, in server.psql("SELECT embedding FROM t ORDER BY id")]
                expect(as_floats(got) == as_floats(wanted), f"{kind}: other numbers")
                server.psql("UPDATE t SET embedding = NULL")
            server.psql("DROP TABLE t; DROP SCHEMA vecmill CASCADE", options="-c client_min_messages=error")
        spelled = {"timestamptz": "timestamp with time zone", "mood": "public.mood"}
        for kind, value in others.items():
            server.psql(f"CREATE TABLE t(id integer PRIMARY KEY, body {kind}); INSERT INTO t VALUES(1, {value})")
            before = state(server)
            for words in ([], ["--dry-run"]):
                told(vecmill, server.uri, f"table t: body is of type {spelled.get(kind, kind)}, which is no text (name another "
                     "column with --text-column, or put what it says into one of type text)", "--text-column", "body", *words, status=2)
            expect(state(server) == before, f"{kind}: something was made")
            server.psql("DROP TABLE t")


# --- tables ---


def test_keys_of_indexes(vecmill, folder):
    """Columns that an index has beside its key are no part of it; what is unique for some rows alone, or by an expression, is none."""
    good = {"PRIMARY KEY (id) INCLUDE (n)": ("id", []), "PRIMARY KEY (id) INCLUDE (text)": ("id", []), "PRIMARY KEY (id, n) INCLUDE (text)": ("id, n", []),
            "PRIMARY KEY (n, id)": ("n, id", []), "UNIQUE (id) INCLUDE (n)": ("id", ["--id-column", "id"]),
            "UNIQUE NULLS NOT DISTINCT (id)": ("id", ["--id-column", "id"]), "PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED": ("id", []),
            "UNIQUE (id) DEFERRABLE": ("id", ["--id-column", "id"])}
    bad = ["(n) INCLUDE (id)", "(id) WHERE n > 0", "((id + 0))", "(id, (n + 0))", "(id, n)"]
    with fresh() as server:
        for key, (columns, words) in good.items():
            server.psql(f"CREATE TABLE t(n integer, text text, id integer, {key}); INSERT INTO t SELECT -i, 'star ' || i, i FROM generate_series(1, 20) AS i")
            done = ingest(vecmill, server.uri, 6, *words, "--create-metrics")
            expect("Embedded 20 rows" in done.stdout and f"id_col={columns}, text_col" in done.stdout, done.stdout)
            server.psql("UPDATE t SET text = 'moon' WHERE id = 3")
            expect("Embedded 1 rows" in ingest(vecmill, server.uri, *words, "--changed").stdout, f"{key}: not the one row")
            found = json.loads(vecmill.run("search", "t", "moon", "--db", server.uri, "--json", "-k", 1, *words).stdout)
            expect((found["id"], found["text"]) == ({"id": 3, "id, n": [3, -3], "n, id": [-3, 3]}[columns], "moon"), found)
            expect(server.psql("SELECT count(*) FROM t_metrics") == [("20",)], f"{key}: metrics")
            server.psql("DROP TABLE t, t_metrics; DROP SCHEMA vecmill CASCADE", options="-c client_min_messages=error")
        server.psql("CREATE TABLE t(n integer, text text, id integer); INSERT INTO t SELECT -i, 'star ' || i, i FROM generate_series(1, 20) AS i")
        for index in bad:
            server.psql("CREATE UNIQUE INDEX ON t" + index)
            told(vecmill, server.uri, "table t: nothing keeps id unique (CREATE UNIQUE INDEX on it)", "--id-column", "id", status=2)


def test_rules(vecmill, folder):
    """What cannot be updated is told before the first row, and nothing is made."""
    with fresh() as server:
        fill(server, 12)
        server.psql('CREATE TABLE seen(id integer); CREATE RULE "no Update" AS ON UPDATE TO t DO ALSO INSERT INTO seen VALUES(new.id); '
                    "CREATE RULE others AS ON DELETE TO t DO INSTEAD NOTHING; CREATE RULE \"also None\" AS ON UPDATE TO t DO ALSO NOTHING")
        before = state(server)
        for words in ((), ("--dry-run",)):
            told(vecmill, server.uri, 'table t: rule "no Update" stands in place of an UPDATE, or beside it, so vectors cannot be written (ALTER TABLE "public"."t" '
                 'DISABLE RULE "no Update"; a trigger does it too)', *words)
        expect(state(server) == before, "something was made")
        server.psql('ALTER TABLE "public"."t" DISABLE RULE "no Update"')
        ingest(vecmill, server.uri)
        expect(server.psql("SELECT count(embedding) FROM t") == [("12",)], "rows without a vector")


def test_inheritance(vecmill, folder):
    """The same key, at the same place, written by the same transaction, in a table and in one that inherits from it: each table is its own."""
    with fresh() as server:
        for check in ("", ", CHECK (id <> 7 OR embedding IS NULL)"):
            server.psql(f"""CREATE TABLE par(id integer PRIMARY KEY, text text, embedding vector({N_DIMENSIONS}){check});
                CREATE TABLE chi(more text, PRIMARY KEY(id)) INHERITS (par);
                CREATE TABLE "The other"() INHERITS (par);
                BEGIN; INSERT INTO par SELECT i, 'star ' || i FROM generate_series(1, 30) AS i; INSERT INTO chi SELECT i, 'disk ' || i FROM generate_series(1, 30) AS i; COMMIT""")
            told = 'vecmill: table par: its own rows alone, not those of tables that inherit from it: chi, "The other" (name each of them for its own)'
            n, status = (29, 3) if check else (30, 0)
            for table, word, notes in (("par", "star", [told]), ("chi", "disk", [])):
                done = ingest(vecmill, server.uri, 16, "--create-metrics", table=table, status=status)
                expect([line for line in done.stderr.splitlines() if "inherit" in line] == notes and f"Embedded {n} rows" in done.stdout, done.stdout + done.stderr)
                expect("Remaining to embed in " + table + ": 30" in done.stdout, done.stdout)
                got = dict(server.psql(f"SELECT text, embedding FROM ONLY {table} WHERE embedding IS NOT NULL"))
                texts = [f"{word} {i}" for i in range(1, 31) if i != 7 or not check]
                expect(sorted(got) == sorted(texts), f"{table}: {len(got)} vectors")
                expect(as_floats([floats(got[text]) for text in texts]) == as_floats(by_sqlite(vecmill, folder, texts)), f"{table}: another row's vectors")
                expect(server.psql(f"SELECT count(*), max(frequency) FROM {table}_metrics") == [(str(n), "1")], f"metrics of {table}")
            expect(server.psql("SELECT count(*) FROM par WHERE embedding IS NOT NULL") == [(str(2 * n),)], "rows of others were written")
            server.psql("UPDATE par SET text = text || ' edited'")
            done = ingest(vecmill, server.uri, "--changed", table="par", status=status)
            expect(f"Embedded {n} rows" in done.stdout, done.stdout)
            done = vecmill.run("search", "par", "disk 3", "--db", server.uri, "-k", 50)
            expect(len(done.stdout.splitlines()) == n and "disk" not in done.stdout, done.stdout)
            server.psql("DROP TABLE par CASCADE; DROP TABLE par_metrics, chi_metrics; DROP SCHEMA vecmill CASCADE", options="-c client_min_messages=error")


def test_row_level_security(vecmill, folder):
    """Rows that policies let a user read and not write have failed, for that reason; nobody kept changing them."""
    with fresh() as server:
        fill(server, 40)
        server.psql("""DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT CREATE ON DATABASE corpus TO guest; GRANT SELECT, UPDATE ON t TO guest;
            GRANT USAGE ON SCHEMA public TO guest; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY reads ON t FOR SELECT USING (id > 4);
            CREATE POLICY writes ON t FOR UPDATE USING (id % 4 <> 0)""", options="-c client_min_messages=error")
        guest = server.uri_of(user="guest")
        done = ingest(vecmill, guest, 10, status=3)
        expect(done.stderr == "vecmill: table t: 9 rows could not be embedded, the first because: the database passed over the vector: row-level security lets "
               "this user read the row and not write it (see vecmill.failures; --retry-failed tries them again)\n", done.stderr)
        expect("Embedded 27 rows" in done.stdout and "Rows: 9 failed\n" in done.stdout and "Progress: 36 / 36" in done.stdout, done.stdout)
        server.psql("DROP POLICY writes ON t; CREATE POLICY writes ON t FOR UPDATE USING (true)")
        ingest(vecmill, guest, "--retry-failed")
        expect(server.psql("SELECT count(embedding) FROM t") == [("36",)], "rows without a vector")
        server.psql("DROP OWNED BY guest CASCADE; DROP ROLE guest", options="-c client_min_messages=error")


def test_refused_for_want_of_rights(vecmill, folder):
    """A policy or a trigger that refuses one row, by whatever code, does not end the run; a right that is taken from the user meanwhile does."""
    with fresh() as server:
        fill(server, 100)
        server.psql("""DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT CREATE ON DATABASE corpus TO guest; GRANT SELECT, UPDATE ON t TO guest;
            GRANT USAGE ON SCHEMA public TO guest; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY reads ON t FOR SELECT USING (true);
            CREATE POLICY writes ON t FOR UPDATE USING (true) WITH CHECK (id <> 50);
            CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = 'insufficient_privilege'; END$$;
            CREATE TRIGGER refuses BEFORE UPDATE OF embedding ON t FOR EACH ROW WHEN (new.id = 70) EXECUTE FUNCTION refuses();
            CREATE FUNCTION forbids() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'locked document' USING ERRCODE = 'PT403'; END$$;
            CREATE TRIGGER forbids BEFORE UPDATE OF embedding ON t FOR EACH ROW WHEN (new.id = 90) EXECUTE FUNCTION forbids()""",
                    options="-c client_min_messages=error")
        guest = server.uri_of(user="guest")
        for words in ((), ("--connections", 1)):
            done = ingest(vecmill, guest, 10, *words, "--retry-failed", status=3)
            expect(done.stderr.startswith("vecmill: table t: 3 rows could not be embedded, the first because: the database refused the vector: "), done.stderr)
            got = server.psql("SELECT count(embedding), (SELECT string_agg(key[1], ' ' ORDER BY key) FROM vecmill.failures) FROM t")
            expect(got == [("97", "50 70 90")], str(got))
            server.psql("UPDATE t SET embedding = NULL WHERE id < 50")
        run = start(vecmill, guest, 5, "--workers", 1, "--sleep", 0.2)
        begun(run, 1)
        server.psql("REVOKE UPDATE ON t FROM guest")
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 1 and "cannot write vectors: permission denied for table t" in errors,
               f"exit {run.returncode}: {output} {errors}")
        expect(server.psql("SELECT count(*) FROM vecmill.failures") == [("3",)], "rows recorded as failed")
        # what the user may not do whatever the row is
        server.psql("""GRANT UPDATE ON t TO guest; CREATE TABLE audit(id integer); CREATE FUNCTION audits() RETURNS trigger LANGUAGE plpgsql AS
            $$BEGIN INSERT INTO audit VALUES(new.id); RETURN NULL; END$$; CREATE TRIGGER audits AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION audits();
            UPDATE t SET embedding = NULL WHERE id < 50; DELETE FROM audit""")
        told(vecmill, guest, f"guest@{server.host}:{server.port}/corpus: cannot write vectors: permission denied for table audit (ask the owner for the right, or connect as "
             "a user that has it)", 10)
        expect(server.psql("SELECT count(*), (SELECT count(*) FROM audit) FROM vecmill.failures") == [("3", "0")], "rows recorded as failed")
        server.psql("DROP OWNED BY guest CASCADE; DROP ROLE guest", options="-c client_min_messages=error")


def test_rights_to_read(vecmill, folder):
    """A search and a dry run ask for no more than they need, and need no more."""
    with fresh() as server:
        fill(server, 12)
        ingest(vecmill, server.uri)
        server.psql("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON t TO guest; "
                    "INSERT INTO t VALUES(13, 'star')", options="-c client_min_messages=error")
        guest = server.uri_of(user="guest")
        reads = state_grants("guest", writes=False)
        refusal = (f"guest@{server.host}:{server.port}/corpus: this user may not use schema vecmill (have its owner run this, or name another with "
                   "--state-schema): ")
        told(vecmill, guest, f"guest@{server.host}:{server.port}/corpus: this user lacks rights that the run needs (have the owners of what it names run this; "
             "--state-schema names another schema): " + state_grants("guest") + 'GRANT UPDATE ("embedding") ON "public"."t" TO "guest"; ')
        told(vecmill, guest, refusal + reads, "--dry-run")
        done = vecmill.run("search", "t", "star 3", "--db", guest, status=1)
        expect(done.stderr == f"vecmill: {refusal}{reads}\n", done.stderr)
        server.psql(done.stderr.partition("--state-schema): ")[2])
        expect("star 3" in vecmill.run("search", "t", "star 3", "--db", guest, "-k", 1).stdout, "not found")
        expect("1 rows to embed" in ingest(vecmill, guest, "--dry-run").stdout, "no look")
        server.psql("DROP OWNED BY guest CASCADE; DROP ROLE guest", options="-c client_min_messages=error")


# --- databases ---

SPACES = "\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
CODECS = {"UTF8": "utf-8", "LATIN1": "latin-1", "LATIN9": "iso8859-15", "WIN1252": "cp1252", "KOI8R": "koi8-r", "EUC_JP": "euc-jp", "EUC_KR": "euc-kr"}


# Of those that change what SQL means, or how values are written; DateStyle and their like: test_keys.py.
SETTINGS = {"standard_conforming_strings": "off", "escape_string_warning": "on", "backslash_quote": "off", "quote_all_identifiers": "on", "array_nulls": "off",
            "bytea_output": "escape", "extra_float_digits": "-15", "IntervalStyle": "iso_8601", "DateStyle": "German", "xmlbinary": "hex", "xmloption": "document",
            "transform_null_equals": "on", "search_path": "", "row_security": "off", "enable_indexscan": "off", "default_transaction_isolation": "serializable"}


def test_settings(vecmill, folder):
    """All of a database's settings at once, and a table whose names need quotes: rows, failures, edits and metrics are found by every command."""
    table = "we\\ird \"x\" 'y' \u02bbokina"
    sql, metrics = ('public."%s"' % name.replace('"', '""') for name in (table, table + "_metrics"))
    words = ("--schema", "public", "--text-column", "Te'xt\\")
    with fresh() as server:
        for name, value in SETTINGS.items():
            server.psql(f"ALTER DATABASE corpus SET {name} = '{value}'", options="-c client_min_messages=error")
        try:
            server.psql(f"""CREATE TABLE {sql}("The 'Key\\" varchar(40) PRIMARY KEY, "Te'xt\\" varchar, embedding public.vector({N_DIMENSIONS}));
                INSERT INTO {sql} SELECT i || CASE i % 2 WHEN 0 THEN chr(92) ELSE 'NULL' END, 'star ' || i FROM generate_series(1, 20) AS i;
                INSERT INTO {sql} SELECT 'NULL', v FROM unnest(ARRAY['null']) AS v;
                INSERT INTO {sql} SELECT 'blank ' || i, chr(i) || ' ' FROM unnest(ARRAY[9, 10, 11, 12, 13, 32, 133, 160, 5760, 8192, 8202, 8232, 8239, 8287, 12288]) AS i;
                ALTER TABLE {sql} ADD CHECK ("Te'xt\\" <> 'star 3' OR embedding IS NULL)""")
            expect("21 rows to embed" in ingest(vecmill, server.uri, *words, "--dry-run", table=table).stdout, "not the 21 rows")
            done = ingest(vecmill, server.uri, 7, *words, "--create-metrics", table=table, status=3)
            expect("Embedded 20 rows" in done.stdout and "Rows: 1 failed, 15 blank" in done.stdout, done.stdout)
            server.psql(f"""UPDATE {sql} SET "Te'xt\\" = 'moon' WHERE "Te'xt\\" = 'star 7'""")
            for word in ("1 rows to embed", "Embedded 1 rows", "Nothing to embed"):
                done = ingest(vecmill, server.uri, *words, "--changed", *["--dry-run"] * ("rows to" in word), table=table, status=None)
                expect(word in done.stdout and done.returncode in (0, 3), done.stdout + done.stderr)
            expect("1 failed" in ingest(vecmill, server.uri, *words, "--retry-failed", table=table, status=3).stdout, "not tried again")
            server.psql(f"DELETE FROM {metrics} WHERE word_count = 2")
            ingest(vecmill, server.uri, *words, "--metrics-only", table=table)
            expect(server.psql(f"SELECT count(*), sum(word_count) FROM {metrics}") == [("20", "38")], "metrics")
            expect(server.psql("SELECT count(*) FROM vecmill.hashes") == [("20",)], "hashes")
            for more in ([], ["--exact"], ["-k", 10001]):
                done = vecmill.run("search", table, "moon", "--db", server.uri, "--schema", "public", "--json", "-k", 1, *more)
                found = json.loads(done.stdout.splitlines()[0])
                expect((found["id"], found["text"]) == ("7NULL", "moon"), done.stdout)
            expect(table in vecmill.run("jobs", "--db", server.uri).stdout, "no job")
            done = ingest(vecmill, server.uri, table="nope", status=1)
            expect(f"no table nope (tables: public.{table}, public.{table}_metrics" in done.stderr, done.stderr)
        finally:
            server.psql("ALTER DATABASE corpus RESET ALL")


@contextlib.contextmanager
def database_of(encoding: str):
    with fresh() as server:
        server.psql(f"DROP DATABASE IF EXISTS other WITH (FORCE); CREATE DATABASE other ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0",
                    options="-c client_min_messages=error")
        server.psql("CREATE EXTENSION vector", database="other")
        yield server
        server.psql("DROP DATABASE other WITH (FORCE)")


def encodes(text: str, codec: str) -> bool:
    try:
        return text.encode(codec).decode(codec) == text
    except UnicodeError:
        return False


def vectors_of_bytes(vecmill, folder, texts: list) -> list:
    """What SQLite gets of texts that may be any bytes."""
    path = folder / "bytes.db"
    path.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT)")
        db.executemany("INSERT INTO t(text) VALUES(CAST(? AS TEXT))", [(text,) for text in texts])
        db.commit()
        vecmill.ingest(path)
        return [vector for vector, in db.execute("SELECT embedding FROM t ORDER BY id")]


def vectors_in(server, column: str = "embedding") -> list:
    return [vector and struct.pack(f"<{N_DIMENSIONS}f", *floats(vector)) for vector, in server.psql(f"SELECT {column} FROM t ORDER BY id", database="other")]


def test_encodings(vecmill, folder):
    """The same texts give the same vectors and metrics whatever the database's encoding; the same ones are blank; --changed and search too."""
    texts = ["star 1", "", "a\u00e9 na\u00efve", *SPACES, *(a + b for a in SPACES for b in " \u3000x"), "\u6771\u4eac", "\u3000\u6771 \u4eac", "\xa0 \xa0", "\u041c\u0438\u0440",
             "\ub300\ud55c Seoul City", "\u2026", "\u20ac 5", "\x1c", "\u200b"]
    for encoding, codec in CODECS.items():
        with database_of(encoding) as server:
            db = server.uri_of(dbname="other")
            mine = [text for text in texts if encodes(text, codec)]
            rows = ", ".join(f"({i}, convert_from('\\x{text.encode().hex()}', 'UTF8'), 'k' || {i} || convert_from('\\x{mine[2].encode().hex()}', 'UTF8'))"
                             for i, text in enumerate(mine))
            server.psql(f"CREATE TABLE t(id integer, text text, key text PRIMARY KEY); INSERT INTO t VALUES{rows}", database="other")
            expected = vectors_of_bytes(vecmill, folder, [text.encode() for text in mine])
            n = sum(vector is not None for vector in expected)
            done = ingest(vecmill, db, 7, "--dry-run")
            expect(f"Dry run: nothing was written. {n} rows" in done.stdout, f"{encoding}: {done.stdout}")
            ingest(vecmill, db, 7, "--create-metrics")
            expect(vectors_in(server) == expected, f"{encoding}: other vectors")
            got = server.psql("SELECT length, entity_count FROM t LEFT JOIN t_metrics USING (key) ORDER BY id", database="other")
            expect([length and int(length) for length, _ in got] == [len(text) if vector else None for text, vector in zip(mine, expected)], f"{encoding}: {got}")
            changed = "UPDATE t SET text = text || 'x' WHERE id < 3; UPDATE t SET text = ' ' WHERE id = 2"
            server.psql(changed, database="other")
            done = ingest(vecmill, db, "--changed")
            mine[:3] = ["star 1x", "x", " "]
            expect(vectors_in(server) == vectors_of_bytes(vecmill, folder, [text.encode() for text in mine]), f"{encoding}: {done.stdout}")
            ingest(vecmill, db, "--metrics-only")
            done = vecmill.run("search", "t", "star 1x", "--db", db, "-k", 1, "--json")
            expect(json.loads(done.stdout) | {"score": 1} == {"id": f"k0a\u00e9 na\u00efve", "score": 1, "text": "star 1x"} if encodes("\u00e9\u00ef", codec) else True,
                   f"{encoding}: {done.stdout}")
    with database_of("WIN1252") as server:
        server.psql("CREATE TABLE t(id integer PRIMARY KEY, text text); INSERT INTO t VALUES(1, chr(129))", database="other")
        told(vecmill, server.uri_of(dbname="other"), f"{place(server).replace('corpus', 'other')}: cannot count the rows: character with byte sequence 0x81 in "
             'encoding "WIN1252" has no equivalent in encoding "UTF8" (that character is only in one of the database\'s encoding and UTF-8)')


def test_no_encoding(vecmill, folder):
    """SQL_ASCII: bytes, taken as UTF-8 and mended as in SQLite, in keys too; through pgbouncer as well."""
    texts = [text.encode() for text in ("star 1", "", "na\u00efve", *SPACES, "\u3000\u6771\u4eac", "\u1000", "\u200b")]
    texts += [b"na\xefve star", b"\xff", b"\xe2\x80", b" \xe3\x80 ", b"\x20\xa0", b"\xe3\x80\x80\xe3", b"\x85", b"\x80"]
    with database_of("SQL_ASCII") as server:
        expected = vectors_of_bytes(vecmill, folder, texts)
        rows = ", ".join(f"({i}, convert_from('\\x{text.hex()}', 'SQL_ASCII'), 'k' || {i} || convert_from('\\xefbb', 'SQL_ASCII'))" for i, text in enumerate(texts))
        server.psql(f"CREATE TABLE t(id integer, text text, key text PRIMARY KEY, again vector); INSERT INTO t VALUES{rows}", database="other")
        with Bouncer(server, pool_size=2) as bouncer:
            for place, column in ((server, "embedding"), (bouncer, "again")):
                done = ingest(vecmill, place.uri_of(dbname="other"), 4, "--vector-column", column, "--create-metrics")
                expect("with ill-formed UTF-8, repaired" in done.stdout, done.stdout)
                expect(vectors_in(server, column) == expected, f"other vectors: {done.stdout}")
                server.psql("UPDATE t SET text = text || convert_from('\\xff', 'SQL_ASCII') WHERE id = 0", database="other")
                ingest(vecmill, place.uri_of(dbname="other"), "--vector-column", column, "--changed")
                expected[0] = vectors_of_bytes(vecmill, folder, [b"star 1" + b"\xff" * (1 + (column == "again"))])[0]
                got = vectors_in(server, column)
                expect(got == expected, "an edited text keeps its vector")
            done = vecmill.run("search", "t", "na\ufffdve star", "--db", server.uri_of(dbname="other"), "-k", 1, "--json")
            found = json.loads(done.stdout)
            key = b"k%d\xef\xbb" % texts.index(b"na\xefve star")
            expect(found["id"] == f"convert_from('\\x{key.hex()}', 'SQL_ASCII')" and found["text"] == "na\ufffdve star", done.stdout)


def as_floats(vectors: list) -> list:
    return [vector and struct.pack(f"<{len(vector)}f", *vector) for vector in vectors]


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
