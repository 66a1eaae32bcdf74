#!/usr/bin/python3
"""Which tables can hold metrics on PostgreSQL: keys, columns, rules, inheritance and names of all sorts, and what is said of those that cannot.

  test_metrics_tables.py --vecmill PATH [NAME..]
"""
import sys

sys.dont_write_bytecode = True
import corpus
from runs import fresh, ingest, model_of_384  # noqa: E402, first: it sets the path
from ingest_case import expect, run_tests  # noqa: E402
from servers import Server  # noqa: E402


def test_key_types(vecmill, folder):
    """Metrics that are made by sourceid take its type as it is, however long its values are, and whatever schemas are searched."""
    with fresh() as server:
        server.psql('DROP SCHEMA IF EXISTS "Types" CASCADE; CREATE SCHEMA "Types"; CREATE DOMAIN "Types".code AS char(6); CREATE DOMAIN "Types".name AS "Types".code',
                    options="-c client_min_messages=error")
        for declared, made_as, value in (("char(6)", "bpchar", "left('nupepa', i)"), ("bit(6)", '"bit"', "i::bit(6)"), ("varchar(6)", "character varying", "left('nupepa', i)"),
                                         ('"Types".name', '"Types".name', "left('nupepa', i)"), ("numeric(7, 1)", "numeric", "i + 0.5")):
            server.psql(f"""DROP TABLE IF EXISTS contents, document_metrics CASCADE; DROP SCHEMA IF EXISTS vecmill CASCADE; CREATE TABLE contents(id integer PRIMARY KEY,
                sourceid {declared}, text text); INSERT INTO contents SELECT i, {value}, 'star ' || i FROM generate_series(1, 6) AS i""", options="-c client_min_messages=error")
            ingest(vecmill, server.uri, "--create-metrics", table="contents")
            got = server.psql("SELECT (SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'document_metrics'::regclass AND attname = 'sourceid'), "
                              "count(*), count(embedding), count(frequency) FROM contents JOIN document_metrics USING (sourceid)")
            expect(got == [(made_as, "6", "6", "6")], f"{declared}: {got}")
        server.psql('DROP SCHEMA "Types" CASCADE', options="-c client_min_messages=error")


def test_covering_key(vecmill, folder):
    """A table of metrics goes by its key, and not by what its index has beside it."""
    with fresh() as server:
        corpus.create(server, ["sentences"])
        corpus.fill(server, "sentences", 50, blanks=0)
        server.psql("CREATE TABLE sentence_metrics(sentenceid bigint, hawaiian_word_ratio real, word_count integer, length integer, entity_count integer, "
                    "frequency integer, updated_at timestamptz, PRIMARY KEY (sentenceid) INCLUDE (word_count))")
        done = ingest(vecmill, server.uri, 20, table="sentences", model=model_of_384(vecmill.folder))
        expect(done.stderr == "" and "Metrics in sentence_metrics: " in done.stdout, done.stdout + done.stderr)
        expect(server.psql("SELECT count(*), count(word_count), count(frequency) FROM sentence_metrics") == [("50",) * 3], "metrics")
        server.psql("UPDATE sentences SET hawaiiantext = ' ' WHERE sentenceid = 7")
        ingest(vecmill, server.uri, "--changed", table="sentences", model=model_of_384(vecmill.folder))
        expect(server.psql("SELECT count(*) FROM sentence_metrics") == [("49",)], "metrics of a text that is blank")


def made(server, columns: str, more: str = "") -> None:
    """t of five texts, and beside it t_metrics of these columns."""
    server.psql("DROP SCHEMA IF EXISTS vecmill CASCADE; DROP TABLE IF EXISTS t, t_metrics CASCADE; CREATE TABLE t(id integer PRIMARY KEY, text text); "
                f"INSERT INTO t SELECT i, 'star ' || i FROM generate_series(1, 5) AS i; CREATE TABLE t_metrics({columns}); {more}", options="-c client_min_messages=error")


def unfit(vecmill, server, told: str, *words) -> None:
    """Refused where it was asked for, with nothing made; passed over with a note where it was only there."""
    done = ingest(vecmill, server.uri, "--metrics-table", "t_metrics", *words, status=1)
    expect(f": table t_metrics: {told}" in done.stderr and "--metrics-table)\n" in done.stderr, done.stderr)
    expect(server.psql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmill'") == [("0",)], "something was made")
    done = ingest(vecmill, server.uri, *words)
    expect(f"no metrics: table t_metrics: {told}" in done.stderr and "Embedded 5 rows" in done.stdout, done.stdout + done.stderr)


def fits(vecmill, server, *words) -> None:
    ingest(vecmill, server.uri, "--metrics-table", "t_metrics", *words)
    expect(server.psql("SELECT count(*), count(frequency) FROM t_metrics") == [("5", "5")], "metrics")
    server.psql("UPDATE t_metrics SET word_count = NULL WHERE id = 3")
    ingest(vecmill, server.uri, "--metrics-table", "t_metrics", "--metrics-only")
    expect(server.psql("SELECT count(word_count) FROM t_metrics") == [("5",)], "metrics of one that lacked them")


def test_rules(vecmill, folder):
    """Rules are in the way only where the server says so; a disabled one on UPDATE is in that of INSERT .. ON CONFLICT."""
    log, off = "INSERT INTO log VALUES(1)", '; ALTER TABLE t_metrics DISABLE RULE "R"'
    on_update = 'it has rule "R" on UPDATE, and INSERT .. ON CONFLICT takes no table with such a rule, a disabled one too (DROP RULE "R" ON "public"."t_metrics", '
    on_insert = 'rule "R" stands in place of an INSERT, or beside it, so metrics cannot be written (ALTER TABLE "public"."t_metrics" DISABLE RULE "R", '
    on_delete = 'rule "R" stands in place of a DELETE, or beside it, so metrics cannot be removed, as --changed does (ALTER TABLE "public"."t_metrics" DISABLE RULE "R", '
    with fresh() as server:
        server.psql("CREATE TABLE log(id integer)")
        for told, rule, *words in (
                (on_update, f"UPDATE TO t_metrics DO ALSO NOTHING{off}"),
                (on_insert, f"INSERT TO t_metrics DO ALSO {log}"),
                (on_insert, "INSERT TO t_metrics DO INSTEAD NOTHING"),
                (on_insert, f"INSERT TO t_metrics WHERE new.id > 5 DO ALSO {log} ON CONFLICT DO NOTHING"),
                (on_delete, "DELETE TO t_metrics DO INSTEAD NOTHING", "--changed"),
                (on_delete, f"DELETE TO t_metrics DO INSTEAD ({log}; {log})", "--changed"),
                (None, "DELETE TO t_metrics DO INSTEAD NOTHING"),
                (None, f"DELETE TO t_metrics DO INSTEAD {log}", "--changed"),
                (None, "DELETE TO t_metrics WHERE old.id > 5 DO INSTEAD NOTHING", "--changed"),
                (None, f"INSERT TO t_metrics DO ALSO {log}{off}"),
                (None, "INSERT TO t_metrics DO ALSO NOTHING"),
                (None, "INSERT TO t_metrics WHERE new.id > 5 DO INSTEAD NOTHING")):
            made(server, f"id integer PRIMARY KEY, {corpus.METRICS}", f'CREATE RULE "R" AS ON {rule}')
            if told: unfit(vecmill, server, told, *words)
            else: fits(vecmill, server, *words)
            if words and not told:
                server.psql("UPDATE t SET text = ' ' WHERE id = 2")
                ingest(vecmill, server.uri, *words)
                expect(server.psql("SELECT count(embedding) FROM t") == [("4",)], "a vector of a blank text")


def test_types(vecmill, folder):
    """What cannot be written to, or compared, is found before the first row; what merely differs is not in the way."""
    words = folder / "words.txt"
    words.write_text("aloha\n")
    key = "id integer PRIMARY KEY"
    with fresh() as server:
        for columns, told in (
                (f"id text PRIMARY KEY, {corpus.METRICS}", "operator does not exist: text = integer"),
                (f"{key}, {corpus.METRICS.replace('length integer', 'length json')}", 'column "length" is of type json but expression is of type integer'),
                (f"{key}, {corpus.METRICS.replace('frequency integer', 'frequency text')}", "operator does not exist: text = integer"),
                (f"{key}, {corpus.METRICS.replace('length integer', 'length integer GENERATED ALWAYS AS (1) STORED')}",
                 'column length is GENERATED ALWAYS, so it takes no values (ALTER TABLE "public"."t_metrics" ALTER length DROP EXPRESSION; or name another'),
                (f"id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {corpus.METRICS}", "column id is GENERATED ALWAYS, so it takes no values (ALTER TABLE \"public\".\"t_metrics\" ALTER "
                 "id SET GENERATED BY DEFAULT; or name another"),
                (f"{key}, {corpus.METRICS.replace('frequency integer', 'frequency integer NOT NULL')}", "column frequency is NOT NULL without a default, and has no number before"),
                (f"{key}, {corpus.METRICS.replace('real', 'real NOT NULL DEFAULT 0')}", "column hawaiian_word_ratio is NOT NULL, and NULL without a word list (give --wordlist FILE; or ALTER")):
            made(server, columns)
            unfit(vecmill, server, told)
        ingest(vecmill, server.uri, "--metrics-table", "t_metrics", "--metrics-only", "--wordlist", words)
        for columns in ("id bigint PRIMARY KEY, hawaiian_word_ratio double precision, word_count bigint, length text, entity_count smallint, frequency numeric NOT NULL DEFAULT 1, "
                        "updated_at timestamp, long boolean GENERATED ALWAYS AS (length > '9') STORED", f"id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, {corpus.METRICS}"):
            made(server, columns)
            fits(vecmill, server)


def test_generated(vecmill, folder):
    """What is said against columns that take no values does it: PostgreSQL 18 makes virtual ones, whose expression cannot be dropped."""
    with Server(version=18) as server:
        for kind, names, advice in (("", ("length", "updated_at"), 'DROP {0}, ADD {0} {1}'), (" STORED", ("length", "hawaiian_word_ratio"), "ALTER {0} DROP EXPRESSION")):
            columns = corpus.METRICS
            for name in names:
                column = next(column for column in corpus.METRICS.split(", ") if column.startswith(name))
                columns = columns.replace(column, f"{column} GENERATED ALWAYS AS (NULL){kind}")
            made(server, f"id integer PRIMARY KEY, {columns}")
            for name in sorted(names, key=corpus.METRICS.index):  # the first comes first
                type = next(column for column in corpus.METRICS.split(", ") if column.startswith(name)).partition(" ")[2]
                does = f'ALTER TABLE "public"."t_metrics" {advice.format(name, type)}'
                unfit(vecmill, server, f"column {name} is GENERATED ALWAYS, so it takes no values ({does}; or name another")
                server.psql(f"{does}; DROP SCHEMA vecmill CASCADE; UPDATE t SET embedding = NULL", options="-c client_min_messages=error")
            fits(vecmill, server)


def test_values_of_the_server(vecmill, folder):
    """A column that takes no NULL is in the way only where nobody gives it a value: a trigger may, and a domain's default does."""
    key, plain = "id integer PRIMARY KEY", f"id integer PRIMARY KEY, {corpus.METRICS}"
    counted, ratio = (f"{key}, {corpus.METRICS.replace(f'{name} {type}', f'{name} {{}}')}" for name, type in (("frequency", "integer"), ("hawaiian_word_ratio", "real")))
    lacks = "column note is NOT NULL without a default, and no metric (name another"
    uncounted = "column frequency is NOT NULL without a default, and has no number before a run's end"

    def trigger(sets: str, when: str = "BEFORE INSERT", each: str = "ROW", table: str = "t_metrics", more: str = "") -> str:
        return (f"CREATE OR REPLACE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {sets}; RETURN new; END$$; "
                f'CREATE TRIGGER "Fills" {when} ON {table} FOR EACH {each} EXECUTE FUNCTION sets(); {more}')

    with fresh() as server:
        server.psql("""CREATE DOMAIN strict AS integer NOT NULL; CREATE DOMAIN given AS strict DEFAULT 0;
            CREATE DOMAIN stricter AS strict; CREATE DOMAIN "Ratio" AS real NOT NULL; CREATE DOMAIN over AS given""")
        note, off = "new.note := 'a note'", 'ALTER TABLE t_metrics {} TRIGGER "Fills"'
        for columns, more in (
                (f"{plain}, note text NOT NULL", trigger(note)),
                (f"{plain}, note text NOT NULL", trigger(note, "BEFORE UPDATE OR INSERT", more=off.format("ENABLE ALWAYS"))),
                (f"{plain}, note given NOT NULL", trigger("new.note := 1")),
                (counted.format("integer NOT NULL"), trigger("new.frequency := 0")),
                (ratio.format("real NOT NULL"), trigger("new.hawaiian_word_ratio := coalesce(new.hawaiian_word_ratio, 0)")),
                (f"{plain}, note given", ""), (f"{plain}, note over NOT NULL", ""), (f"{plain}, note stricter DEFAULT 7", ""),
                (counted.format('given'), ""), (counted.format('over NOT NULL'), ""),
                (f"{plain}, note text NOT NULL) PARTITION BY RANGE (id", "CREATE TABLE part PARTITION OF t_metrics FOR VALUES FROM (0) TO (9); " + trigger(note, table="part"))):
            made(server, columns, more)
            fits(vecmill, server)
        for told, columns, more in (
                (lacks, f"{plain}, note text NOT NULL", trigger(note, more=off.format("DISABLE"))),
                (lacks, f"{plain}, note text NOT NULL", trigger(note, more=off.format("ENABLE REPLICA"))),
                (lacks, f"{plain}, note text NOT NULL", trigger(note, "BEFORE UPDATE")),
                (lacks, f"{plain}, note text NOT NULL", trigger(note, "AFTER INSERT")),
                (lacks, f"{plain}, note text NOT NULL", trigger("NULL", each="STATEMENT")),
                (lacks, f"{plain}, note stricter NOT NULL", trigger("new.note := 1")),  # before it the server asks the domain
                (lacks, f"{plain}, note strict", ""), (lacks, f"{plain}, note stricter", ""),
                (uncounted, counted.format('stricter'), ""),
                ('column hawaiian_word_ratio is NOT NULL, and NULL without a word list (give --wordlist FILE; or ALTER DOMAIN public."Ratio" DROP NOT NULL; or name another',
                 ratio.format('"Ratio"'), "")):
            made(server, columns, more)
            unfit(vecmill, server, told)


def test_inheritance(vecmill, folder):
    """Rows of a table that inherits from that of the metrics are its own: not read, counted or removed. Those of partitions are the table's."""
    heirs = "SELECT * FROM t_metrics_archive ORDER BY id"
    note = 'vecmill: table t_metrics: metrics are its own rows alone, not those of tables that inherit from it: t_metrics_archive (--metrics-table names another)\n'
    with fresh() as server:
        made(server, f"id integer PRIMARY KEY, {corpus.METRICS}", "CREATE TABLE t_metrics_archive() INHERITS (t_metrics); "
             "INSERT INTO t_metrics_archive SELECT i, 0.5, 7, 7, 7, 9, 'epoch' FROM generate_series(1, 4) AS i")
        before = server.psql(heirs)

        def left(n: int, *words) -> None:
            done = ingest(vecmill, server.uri, *words)
            expect(done.stderr == note, done.stderr)
            expect(server.psql(heirs) == before, f"{words}: {server.psql(heirs)}")
            expect(server.psql("SELECT count(word_count), count(*) FILTER (WHERE word_count = 2 AND frequency = 1) FROM ONLY t_metrics") == [(str(n), str(n))], f"{words}: own rows")

        left(5)
        server.psql("DELETE FROM ONLY t_metrics WHERE id IN (1, 2)")
        left(5, "--metrics-only")
        server.psql("UPDATE t SET text = ' ' WHERE id = 2")
        left(4, "--changed")
        server.psql("ALTER TABLE t_metrics ADD note text; UPDATE t SET text = ' ' WHERE id = 3")
        before = server.psql(heirs)
        left(3, "--changed")
        made(server, f"id integer PRIMARY KEY, {corpus.METRICS}) PARTITION BY RANGE (id", "CREATE TABLE low PARTITION OF t_metrics FOR VALUES FROM (0) TO (3); "
             "CREATE TABLE high PARTITION OF t_metrics FOR VALUES FROM (3) TO (9)")
        fits(vecmill, server)
        server.psql("UPDATE t SET text = ' ' WHERE id IN (2, 4)")
        expect(ingest(vecmill, server.uri, "--changed").stderr == "", "a note")
        expect(server.psql("SELECT id, frequency FROM t_metrics ORDER BY 1; DROP TABLE t_metrics") == [("1", "1"), ("3", "1"), ("5", "1")], "metrics in partitions")


def test_names(vecmill, folder):
    """--metrics-table is read as the table's own name is; what is to be made is TABLE or SCHEMA.TABLE, in SQL's quotes or not."""
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'Isles') AND tablename ~* 'metrics' ORDER BY 1, 2"
    with fresh() as server:
        server.psql('DROP SCHEMA IF EXISTS "Isles" CASCADE; CREATE SCHEMA "Isles"; CREATE TABLE "Isles".t(id integer PRIMARY KEY, text text); ',
                    options="-c client_min_messages=error")
        try:
            for word, *made_there in (
                    ("Some_Metrics", "public", "some_metrics"), ('"some_metrics"', "public", "some_metrics"), ("Public.Some_metrics", "public", "some_metrics"),
                    ('"Isles"."Other metrics"', "Isles", "Other metrics"), ("isles.t_metrics", "Isles", "t_metrics"), ("ISLES.T_metrics", "Isles", "T_metrics")):
                made(server, f"id integer PRIMARY KEY, {corpus.METRICS}", "ALTER TABLE t_metrics RENAME TO some_metrics")
                server.psql('DROP TABLE "Isles".t; CREATE TABLE "Isles".t AS SELECT * FROM t; ALTER TABLE "Isles".t ADD PRIMARY KEY(id)')
                there = server.psql(tables)
                schema, name = made_there
                ingest(vecmill, server.uri, "--metrics-table", word, "--create-metrics", "--schema", schema.upper() if schema == "Isles" else schema)
                expect(server.psql(tables) == sorted({*there, (schema, name)}), f"{word}: {server.psql(tables)}")
                expect(server.psql(f'SELECT count(*) FROM "{schema}"."{name}"') == [("5",)], f"{word}: no metrics")
                server.psql(f'DROP TABLE some_metrics, "{schema}"."{name}"' if schema != "public" else "DROP TABLE some_metrics")
            for word in ("a.b.c", '"a', '"a"b', "a."):
                made(server, f"id integer PRIMARY KEY, {corpus.METRICS}")
                done = ingest(vecmill, server.uri, "--metrics-table", word, "--create-metrics", status=2)
                expect(f"--metrics-table {word}: no such table, and no name of one to make" in done.stderr, done.stderr)
            done = ingest(vecmill, server.uri, "--schema", "ISLES", "--metrics-table", "public.t_metrics", status=2)
            expect("means one in schema public, and metrics lie in the schema of their table, Isles (name one there)" in done.stderr, done.stderr)
        finally:
            server.psql('DROP SCHEMA "Isles" CASCADE', options="-c client_min_messages=error")


def test_tables_called_as_ours(vecmill, folder):
    """A table may be called what statements call something of their own."""
    for table in ("vecmill_m", "u", "v", "m", "excluded"):
        with fresh() as server:
            server.psql(f"CREATE TABLE {table}(id integer PRIMARY KEY, part integer, text text); INSERT INTO {table} SELECT i, i / 2, 'star ' || i FROM generate_series(1, 6) AS i; "
                        f"CREATE TABLE numbers(part integer PRIMARY KEY, {corpus.METRICS})")
            ingest(vecmill, server.uri, "--metrics-table", "numbers", table=table)
            server.psql("DELETE FROM numbers WHERE part = 1")
            ingest(vecmill, server.uri, "--metrics-table", "numbers", "--metrics-only", table=table)
            expect(server.psql("SELECT count(*), sum(frequency) FROM numbers") == [("4", "4")], f"{table}: metrics")
            server.psql(f"UPDATE {table} SET text = ' ' WHERE id IN (2, 3, 4)")
            ingest(vecmill, server.uri, "--metrics-table", "numbers", "--changed", table=table)
            expect(server.psql("SELECT part FROM numbers ORDER BY 1") == [("0",), ("2",), ("3",)], f"{table}: metrics of blank texts")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
