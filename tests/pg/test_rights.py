#!/usr/bin/python3
"""Users who may not do all that a run needs: what is told is right, and enough.

  test_rights.py --vecmill PATH [NAME..]
"""
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import N_DIMENSIONS, fill, fresh, ingest, state_grants, told  # noqa: E402

LACKING = "this user lacks rights that the run needs (have the owners of what it names run this{}): "


def test_rights(vecmill, folder):
    """All that is missing is told at once as what the owners must run; then the run works. Nothing is made or embedded before."""
    with fresh() as server:
        fill(server, 50)
        server.psql('DROP ROLE IF EXISTS "the Reader"; CREATE ROLE "the Reader" LOGIN; GRANT USAGE ON SCHEMA public TO "the Reader"',
                    options="-c client_min_messages=error")
        db = server.uri_of(user="the Reader")
        at = f"the Reader@{server.host}:{server.port}/corpus: "
        lacks, state_too = at + LACKING.format(""), at + LACKING.format("; --state-schema names another schema")

        def refused(*words) -> str:
            """What is to be run."""
            n_tables = server.psql("SELECT count(*) FROM pg_class")
            done = ingest(vecmill, db, *words, status=1)
            before, _, sql = done.stderr.partition("run this")
            sql = sql.partition("): ")[2]
            expect(before == "vecmill: " + lacks.partition("run this")[0] and done.stderr.count("\n") == 1 and "Processed" not in done.stdout, done.stderr)
            expect(server.psql("SELECT count(*) FROM pg_class") == n_tables, "something was made")
            return sql.rstrip()

        # a bare role, on a table without the column
        server.psql("ALTER TABLE t DROP COLUMN embedding")
        ddl = refused("--create-metrics", "--changed")
        parts = ddl.split("; ")
        expect(parts[0] == 'CREATE SCHEMA IF NOT EXISTS "vecmill"' and [part for part in parts if "vecmill" not in part] == [
            f'ALTER TABLE "public"."t" ADD COLUMN IF NOT EXISTS "embedding" "public"."vector"({N_DIMENSIONS})',
            'GRANT SELECT, UPDATE ("embedding") ON "public"."t" TO "the Reader"',
            'CREATE TABLE IF NOT EXISTS "public"."t_metrics"("id" integer, hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, '
            'frequency integer, updated_at timestamptz, PRIMARY KEY("id"))',
            'GRANT SELECT, INSERT, UPDATE, DELETE ON "public"."t_metrics" TO "the Reader";'], ddl)
        expect(state_grants("the Reader") in ddl, ddl)
        server.psql(ddl)
        ingest(vecmill, db, "--create-metrics", "--changed")
        expect(server.psql("SELECT count(embedding), (SELECT count(*) FROM t_metrics) FROM t") == [("50", "50")], "rows without a vector")
        server.psql("UPDATE t SET text = ' ' WHERE id = 7")
        ingest(vecmill, db, "--changed")
        expect(server.psql("SELECT count(embedding), (SELECT count(*) FROM t_metrics) FROM t") == [("49", "49")], "a blank text")
        # some are missing
        for revoke, grant in (('UPDATE (embedding)', 'GRANT UPDATE ("embedding")'), ("SELECT", "GRANT SELECT"),
                              ("SELECT, UPDATE (embedding)", 'GRANT SELECT, UPDATE ("embedding")')):
            server.psql(f'REVOKE {revoke} ON t FROM "the Reader"; UPDATE t SET embedding = NULL')
            expect(refused() == f'{grant} ON "public"."t" TO "the Reader";', grant)
            server.psql(f'{grant} ON "public"."t" TO "the Reader"')
            ingest(vecmill, db)
        # rights on columns alone
        server.psql('REVOKE SELECT ON t FROM "the Reader"; GRANT SELECT (id, text, embedding) ON t TO "the Reader"; ALTER TABLE t ADD COLUMN secret text')
        ingest(vecmill, db, "--dry-run")
        expect("star 3" in vecmill.run("search", "t", "star 3", "--db", db, "-k", 1).stdout, "not found")
        ddl = refused()
        expect(ddl == 'GRANT SELECT ("ctid", "xmin", "tableoid") ON "public"."t" TO "the Reader";', ddl)
        server.psql(ddl + "UPDATE t SET embedding = NULL; DELETE FROM t_metrics WHERE id < 9; UPDATE t SET text = text || '!' WHERE id = 33; "
                    "ALTER TABLE t ADD CHECK (id <> 44 OR embedding IS NULL)")
        expect("1 failed" in ingest(vecmill, db, 7, "--create-metrics", status=3).stdout, "no failure")
        ingest(vecmill, db, "--changed", status=3)
        ingest(vecmill, db, "--metrics-only")
        expect(server.psql("SELECT count(embedding), (SELECT count(*) FROM t_metrics) FROM t") == [("48", "49")], "rows without a vector")
        # a schema of state that is there, and another's
        server.psql('REVOKE ALL ON ALL TABLES IN SCHEMA vecmill FROM "the Reader"; REVOKE ALL ON SCHEMA vecmill FROM "the Reader"')
        reads, writes = state_grants("the Reader", writes=False), state_grants("the Reader")
        server.psql('REVOKE SELECT (text), UPDATE (embedding) ON t FROM "the Reader"; REVOKE ALL ON t_metrics FROM "the Reader"')
        ddl = refused()
        expect(ddl == f"""{writes}GRANT SELECT ("text"), UPDATE ("embedding") ON "public"."t" TO "the Reader"; """
                      'GRANT SELECT, INSERT, UPDATE ON "public"."t_metrics" TO "the Reader";', ddl)
        server.psql(ddl + 'REVOKE ALL ON ALL TABLES IN SCHEMA vecmill FROM "the Reader"; REVOKE ALL ON SCHEMA vecmill FROM "the Reader"')
        told(vecmill, db, f"{at}this user may not use schema vecmill (have its owner run this, or name another with --state-schema): {reads}", "--dry-run")
        server.psql(reads)
        ingest(vecmill, db, "--dry-run")
        for right in ("INSERT", "UPDATE", "DELETE"):
            server.psql(writes + f'REVOKE {right} ON vecmill.leases FROM "the Reader"; REVOKE UPDATE (embedding) ON t FROM "the Reader"')
            told(vecmill, db, state_too.removeprefix("vecmill: ") + writes + 'GRANT UPDATE ("embedding") ON "public"."t" TO "the Reader"; ')
            server.psql('GRANT UPDATE (embedding) ON t TO "the Reader"')
        server.psql(writes)
        ingest(vecmill, db, status=3)
        # no schema of state
        server.psql("DROP SCHEMA vecmill CASCADE", options="-c client_min_messages=error")
        done = ingest(vecmill, db, status=1)
        expect(done.stderr.startswith(f'vecmill: {state_too}CREATE SCHEMA IF NOT EXISTS "vecmill"; ') and '"public"."t"' not in done.stderr, done.stderr)
        # of a state that is not to be read, and of a column that is not there
        ingest(vecmill, server.uri, status=3)
        server.psql('ALTER TABLE t DROP COLUMN embedding; REVOKE SELECT (text) ON t FROM "the Reader"')
        ddl = refused()
        expect(ddl == f'{writes}GRANT SELECT ("text") ON "public"."t" TO "the Reader";', ddl)
        server.psql('DROP SCHEMA vecmill CASCADE', options="-c client_min_messages=error")
        # a look asks for nothing that is not there yet
        server.psql('REVOKE ALL (ctid, xmin, tableoid) ON t FROM "the Reader"')
        ddl = refused("--dry-run")
        expect(ddl == 'GRANT SELECT ("text") ON "public"."t" TO "the Reader";', ddl)
        server.psql(ddl)
        ingest(vecmill, db, "--dry-run")
        server.psql("DROP TABLE t, t_metrics")
        server.psql('DROP OWNED BY "the Reader"; DROP ROLE "the Reader"')


def test_rights_to_schemas(vecmill, folder):
    """Of pgvector, and of the table."""
    with fresh() as server:
        server.psql(f"""DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT CREATE ON DATABASE corpus TO guest; DROP EXTENSION vector CASCADE;
            CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext; CREATE SCHEMA "priv ate";
            CREATE TABLE "priv ate".t(id integer PRIMARY KEY, text text, embedding ext.vector({N_DIMENSIONS})); INSERT INTO "priv ate".t VALUES(1, 'one');
            GRANT SELECT, UPDATE ON "priv ate".t TO guest""", options="-c client_min_messages=error")
        db, at = server.uri_of(user="guest"), f"guest@{server.host}:{server.port}/corpus: {LACKING.format('')}"
        here, ext = 'GRANT USAGE ON SCHEMA "priv ate" TO "guest"; ', 'GRANT USAGE ON SCHEMA "ext" TO "guest"; '
        told(vecmill, db, at + here, "--dry-run", table="priv ate.t")
        metrics = """CREATE TABLE IF NOT EXISTS "priv ate"."t_metrics"("id" integer, hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, frequency integer, updated_at timestamptz, PRIMARY KEY("id")); GRANT SELECT, INSERT, UPDATE ON "priv ate"."t_metrics" TO "guest"; """
        told(vecmill, db, at + here + ext + metrics, "--create-metrics", table="priv ate.t")
        server.psql(here + metrics)
        told(vecmill, db, at + ext, table="priv ate.t")
        server.psql('REVOKE USAGE ON SCHEMA "priv ate" FROM guest; GRANT ALL ON SCHEMA "priv ate", ext TO PUBLIC')
        ingest(vecmill, db, table="priv ate.t")
        expect(server.psql('SELECT count(embedding), (SELECT count(*) FROM "priv ate".t_metrics) FROM "priv ate".t') == [("1", "1")], "rows without a vector")
        server.psql('DROP SCHEMA "priv ate", ext CASCADE; CREATE EXTENSION vector; DROP OWNED BY guest; DROP ROLE guest', options="-c client_min_messages=error")


def test_rights_to_types(vecmill, folder):
    """Of the types and collations of the key, which are called by their names."""
    with fresh() as server:
        server.psql(f"""DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT CREATE ON DATABASE corpus TO guest; GRANT USAGE ON SCHEMA public TO guest;
            CREATE SCHEMA types; CREATE TYPE types.mood AS ENUM('well', 'ill'); CREATE SCHEMA orders; CREATE COLLATION orders.own FROM "C";
            CREATE TABLE t(mood types.mood, name text COLLATE orders.own, text text, embedding vector({N_DIMENSIONS}), PRIMARY KEY(mood, name));
            INSERT INTO t SELECT 'well', i, 'star ' || i FROM generate_series(1, 50) AS i; GRANT SELECT, UPDATE ON t TO guest""", options="-c client_min_messages=error")
        db, at = server.uri_of(user="guest"), f"guest@{server.host}:{server.port}/corpus: {LACKING.format('')}"
        grants = ['GRANT USAGE ON SCHEMA "orders" TO "guest"; ', 'GRANT USAGE ON SCHEMA "types" TO "guest"; ']
        for words in ((), ("--dry-run",)):
            told(vecmill, db, at + "".join(grants), *words)
        for grant in grants:
            server.psql(grant)
        ingest(vecmill, db, 7)
        expect(server.psql("SELECT count(embedding) FROM t") == [("50",)], "rows without a vector")
        server.psql("DROP TABLE t; DROP SCHEMA types, orders CASCADE; DROP OWNED BY guest; DROP ROLE guest", options="-c client_min_messages=error")


def test_column_comes_to_others_too(vecmill, folder):
    """One that is added goes to all that inherit, whose owners must agree; to a partition or a table of a type it cannot go alone."""
    with fresh() as server:
        server.psql("""DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT CREATE ON DATABASE corpus TO guest; GRANT ALL ON SCHEMA public TO guest;
            CREATE TABLE par(id integer PRIMARY KEY, text text); CREATE TABLE chi() INHERITS (par); ALTER TABLE par OWNER TO guest;
            CREATE TABLE whole(id integer PRIMARY KEY, text text) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF whole DEFAULT;
            CREATE TYPE kind AS (id integer, text text); CREATE TABLE typed OF kind(PRIMARY KEY(id)); INSERT INTO par VALUES(1, 'one');
            INSERT INTO part VALUES(1, 'one'); INSERT INTO typed VALUES(1, 'one')""", options="-c client_min_messages=error")
        before = server.psql("SELECT count(*) FROM pg_class")
        adds = f'ALTER TABLE "public"."par" ADD COLUMN IF NOT EXISTS "embedding" "public"."vector"({N_DIMENSIONS}); '
        done = ingest(vecmill, server.uri_of(user="guest"), table="par", status=1)
        expect(done.stderr.endswith(f"vecmill: guest@{server.host}:{server.port}/corpus: {LACKING.format('')}{adds}\n"), done.stderr)
        for words in ((), ("--dry-run",)):
            told(vecmill, server.uri, "table part: a partition of whole, and a column comes to all of that or to none (name whole, or add column embedding to it first)",
                 *words, table="part")
            told(vecmill, server.uri, 'table typed: its columns are those of type kind (ALTER TYPE kind ADD ATTRIBUTE "embedding" "public"."vector" CASCADE)',
                 *words, table="typed")
        expect(server.psql("SELECT count(*) FROM pg_class") == before, "something was made")
        server.psql(adds + 'ALTER TYPE kind ADD ATTRIBUTE "embedding" "public"."vector" CASCADE')
        ingest(vecmill, server.uri_of(user="guest"), table="par")
        ingest(vecmill, server.uri, table="typed")
        ingest(vecmill, server.uri, table="whole")
        expect(server.psql("SELECT count(embedding) FROM (SELECT embedding FROM ONLY par UNION ALL SELECT embedding FROM part UNION ALL SELECT embedding FROM typed) AS all_of_them")
               == [("3",)], "rows without a vector")
        server.psql("DROP TABLE par, whole, typed CASCADE; DROP TYPE kind; DROP OWNED BY guest; DROP ROLE guest", options="-c client_min_messages=error")


def test_rights_to_empty_state(vecmill, folder):
    """A schema of state that is there and holds nothing yet: its owner makes the rest, and the database's CREATE is not wanted."""
    with fresh() as server:
        fill(server, 50)
        server.psql("""DROP ROLE IF EXISTS guest; DROP ROLE IF EXISTS team; CREATE ROLE team; CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest;
            GRANT SELECT, UPDATE ON t TO guest; CREATE SCHEMA vecmill; GRANT USAGE ON SCHEMA vecmill TO guest""", options="-c client_min_messages=error")
        db = server.uri_of(user="guest")
        for grant in ("", "REVOKE USAGE ON SCHEMA vecmill FROM guest; GRANT CREATE ON SCHEMA vecmill TO guest"):
            server.psql(grant or "SELECT 1")
            done = ingest(vecmill, db, status=1)
            expect(LACKING.format("; --state-schema names another schema") + 'CREATE TABLE IF NOT EXISTS "vecmill".columns(' in done.stderr, done.stderr)
        server.psql("ALTER SCHEMA vecmill OWNER TO team; GRANT team TO guest")
        ingest(vecmill, db, 10)
        expect(server.psql("SELECT count(embedding) FROM t") == [("50",)], "rows without a vector")
        server.psql("UPDATE t SET embedding = NULL; CREATE ROLE other LOGIN; GRANT pg_read_all_data, pg_write_all_data TO other")
        ingest(vecmill, server.uri_of(user="other"))
        server.psql("DROP SCHEMA vecmill CASCADE; DROP TABLE t; DROP ROLE other; DROP OWNED BY guest, team; DROP ROLE guest, team",
                    options="-c client_min_messages=error")


def test_rights_to_join(vecmill, folder):
    """Metrics by a column that is no key of the table: to be read too."""
    with fresh() as server:
        fill(server, 50)
        server.psql("""ALTER TABLE t ADD COLUMN source integer; UPDATE t SET source = id / 2; CREATE TABLE t_metrics(source integer PRIMARY KEY,
            hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, frequency integer, updated_at timestamptz);
            DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest; GRANT CREATE ON DATABASE corpus TO guest;
            GRANT SELECT (id, text, embedding, ctid, xmin, tableoid), UPDATE (embedding) ON t TO guest; GRANT SELECT, INSERT, UPDATE ON t_metrics TO guest""",
                    options="-c client_min_messages=error")
        db = server.uri_of(user="guest")
        ingest(vecmill, db, "--dry-run")
        lacks = LACKING.format("") + 'GRANT SELECT ("source") ON "public"."t" TO "guest"; '
        told(vecmill, db, f"guest@{server.host}:{server.port}/corpus: {lacks}")
        server.psql("GRANT SELECT (source) ON t TO guest")
        ingest(vecmill, db)
        expect(server.psql("SELECT count(embedding), (SELECT count(*) FROM t_metrics) FROM t") == [("50", "26")], "rows without a vector")
        server.psql("DROP TABLE t, t_metrics; DROP OWNED BY guest; DROP ROLE guest", options="-c client_min_messages=error")


def test_rights_to_metrics_alone(vecmill, folder):
    """--metrics-only that is told the text column has nothing to ask of the state, whoever made it; without, the record may say which it is."""
    with fresh() as server:
        fill(server, 20)
        server.psql("ALTER TABLE t RENAME text TO words")
        ingest(vecmill, server.uri)
        server.psql("""CREATE TABLE t_metrics(id integer PRIMARY KEY, hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, frequency integer,
            updated_at timestamptz); DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT ON t TO guest;
            GRANT SELECT, INSERT, UPDATE ON t_metrics TO guest""", options="-c client_min_messages=error")
        guest = server.uri_of(user="guest")
        done = ingest(vecmill, guest, "--metrics-only", status=1)
        expect(done.stderr == f"vecmill: guest@{server.host}:{server.port}/corpus: this user may not use schema vecmill (have its owner run this, or name another with "
               f"--state-schema): {state_grants('guest', writes=False)}\n", done.stderr)
        ingest(vecmill, guest, "--metrics-only", "--dry-run", "--text-column", "words")
        ingest(vecmill, guest, "--metrics-only", "--text-column", "words")
        expect(server.psql("SELECT count(word_count) FROM t_metrics") == [("20",)], "no metrics")
        server.psql("INSERT INTO vecmill.version VALUES(99); TRUNCATE t_metrics")
        ingest(vecmill, guest, "--metrics-only", "--text-column", "words", "--vector-column", "embedding")
        expect(server.psql("SELECT count(word_count) FROM t_metrics") == [("20",)], "no metrics beside a later state")
        server.psql("DROP TABLE t, t_metrics; DROP OWNED BY guest; DROP ROLE guest")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
