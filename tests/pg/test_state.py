#!/usr/bin/python3
"""The schema of vecmill's own state: other people's tables in it, those of other versions, and what somebody dropped.

  test_state.py --vecmill PATH [NAME..]
"""
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from ingest_case import expect, run_tests  # noqa: E402
from runs import STATE, fill, fresh, ingest, place, state_grants, told  # noqa: E402

QUIET = {"options": "-c client_min_messages=error"}
LACKS = "this user lacks rights that the run needs (have the owners of what it names run this; --state-schema names another schema): "


def guest_of(server) -> str:
    """A user who may write the table, and has no part in the state."""
    server.psql("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest; GRANT SELECT, UPDATE ON t TO guest", **QUIET)
    return server.uri_of(user="guest")


def doctor(vecmill, db: str, status: int) -> str:
    """What it says of the database."""
    done = vecmill.run("doctor", "--db", db, "--model", vecmill.model, status=status)
    expect(("main job   can run\n" in done.stdout) == (status == 0), done.stdout)
    return done.stdout.partition("\ndatabase   ")[2].partition("\n")[0]


def all_refuse(vecmill, server, message: str, schema: str = "vecmill", status: int = 1) -> None:
    """Whatever is asked, and nothing is made."""
    words = ["--db", server.uri, "--state-schema", schema]
    before = server.psql("SELECT count(*) FROM pg_class"), server.psql("SELECT count(embedding) FROM t")
    for what in (["ingest", "t", "--model", vecmill.model], ["ingest", "t", "--dry-run", "--model", vecmill.model], ["search", "t", "star"],
                 ["jobs"]):
        done = vecmill.run(*what, *words, status=status)
        expect(done.stderr == f"vecmill: {message}\n", f"{what}: {done.stderr!r}, not {message!r}")
    if schema == "vecmill":
        expect(doctor(vecmill, server.uri, 1) == message, "doctor")
    expect((server.psql("SELECT count(*) FROM pg_class"), server.psql("SELECT count(embedding) FROM t")) == before, "something was made")


def test_somebody_elses(vecmill, folder):
    """Things by our names that are not ours: refused before anything is made, and left as they are."""
    with fresh() as server:
        fill(server, 20)
        for schema in ("app", "vecmill"):
            server.psql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            for what, ddl in (("a table version", "TABLE {}.version(n int)"), ("a table version", "TABLE {}.version(major int, minor int)"), ("a table workers", "TABLE {}.workers(id int)"),
                              ("a table columns", "TABLE {}.columns()"), ("a table columns", "TABLE {}.columns(schema_name text, table_name text, vector_column text)"),
                              ("a view leases", "VIEW {}.leases AS SELECT 1"), ("a sequence hashes", "SEQUENCE {}.hashes"), ("a type failures", "TYPE {}.failures AS ENUM('a')"),
                              ("an index leases_column", "INDEX leases_column ON {}.mine(n)"), ("a materialized view hash_pages", "MATERIALIZED VIEW {}.hash_pages AS SELECT 1"),
                              ("a table hashes", "TABLE {}.hashes(key text) PARTITION BY LIST (key)")):
                server.psql(f"CREATE TABLE {schema}.mine(n int); CREATE {ddl.format(schema)}")
                if what == "a table version" and "n int" in ddl:
                    server.psql(f"INSERT INTO {schema}.version VALUES(17)")
                all_refuse(vecmill, server, f"schema {schema} holds {what} that is not vecmill's (name another with --state-schema)", schema)
                if what == "a table version" and "n int" in ddl:
                    expect(server.psql(f"SELECT * FROM {schema}.version") == [("17",)], "somebody else's row")
                server.psql(f"DROP SCHEMA {schema} CASCADE; CREATE SCHEMA {schema}", **QUIET)
        all_refuse(vecmill, server, "schema information_schema holds a view columns that is not vecmill's (name another with --state-schema)", "information_schema")
        for schema in ("pg_catalog", "pg_mine"):
            all_refuse(vecmill, server, f"--state-schema {schema}: names that begin with pg_ are the server's own (give another)", schema, status=2)
        # by other names they are in nobody's way
        server.psql("CREATE TABLE vecmill.mine(n int); CREATE TABLE app.version(n int)")
        ingest(vecmill, server.uri)
        server.psql("DROP SCHEMA app, vecmill CASCADE", **QUIET)


def test_grants_name_our_tables(vecmill, folder):
    """What is printed works for the schema's owner although somebody else's table lies there, and gives nobody that table."""
    with fresh() as server:
        fill(server, 20)
        guest = guest_of(server)
        server.psql("DROP ROLE IF EXISTS keeper; CREATE ROLE keeper LOGIN; GRANT SELECT, UPDATE ON t TO keeper; CREATE SCHEMA vecmill AUTHORIZATION keeper; "
                    "GRANT USAGE ON SCHEMA public TO keeper; CREATE TABLE vecmill.secret(n int)", **QUIET)
        ingest(vecmill, server.uri_of(user="keeper"))
        done = ingest(vecmill, guest, status=1)
        at = f"guest@{server.host}:{server.port}/corpus: "
        expect(done.stderr == f"vecmill: {at}{LACKS}{state_grants('guest')}\n", done.stderr)
        server.psql(done.stderr.partition("schema): ")[2], user="keeper")
        server.psql("UPDATE t SET embedding = NULL")
        ingest(vecmill, guest)
        expect(server.psql("SELECT has_table_privilege('guest', 'vecmill.secret', 'SELECT')") == [("f",)], "somebody else's table")
        server.psql("DROP SCHEMA vecmill CASCADE; DROP OWNED BY guest, keeper; DROP ROLE guest, keeper", **QUIET)


def test_dropped(vecmill, folder):
    """What somebody dropped of the state, its owner's next run puts back before it embeds; others are told what he is to run."""
    with fresh() as server:
        fill(server, 20)
        ingest(vecmill, server.uri)
        guest = guest_of(server)
        server.psql(state_grants("guest"))
        at = f"guest@{server.host}:{server.port}/corpus: "
        for drop in [f"DROP TABLE vecmill.{table}" for table in STATE if table != "columns"] + ["DROP INDEX vecmill.leases_column", "DELETE FROM vecmill.version"]:
            server.psql(f"{drop}; UPDATE t SET embedding = NULL")
            ddl = ingest(vecmill, guest, status=1).stderr
            expect(ddl.startswith(f"vecmill: {at}{LACKS}") and ddl.endswith(state_grants("guest") + "\n") and "ALTER TABLE t" not in ddl, ddl)
            name = drop.split()[2].removeprefix("vecmill.")
            is_old = name == "version"
            expect((" bring up to date schema vecmill, " in doctor(vecmill, guest, 1)) and server.psql("SELECT count(embedding) FROM t") == [("0",)], "doctor")
            told_of = (f"{place(server)}: schema vecmill was made by an earlier vecmill (the next ingest into this database brings it up to date)" if is_old else
                       f"{place(server)}: schema vecmill lacks {name}, which somebody dropped (the next ingest into this database puts it back)")
            done = vecmill.run("jobs", "--db", server.uri, status=1)
            expect(done.stderr == f"vecmill: {told_of}\n", done.stderr)
            doctor(vecmill, server.uri, 0)
            server.psql(ddl.partition("schema): ")[2])
            ingest(vecmill, guest)
            server.psql(f"{drop}; UPDATE t SET embedding = NULL")
            ingest(vecmill, server.uri)
            expect(server.psql("SELECT count(embedding), (SELECT max(n) FROM vecmill.version) FROM t") == [("20", "4")], drop)
            server.psql(state_grants("guest"))
        server.psql("DROP TABLE vecmill.columns CASCADE", **QUIET)
        all_refuse(vecmill, server, "schema vecmill holds vecmill's table leases, and its table columns is gone (drop what is left, or name another with --state-schema)")
        server.psql("DROP OWNED BY guest; DROP ROLE guest")


def test_earlier_state(vecmill, folder):
    """A schema that an earlier vecmill made is brought up to date, or its owner told how; a later one's is left alone."""
    def age(server):
        server.psql("""DROP TABLE vecmill.version, vecmill.hash_pages; ALTER TABLE vecmill.columns DROP run_began, DROP run, DROP cut, DROP table_oid, DROP id_columns, DROP metrics_table; ALTER TABLE vecmill.workers DROP lease_seconds;
            ALTER TABLE vecmill.hashes ADD FOREIGN KEY (column_id) REFERENCES vecmill.columns ON DELETE CASCADE; UPDATE t SET embedding = NULL WHERE id <= 10""")

    with fresh() as server:
        fill(server, 50)
        guest = guest_of(server)
        ingest(vecmill, server.uri)
        age(server)
        server.psql("GRANT USAGE ON SCHEMA vecmill TO guest; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vecmill TO guest")
        earlier = f"{place(server)}: schema vecmill was made by an earlier vecmill (the next ingest into this database brings it up to date)"
        for words in (["jobs"], ["ingest", "t", "--dry-run", "--changed", "--model", vecmill.model]):
            done = vecmill.run(*words, "--db", server.uri, status=1)
            expect(done.stderr == f"vecmill: {earlier}\n", done.stderr)
        done = vecmill.run("search", "t", "star 20", "--db", server.uri, "--json", "-k", 1)
        expect('"id":20' in done.stdout.replace(" ", ""), done.stdout)  # what made the column is known all the same
        at = f"guest@{server.host}:{server.port}/corpus: "
        ddl = ingest(vecmill, guest, status=1).stderr
        expect(ddl.startswith(f'vecmill: {at}{LACKS}ALTER TABLE "vecmill".columns ADD COLUMN ') and ddl.endswith(state_grants("guest") + "\n"), ddl)
        sql = ddl.partition("schema): ")[2]
        expect(doctor(vecmill, guest, 1) == f"{at}this user may not bring up to date schema vecmill, where vecmill keeps its state (have its owner run "
               f"{sql.rstrip()} or what vecmill ingest prints)", "doctor")
        doctor(vecmill, server.uri, 0)
        server.psql(sql)
        expect("Embedded 10 rows" in ingest(vecmill, guest).stdout, "not after what it said")
        doctor(vecmill, guest, 0)
        age(server)
        expect("Embedded 10 rows" in ingest(vecmill, server.uri).stdout, "not by its owner")
        expect(server.psql("SELECT n FROM vecmill.version") == [("4",)], "no version")
        server.psql("ALTER TABLE vecmill.columns DROP run, DROP cut, DROP table_oid, DROP id_columns, DROP metrics_table; UPDATE vecmill.version SET n = 2; UPDATE t SET embedding = NULL WHERE id <= 10")  # the second one's
        expect("Embedded 10 rows" in ingest(vecmill, server.uri, "--limit", 20).stdout, "after the second")
        server.psql("UPDATE t SET text = 'other' WHERE id = 7")
        expect("Embedded 1 rows" in ingest(vecmill, server.uri, "--changed").stdout, "its hashes")
        vecmill.run("jobs", "--db", server.uri)
        server.psql("DROP OWNED BY guest; DROP ROLE guest")


def test_later_state(vecmill, folder):
    """What a later version keeps there, and where, is not known: nobody reads or writes it."""
    with fresh() as server:
        fill(server, 50)
        ingest(vecmill, server.uri)
        for change in ("INSERT INTO vecmill.version VALUES(99)", "ALTER TABLE vecmill.leases DROP fence", "DROP TABLE vecmill.hashes"):
            server.psql(f"{change}; UPDATE t SET embedding = NULL WHERE id <= 10")
            all_refuse(vecmill, server, f"{place(server)}: schema vecmill was made by a later vecmill (use that one, or name another with --state-schema)")
        told(vecmill, server.uri, f"{place(server)}: schema vecmill was made by a later vecmill (use that one, or name another with --state-schema)", "--changed")


def test_longest_names(vecmill, folder):
    """What is to be run is told whole however long the names in it are, and does what it is for."""
    def name(letter: str) -> str:
        """63 bytes, of which each that can be doubles where it is quoted."""
        return '"' + letter + 62 * '""' + '"'

    with fresh() as server:
        ext, schema, table, vector, state, kind, order, role = map(name, "EXTVSDCR")
        keys = [name(letter) for letter in "abcdefghijklmnop"]
        server.psql(f"""DROP EXTENSION vector CASCADE; CREATE SCHEMA {ext}; CREATE EXTENSION vector SCHEMA {ext}; CREATE SCHEMA {schema}; CREATE COLLATION {schema}.{order} FROM "C";
            CREATE DOMAIN {schema}.{kind} AS text; DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT TEMPORARY ON DATABASE corpus TO {role};
            CREATE TABLE {schema}.{table}({", ".join(f"{key} {schema}.{kind} COLLATE {schema}.{order}" for key in keys)}, text text, PRIMARY KEY({", ".join(keys)}));
            INSERT INTO {schema}.{table} VALUES({", ".join("'1'" for _ in keys)}, 'one'); GRANT SELECT (text) ON {schema}.{table} TO {role}""", **QUIET)
        plain = {what: quoted[1:-1].replace('""', '"') for what, quoted in (("role", role), ("state", state))}
        words = ["--state-schema", plain["state"], "--vector-column", vector[1:-1].replace('""', '"'), "--create-metrics", "--metrics-table", name("M")]
        guest = server.uri_of(user=plain["role"])
        refusal = ingest(vecmill, guest, *words, table=f"{schema}.{table}", status=1).stderr
        ddl = refusal.partition("another schema): ")[2]
        expect(ddl.endswith(f"TO {role}; \n") and "(cut)" not in ddl and len(refusal.encode()) > 16384, f"{len(refusal)} bytes: {refusal[-300:]}")
        server.psql(ddl)
        ingest(vecmill, guest, *words, table=f"{schema}.{table}")
        expect(server.psql(f"SELECT count({vector}) FROM {schema}.{table}") == [("1",)], "no vector")
        server.psql(f"DROP SCHEMA {schema}, {ext}, {state} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}; CREATE EXTENSION vector", **QUIET)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
