#!/usr/bin/python3
"""Metrics beside vectors in PostgreSQL: the corpus's own tables, real servers. docs/metrics.md has the rules.

  test_metrics.py --vecmill PATH [NAME..]
"""
import collections
import random
import signal
import sys
import time

sys.dont_write_bytecode = True
import corpus
from proxy import Fate, Gate
from runs import N_DIMENSIONS, begun, ended, fill, fresh, ingest, locked, model_of_384, narrow, quoted, start, until, waiting  # noqa: E402, first: it sets the path
from ingest_case import expect, run_tests  # noqa: E402
from metrics_case import COLUMNS, averages, golden_texts, left_out, list_files, ratio_of  # noqa: E402

MATCH = "SELECT count(*) FROM {t} AS t LEFT JOIN {m} AS m USING ({k}) WHERE ({v} IS NULL) <> (m.word_count IS NULL)"


def metrics(server, table: str, key: str) -> list:
    """All but when; the ratio as its bytes."""
    return server.psql(f"SELECT {key}, float4send(hawaiian_word_ratio), word_count, length, entity_count, frequency FROM {table} ORDER BY 1")


def twins_are_right(server, table: str, text: str, metrics_table: str, key: str) -> None:
    wrong = server.psql(f"SELECT m.{key}, frequency, n FROM {metrics_table} AS m JOIN {table} AS t USING ({key}) JOIN (SELECT {text} AS x, count(*) AS n "
                        f"FROM {table} GROUP BY 1) AS c ON c.x = t.{text} WHERE frequency IS DISTINCT FROM n")
    expect(not wrong, f"frequencies: {wrong[:5]}")


def state_of(server) -> list:
    """The catalog, and where each row of the user's tables lies."""
    rows = server.psql("SELECT oid, relname, relnatts, relnamespace FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname "
                       "IN ('pg_toast')) ORDER BY 1; SELECT oid, nspname FROM pg_namespace ORDER BY 1; SELECT xmin, ctid, sentenceid FROM sentences ORDER BY 3")
    return rows


def test_golden(vecmill, folder):
    """Each text's numbers are those that were worked out by hand, and a batch's line has their averages."""
    entries, words = golden_texts(nul=False), list_files(folder)
    with fresh() as server:
        corpus.create(server)
        with server.session() as session:
            for i, entry in enumerate(entries, 1):
                session.sql(f"INSERT INTO sentences(sentenceid, hawaiiantext) VALUES({i}, {quoted(entry['text'])})")
            session.sql("INSERT INTO sentences(sentenceid, hawaiiantext) VALUES(1001, ''), (1002, NULL), (1003, U&' \\3000')")
        done = ingest(vecmill, server.uri, 40, *words, "--workers", 1, "--connections", 1, table="sentences", model=model_of_384(vecmill.folder))
        n = collections.Counter(entry["text"] for entry in entries)
        got = server.psql(f"SELECT sentenceid, {COLUMNS}, frequency FROM sentence_metrics ORDER BY 1")
        expect(len(got) == len(entries), f"{len(got)} rows")
        for (key, ratio, *counts), (i, entry) in zip(got, enumerate(entries, 1)):
            expect([int(key), *map(int, counts)] == [i, entry["word_count"], entry["length"], entry["entity_count"], n[entry["text"]]], f"{entry}: {counts}")
            wanted = ratio_of(entry)
            expect((ratio is None) == (wanted is None) and (wanted is None or abs(float(ratio) - wanted) < 1e-6), f"{entry}: {ratio}")
        total = len(entries)
        lines = [line for line in done.stdout.splitlines() if line.startswith("Processed")]
        # committed as they become complete: a batch of short texts may overtake one of longer texts
        n_done, left = 0, [(len(batch), averages(batch)) for at in range(0, total, 40) for batch in [entries[at:at + 40]]]
        for line in lines:
            batch = next((batch for batch in left if line == f"Processed batch: {batch[0]} Progress: {n_done + batch[0]} / {total}{batch[1]}"), None)
            expect(batch is not None, f"{lines}\n{left}")
            left.remove(batch)
            n_done += batch[0]
        expect(not left, f"{lines}\n{left}")
        expect(f"Metrics in sentence_metrics:{averages(entries)[2:]}; {total} frequencies written" in done.stdout and done.stderr == left_out(words), done.stdout + done.stderr)
        expect(server.psql("SELECT count(*) FROM sentence_metrics WHERE updated_at > now() - interval '5 minutes'") == [(str(total),)], "updated_at")
        done = ingest(vecmill, server.uri, table="sentences", model=model_of_384(vecmill.folder))
        expect("Nothing to embed" in done.stdout and "Metrics" not in done.stdout, done.stdout)
        # no list: NULL, and what words show by themselves does not count
        server.psql("UPDATE sentences SET embedding = NULL")
        done = ingest(vecmill, server.uri, 1000, table="sentences", model=model_of_384(vecmill.folder))
        expect(averages(entries, has_list=False) in done.stdout, done.stdout)
        expect(server.psql("SELECT count(*), count(hawaiian_word_ratio) FROM sentence_metrics") == [(str(total), "0")], "a ratio without a list")


def test_corpus_tables(vecmill, folder):
    """Same metrics to the bit for any number of workers and processes; documents of one source have those of the first."""
    words, n_rows = list_files(folder), 1500
    for table, key, text, vector, where in (("sentences", "sentenceid", "hawaiiantext", "embedding", "sentence_metrics"),
                                            ("contents", "sourceid", "text", "embedding", "document_metrics"),
                                            ("documents", "sourceid", "text", "text_vector", "document_metrics")):
        kept = None
        for workers, batch, n_processes in ((1, 100, 1), (2, 33, 1), (4, 500, 1), (8, 64, 1), (1, 20, 2)):
            with fresh() as server:
                corpus.create(server, [table, where])
                rows = corpus.fill(server, table, n_rows, twins=0.2, n_sentences=1)
                server.psql(f"ALTER TABLE {table} DROP COLUMN {vector}; ALTER TABLE {table} ADD COLUMN {vector} vector({N_DIMENSIONS})")
                runs = [vecmill.start("ingest", table, batch, "--db", server.uri_of(), "--model", vecmill.model, "--workers", workers, *words)
                        for _ in range(n_processes)]
                told = [run.communicate(timeout=120) for run in runs]
                expect([run.returncode for run in runs] == [0] * n_processes and {errors for _, errors in told} == {left_out(words)}, str(told)[-1500:])
                got = metrics(server, where, key)
                expect(kept in (None, got), f"{table}: other metrics with {workers} workers, {n_processes} processes")
                kept = got
                if table == "documents":
                    first = {row.source: row.text for row in reversed(rows) if not row.blank}
                    n = collections.Counter(row.text for row in rows)
                    expect([(int(row[0]), int(row[2]), int(row[5])) for row in got] ==
                           [(source, len(first[source].split()), n[first[source]]) for source in sorted(first)], str(got[:5]))
                else:
                    expect(server.psql(MATCH.format(t=table, m=where, k=key, v=vector)) == [("0",)], "vectors without metrics")
                    twins_are_right(server, table, text, where, key)


def test_twins_of_new_rows(vecmill, folder):
    """The counts of earlier rows follow; rows whose count stays are not written."""
    with fresh() as server:
        corpus.create(server, ["contents", "document_metrics"])
        corpus.fill(server, "contents", 400, twins=0.2)
        narrow(server)
        ingest(vecmill, server.uri, table="contents")
        server.psql("UPDATE document_metrics SET updated_at = 'epoch'; INSERT INTO contents SELECT 10000, text FROM contents WHERE sourceid = "
                    "(SELECT min(sourceid) FROM document_metrics); INSERT INTO contents VALUES(10001, 'like no other')")
        ingest(vecmill, server.uri, "--where", "sourceid > 10000", table="contents")  # the twin itself is not embedded
        changed = server.psql("SELECT count(*) FILTER (WHERE updated_at <> 'epoch' AND sourceid < 10000), count(*) FILTER (WHERE updated_at <> 'epoch') "
                              "FROM document_metrics")
        same = int(server.psql("SELECT count(*) FROM contents WHERE sourceid < 10000 AND text = (SELECT text FROM contents WHERE sourceid = 10000)")[0][0])
        expect(changed == [(str(same), str(same + 1))], f"{changed}, {same} twins")
        twins_are_right(server, "contents", "text", "document_metrics", "sourceid")


def test_changed(vecmill, folder):
    """A text that was edited gets the metrics of the new one; a dry run tells how many there are."""
    with fresh() as server:
        corpus.create(server, ["contents", "document_metrics"])
        n = sum(not row.blank for row in corpus.fill(server, "contents", 200))
        narrow(server)
        told = ingest(vecmill, server.uri, "--changed", "--dry-run", table="contents").stdout
        expect(f"Remaining to embed in contents: {n}\n" in told, told)
        ingest(vecmill, server.uri, table="contents")
        server.psql("UPDATE contents SET text = 'A Kai Kai.' WHERE sourceid IN (SELECT sourceid FROM document_metrics ORDER BY 1 LIMIT 2)")
        told = ingest(vecmill, server.uri, "--changed", "--dry-run", table="contents").stdout
        expect("Remaining to embed in contents: 2\n" in told and "2 rows to embed, " in told, told)
        ingest(vecmill, server.uri, "--changed", table="contents")
        got = server.psql("SELECT word_count, entity_count, frequency FROM document_metrics JOIN contents USING (sourceid) WHERE text = 'A Kai Kai.'")
        expect(got == [("3", "1", "2")] * 2, str(got))
        twins_are_right(server, "contents", "text", "document_metrics", "sourceid")


def test_stopped_while_counting(vecmill, folder):
    """Ctrl-C ends the count of equal texts, though it waits for a lock; vectors and metrics are kept, and the next run counts."""
    with fresh() as server:
        corpus.create(server, ["contents", "document_metrics"])
        narrow(server)
        server.psql("INSERT INTO contents VALUES(1, 'one'), (2, 'one')")
        ingest(vecmill, server.uri, "--limit", 1, table="contents")
        other = server.session()
        other.sql("BEGIN; SELECT 1 FROM document_metrics FOR UPDATE")
        server.psql("INSERT INTO contents VALUES(3, 'one')")
        run = vecmill.start("ingest", "contents", "--db", server.uri_of(), "--model", vecmill.model)
        while server.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%frequency = %'") == [("0",)]:
            expect(run.poll() is None, "it did not wait")
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == 130 and errors == "vecmill: stopped (run again to go on): cannot count equal texts\n", f"{run.returncode} {errors}")
        expect("Embedded 2 rows" in output, output)
        expect(server.psql("SELECT frequency FROM document_metrics ORDER BY sourceid") == [("2",), (None,), (None,)], "counted all the same")
        other.sql("ROLLBACK")
        ingest(vecmill, server.uri, table="contents")
        expect(server.psql("SELECT frequency FROM document_metrics") == [("3",)] * 3, "not counted")


def test_blanked(vecmill, folder):
    """With the vector of a text that is blank now, whoever took it, go its metrics: a row that is shared stays while another text is behind it, columns of others stay."""
    with fresh() as server:
        corpus.create(server, ["documents", "document_metrics", "sentences", "sentence_metrics"])
        server.psql("""ALTER TABLE documents DROP COLUMN text_vector; ALTER TABLE sentences DROP COLUMN embedding; ALTER TABLE sentence_metrics ADD note text;
            INSERT INTO documents VALUES(1, 10, 'one'), (2, 10, 'two and more'), (3, 20, 'three'), (4, 20, 'four'), (5, NULL, 'five'), (6, 30, 'six'), (7, 40, 'last');
            INSERT INTO sentences(sentenceid, hawaiiantext) VALUES(1, 'a'), (2, 'b'), (3, 'c')""")
        ingest(vecmill, server.uri, table="documents")
        ingest(vecmill, server.uri, table="sentences")
        server.psql("UPDATE documents SET text = ' ' WHERE doc_id IN (1, 3, 5); UPDATE documents SET text = NULL WHERE doc_id = 4; UPDATE documents SET text = NULL, embedding = NULL WHERE doc_id = 6;"
                    "UPDATE sentence_metrics SET note = 'mine'; UPDATE sentences SET hawaiiantext = '' WHERE sentenceid = 2")
        before = server.psql("SELECT * FROM sentence_metrics WHERE sentenceid <> 2")
        ingest(vecmill, server.uri, table="documents")  # while they have their vectors, shared numbers are all of the first's text
        got = server.psql("SELECT sourceid, word_count, length, frequency FROM document_metrics WHERE sourceid < 30 ORDER BY 1")
        expect(got == [("10", "0", "1", "3"), ("20", "0", "1", "3")], f"of a text that is blank: {got}")
        done = ingest(vecmill, server.uri, "--changed", table="documents")
        expect("5 blank now, vector removed" in done.stdout, done.stdout)
        got = server.psql("SELECT sourceid, word_count, frequency FROM document_metrics ORDER BY 1")
        expect(got == [("10", "3", "1"), ("40", "1", "1")], str(got))
        ingest(vecmill, server.uri, "--changed", table="sentences")
        got = server.psql("SELECT hawaiian_word_ratio, word_count, length, entity_count, note FROM sentence_metrics WHERE sentenceid = 2")
        expect(got == [(None,) * 4 + ("mine",)], f"what is others' went: {got}")
        expect(server.psql("SELECT * FROM sentence_metrics WHERE sentenceid <> 2") == before, "other rows' metrics")
        server.psql("UPDATE sentences SET hawaiiantext = 'b again' WHERE sentenceid = 2")
        ingest(vecmill, server.uri, "--changed", table="sentences")
        got = server.psql("SELECT word_count, frequency, note FROM sentence_metrics WHERE sentenceid = 2")
        expect(got == [("2", "1", "mine")], f"the new text's metrics: {got}")
        # and where they take no NULL
        server.psql("CREATE DOMAIN n AS integer NOT NULL DEFAULT 1; ALTER TABLE sentence_metrics ALTER frequency TYPE n, ALTER word_count SET NOT NULL; "
                    "UPDATE sentences SET hawaiiantext = U&' \\3000' WHERE sentenceid = 3")
        ingest(vecmill, server.uri, "--changed", table="sentences")
        got = server.psql("SELECT word_count, length, frequency FROM sentence_metrics ORDER BY sentenceid")
        expect(got == [("1", "1", "1"), ("2", "7", "1"), ("0", None, "0")], f"metrics of a blank text: {got}")


def test_second_text(vecmill, folder):
    """The numbers are of the text that was first; another one of the same rows does without, and is told how to have its own."""
    with fresh() as server:
        corpus.create(server, ["sentences", "sentence_metrics"])
        server.psql("INSERT INTO sentences(sentenceid, hawaiiantext, englishtext) SELECT i, 'aloha ' || i, 'hello to star ' || i FROM generate_series(1, 12) AS i")
        model = model_of_384(vecmill.folder)
        ingest(vecmill, server.uri, table="sentences", model=model)
        before = server.psql("SELECT * FROM sentence_metrics ORDER BY 1")
        english = ("--text-column", "englishtext", "--vector-column", "embedding_en")
        why = "table sentence_metrics holds the numbers of column hawaiiantext, whose vectors are in embedding (name another for this text with --metrics-table)"
        done = ingest(vecmill, server.uri, *english, table="sentences", model=model)
        expect(done.stderr == f"vecmill: no metrics: {why}\n" and "Embedded 12 rows" in done.stdout and "avg_wc" not in done.stdout, done.stdout + done.stderr)
        done = ingest(vecmill, server.uri, *english, "--metrics-only", table="sentences", model=None, status=1)
        expect(done.stderr == f"vecmill: {why}\n", done.stderr)
        expect(server.psql("SELECT * FROM sentence_metrics ORDER BY 1") == before, "the other text's numbers")
        server.psql("UPDATE sentences SET embedding_en = NULL")
        ingest(vecmill, server.uri, *english, "--metrics-table", "english_metrics", "--create-metrics", table="sentences", model=model)
        done = ingest(vecmill, server.uri, table="sentences", model=model)
        expect(not done.stderr and server.psql("SELECT * FROM sentence_metrics ORDER BY 1") == before, "the first one's own")
        expect(server.psql("SELECT DISTINCT word_count FROM english_metrics") == [("4",)], "its own")
        server.psql("ALTER TABLE sentences DROP embedding; UPDATE sentences SET embedding_en = NULL")
        done = ingest(vecmill, server.uri, *english, table="sentences", model=model)
        expect(not done.stderr and server.psql("SELECT DISTINCT word_count FROM sentence_metrics") == [("4",)], "once the first has gone")


def test_blanked_in_one_table(vecmill, folder):
    """documents and contents share metrics: a row that is of the other one's text stays, whichever is blank; columns of others make no difference."""
    for extra in ("", "; ALTER TABLE document_metrics ADD note text DEFAULT 'mine'"):
        with fresh() as server:
            corpus.create(server, ["documents", "contents", "document_metrics"])
            server.psql("""ALTER TABLE documents DROP COLUMN text_vector; ALTER TABLE contents DROP COLUMN embedding;
                INSERT INTO documents VALUES(1, 1, 'one two three'), (2, 2, 'four five'), (3, 2, 'six'), (4, 3, 'seven'), (5, 4, 'eight'), (6, NULL, 'nine');
                INSERT INTO contents VALUES(1, 'x'), (2, 'y z'), (3, ' '), (4, 'of another length')""" + extra)
            numbers = "SELECT sourceid, word_count, length, frequency FROM document_metrics WHERE word_count IS NOT NULL ORDER BY 1"
            for table in ("contents", "documents"):  # the later run counts
                ingest(vecmill, server.uri, table=table)
            server.psql("UPDATE contents SET text = '' WHERE sourceid IN (1, 4)")
            before = server.psql(numbers)
            expect([row[:3] for row in before] == [("1", "3", "13"), ("2", "2", "9"), ("3", "1", "5"), ("4", "1", "5")], str(before))
            done = ingest(vecmill, server.uri, "--changed", table="contents")
            expect("2 blank now, vector removed" in done.stdout, done.stdout)
            got = server.psql(numbers)
            expect([row[:3] for row in got] == [("1", "3", "13"), ("2", "2", "3"), ("3", "1", "5"), ("4", "1", "5")], f"contents took the numbers of documents: {got}")
            server.psql("UPDATE contents SET text = 'a b c d' WHERE sourceid IN (1, 2)")
            ingest(vecmill, server.uri, "--changed", table="contents")
            expect(server.psql(numbers)[0] == ("1", "4", "7", "2"), str(server.psql(numbers)))
            server.psql("UPDATE documents SET text = NULL WHERE doc_id <> 5")
            ingest(vecmill, server.uri, "--changed", table="documents")
            got = server.psql(numbers)
            expect(got == [("1", "4", "7", "2"), ("2", "4", "7", "2"), ("4", "1", "5", "1")], f"documents took the numbers of contents: {got}")
            server.psql("UPDATE contents SET text = '' WHERE sourceid < 4; UPDATE documents SET text = 'e' WHERE doc_id = 1")
            ingest(vecmill, server.uri, "--changed", table="contents")
            expect(server.psql(numbers) == [("4", "1", "5", "1")], f"of a text that is gone: {server.psql(numbers)}")
            ingest(vecmill, server.uri, "--changed", table="documents")
            expect(server.psql(numbers) == [("1", "1", "1", "1"), ("4", "1", "5", "1")], str(server.psql(numbers)))


def test_blanked_beside_others(vecmill, folder):
    """A table that is called so and is of another shape, or not for this user to read, keeps nothing, and is no trouble."""
    shapes = ("CREATE TABLE documents(doc_id integer PRIMARY KEY, sourceid text, text text)", "CREATE TABLE documents(sourceid bigint, body text)",
              "CREATE VIEW documents AS SELECT sourceid, text FROM contents", "CREATE TABLE documents(sourceid bigint, text integer)",
              "CREATE TABLE documents(sourceid bigint, text text); INSERT INTO documents VALUES(1, 'one two'); REVOKE ALL ON documents FROM PUBLIC")
    for shape in shapes:
        with fresh() as server:
            corpus.create(server, ["contents", "document_metrics"])
            narrow(server)
            server.psql(f"INSERT INTO contents VALUES(1, 'one two'), (2, 'three'); {shape}; DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; ALTER TABLE contents OWNER TO guest; "
                        f"ALTER TABLE document_metrics OWNER TO guest; GRANT USAGE ON SCHEMA public TO guest; GRANT CREATE ON DATABASE {server.database} TO guest",
                        options="-c client_min_messages=error")
            try:
                guest = server.uri_of(user="guest")
                ingest(vecmill, guest, table="contents")
                server.psql("UPDATE contents SET text = '' WHERE sourceid = 1")
                ingest(vecmill, guest, "--changed", table="contents")
                expect(server.psql("SELECT sourceid FROM document_metrics") == [("2",)], f"kept by {shape}")
            finally:
                server.psql("DROP OWNED BY guest CASCADE; DROP ROLE guest", options="-c client_min_messages=error")


def test_texts_together(vecmill, folder):
    """Of two texts whose runs begin together one gets the table; who measured nothing has none; one that was emptied, or made by an earlier version, has the owner that it should."""
    with fresh() as server:
        server.psql(f"""CREATE TABLE t(id integer PRIMARY KEY, a text, b text, ea vector({N_DIMENSIONS}), eb vector({N_DIMENSIONS}));
            INSERT INTO t SELECT i, 'one two ' || i, 'one two three four ' || i FROM generate_series(1, 2000) AS i""")
        ways = [("--text-column", name, "--vector-column", f"e{name}") for name in "ab"]
        for _ in range(3):
            runs = [start(vecmill, server.uri, 50, *way, "--create-metrics") for way in ways]
            told = [run.communicate(timeout=60) for run in runs]
            lost = [i for i, run in enumerate(runs) if run.returncode]
            expect(len(lost) == 1 and "table t_metrics holds the numbers of column " + "ba"[lost[0]] in told[lost[0]][1], f"{told}")
            expect(server.psql("SELECT count(*), min(word_count), max(word_count) FROM t_metrics") == [("2000", *("53"[lost[0]],) * 2)], "numbers of both")
            server.psql("DROP TABLE t_metrics; UPDATE t SET ea = NULL, eb = NULL")
        ingest(vecmill, server.uri, *ways[0])
        ingest(vecmill, server.uri, *ways[1])
        server.psql("ALTER TABLE vecmill.columns DROP metrics_table; DELETE FROM vecmill.version; INSERT INTO vecmill.version VALUES(3)")
        ingest(vecmill, server.uri, *ways[0], "--create-metrics")  # nothing to embed: it measures none
        ingest(vecmill, server.uri, *ways[1], "--metrics-only")
        expect(server.psql("SELECT DISTINCT word_count FROM t_metrics") == [("5",)], "not the second's")
        server.psql("INSERT INTO t VALUES(2001, 'new', 'and new')")
        done = ingest(vecmill, server.uri, *ways[0])
        expect("no metrics: table t_metrics holds the numbers of column b" in done.stderr, done.stderr)
        server.psql("ALTER TABLE vecmill.columns DROP metrics_table; DELETE FROM vecmill.version; INSERT INTO vecmill.version VALUES(3); UPDATE vecmill.columns SET selection = 'id id (integer); text b; metrics in t_metrics' "
                    "WHERE vector_column = 'eb'; UPDATE vecmill.columns SET selection = 'id id (integer); text a' WHERE vector_column = 'ea'; INSERT INTO t VALUES(2002, 'new', 'and new')")
        done = ingest(vecmill, server.uri, *ways[0])
        expect("no metrics: table t_metrics holds the numbers of column b" in done.stderr, done.stderr)


def test_texts_claim_at_once(vecmill, folder):
    """One has seen that nobody has the table, and is about to note that it does: another one, which comes between, waits until it has."""
    def of(name: str) -> tuple:
        return "--text-column", name, "--vector-column", f"e{name}", "--create-metrics"

    with fresh() as server, Gate(server, b"SET metrics_table", Fate.PASS) as gate:
        server.psql(f"""CREATE TABLE t(id integer PRIMARY KEY, a text, b text, ea vector({N_DIMENSIONS}), eb vector({N_DIMENSIONS}));
            INSERT INTO t SELECT i, 'one two ' || i, 'one two three four ' || i FROM generate_series(1, 200) AS i""")
        first = start(vecmill, gate.uri, 50, *of("a"))
        gate.wait()
        second = start(vecmill, server.uri, 50, *of("b"))
        waiting(server)
        gate.open()
        ended(first, 0, 60)
        errors = ended(second, 1, 60)
        expect("table t_metrics holds the numbers of column a" in errors, errors)
        expect(server.psql("SELECT count(*), min(word_count), max(word_count) FROM t_metrics") == [("200", "3", "3")], "numbers of both")


def test_kills(vecmill, folder):
    """Two processes, killed anywhere: a row has its vector and its metrics or neither."""
    rng, words = random.Random(8), list_files(folder)
    with fresh() as server:
        corpus.create(server, ["contents", "document_metrics"])
        corpus.fill(server, "contents", 4000, n_sentences=1)
        narrow(server)
        for _ in range(6):
            runs = [vecmill.start("ingest", "contents", 20, "--db", server.uri_of(), "--model", vecmill.model, "--workers", 1, "--sleep", 0.02, *words) for _ in range(2)]
            begun(runs[0], 1)
            time.sleep(rng.uniform(0, 0.1))
            for run in runs:
                run.kill()
                run.communicate()
            # a commit that is under way when its client dies ends by itself
            apart = server.psql(MATCH.format(t="contents", m="document_metrics", k="sourceid", v="embedding"))
            expect(apart == [("0",)], f"{apart} rows with one and not the other")
        expect(int(server.psql("SELECT count(*) FROM contents WHERE embedding IS NULL")[0][0]) > 200, "killed too late")
        ingest(vecmill, server.uri, *words, table="contents")
        expect(server.psql(MATCH.format(t="contents", m="document_metrics", k="sourceid", v="embedding")) == [("0",)], "not all")
        twins_are_right(server, "contents", "text", "document_metrics", "sourceid")


def test_metrics_only(vecmill, folder):
    """Rows with a vector get what they lack; no model is opened, no state is made."""
    words = list_files(folder)
    with fresh() as server:
        corpus.create(server, ["sentences"])
        rows = corpus.fill(server, "sentences", 500)
        vector = "'[" + ",".join(["0"] * 384) + "]'"
        server.psql(f"UPDATE sentences SET embedding = {vector} WHERE sentenceid <= 300 AND hawaiiantext ~ '[^[:space:]]'")
        n = sum(not row.blank for row in rows[:300])
        done = vecmill.run("ingest", "sentences", 64, "--db", server.uri_of(), "--model", "/nowhere", "--metrics-only", "--create-metrics", *words)
        expect(f"Remaining to measure in sentences: {n}\n" in done.stdout and f"Progress: {n} / {n} | avg_ratio=0." in done.stdout, done.stdout)
        expect(f"Measured {n} rows of sentences into sentence_metrics: " in done.stdout and done.stderr == left_out(words), done.stdout + done.stderr)
        shape = server.psql("SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = 'sentence_metrics'::regclass "
                            "AND attnum > 0 ORDER BY attnum")
        expect(shape == [("sentenceid", "bigint", "t"), ("hawaiian_word_ratio", "real", "f"), ("word_count", "integer", "f"), ("length", "integer", "f"),
                         ("entity_count", "integer", "f"), ("frequency", "integer", "f"), ("updated_at", "timestamp with time zone", "f")], str(shape))
        whole = metrics(server, "sentence_metrics", "sentenceid")
        expect(len(whole) == n and all(row[5] for row in whole), "not all")
        expect(server.psql("SELECT to_regnamespace('vecmill')") == [(None,)], "a state schema")
        server.psql("DELETE FROM sentence_metrics WHERE sentenceid % 3 = 0; UPDATE sentence_metrics SET word_count = NULL WHERE sentenceid % 7 = 0")
        runs = [vecmill.start("ingest", "sentences", 5, "--db", server.uri_of(), "--metrics-only", *words) for _ in range(3)]
        told = [run.communicate(timeout=60) for run in runs]
        expect([run.returncode for run in runs] == [0] * 3, str(told))
        expect(metrics(server, "sentence_metrics", "sentenceid") == whole, "other metrics")
        done = vecmill.run("ingest", "sentences", "--db", server.uri_of(), "--metrics-only", "--where", "sentenceid < 9", "--limit", 3)
        expect("Remaining to measure in sentences: 0" in done.stdout, done.stdout)


def test_measured_by_another(vecmill, folder):
    """Of two that measure the same rows, the one that comes too late has measured none, and averages none."""
    with fresh() as server:
        fill(server, 3)
        ingest(vecmill, server.uri, "--create-metrics")
        server.psql("DELETE FROM t_metrics")
        with server.session() as other:
            other.sql("BEGIN")
            other.sql("INSERT INTO t_metrics(id) VALUES(1)")
            runs = [vecmill.start("ingest", "t", "--db", server.uri, "--metrics-only") for _ in range(2)]
            waiting(server, 2)
            other.sql("ROLLBACK")
        told = sorted(line for run in runs for line in run.communicate(timeout=60)[0].splitlines() if line.startswith(("Measured ", "Metrics in ")))
        expect([run.returncode for run in runs] == [0] * 2, str(told))
        expect([line.split()[1] for line in told[:2]] == ["0", "3"], str(told))
        expect(told[2].startswith("Metrics in t_metrics: avg_ratio=n/a avg_wc=2.0 ") and
               told[3].startswith("Metrics in t_metrics: avg_ratio=n/a avg_wc=n/a avg_len=n/a avg_ec=n/a; "), str(told))


def test_keys(vecmill, folder):
    """The metrics table has the key of its table: uuid, text, composite; in the table's schema, under any name."""
    with fresh() as server:
        server.psql("""CREATE SCHEMA "My"; CREATE TABLE "My"."T 1"("the Key" uuid PRIMARY KEY, text text); INSERT INTO "My"."T 1" SELECT md5(i::text)::uuid, 'star ' ||
            i % 3 FROM generate_series(1, 9) AS i; CREATE TABLE c(a integer, b varchar(9), text text, PRIMARY KEY(b, a)); INSERT INTO c SELECT i, 'b' || i % 2, 'star ' ||
            i % 3 FROM generate_series(1, 9) AS i""")
        ingest(vecmill, server.uri, 2, "--schema", "My", "--create-metrics", table="T 1")
        expect(server.psql('SELECT count(*), min(frequency), max(frequency), min(word_count) FROM "My"."T 1_metrics" JOIN "My"."T 1" USING ("the Key")')
               == [("9", "3", "3", "2")], "uuid")
        ingest(vecmill, server.uri, 2, "--create-metrics", "--metrics-table", 'm "of c', table="c")
        expect(server.psql('SELECT count(*), sum(frequency) FROM "m ""of c" JOIN c USING (a, b)') == [("9", "27")], "composite")
        ingest(vecmill, server.uri, "--metrics-table", 'public.m "of c', table="c")


def test_refusals(vecmill, folder):
    """What is missing or unfit is told before the first row, and nothing is written."""
    words = folder / "words.txt"
    words.write_text("aloha\n")
    with fresh() as server:
        corpus.create(server, ["sentences"])
        corpus.fill(server, "sentences", 50)
        server.psql("CREATE TABLE odd(id integer PRIMARY KEY, length integer); CREATE TABLE other(a integer PRIMARY KEY, hawaiian_word_ratio real, word_count integer, "
                    "length integer, entity_count integer, frequency integer, updated_at timestamptz); CREATE TABLE keyless AS SELECT * FROM other; "
                    "CREATE TABLE wants(LIKE other, sentenceid bigint PRIMARY KEY, extra text NOT NULL); ALTER TABLE wants DROP COLUMN a; "
                    "CREATE TABLE late(LIKE other, sentenceid bigint PRIMARY KEY DEFERRABLE); ALTER TABLE late DROP COLUMN a; CREATE VIEW seen AS SELECT * FROM late; "
                    "CREATE TABLE typed(LIKE other, sentenceid boolean PRIMARY KEY); ALTER TABLE typed DROP COLUMN a")
        before = state_of(server)
        for message, status, *options in (
                ("no table sentence_metrics for the metrics (--create-metrics makes it)", 1, "--wordlist", words),
                ("no table sentence_metrics for the metrics (--create-metrics makes it)", 1, "--metrics-only"),
                ("no table nope for the metrics (--create-metrics makes it)", 1, "--metrics-table", "nope"),
                ("table odd: no column hawaiian_word_ratio, so it cannot hold metrics (name another with --metrics-table)", 1, "--metrics-table", "odd"),
                ("table other: its key has a, which table sentences has not (name another with --metrics-table)", 1, "--metrics-table", "other"),
                ("table wants: column extra is NOT NULL without a default, and no metric (name another with --metrics-table)", 1, "--metrics-table", "wants"),
                ("table keyless: no primary key, so its rows cannot be found (add one)", 1, "--metrics-table", "keyless"),
                ("table late: its primary key is DEFERRABLE, and INSERT .. ON CONFLICT takes no such key (drop it and add it again without, or name another table "
                 "with --metrics-table)", 1, "--metrics-table", "late"),
                ('table typed: column "sentenceid" is of type boolean but expression is of type bigint (its key must be of the types of table sentences, its '
                 "numbers numbers; or name another table with --metrics-table)", 1, "--metrics-table", "typed"),
                ("seen: no table, so it cannot hold metrics (name another with --metrics-table)", 1, "--metrics-table", "seen", "--create-metrics"),
                (f"cannot open {folder}/none: No such file or directory", 1, "--wordlist", folder / "none", "--create-metrics"),
                ("--wordlist-overrides x: without a word list (give --wordlist FILE too)", 2, "--wordlist-overrides", "x")):
            done = ingest(vecmill, server.uri, *options, table="sentences", status=status, model=model_of_384(vecmill.folder))
            expect(done.stderr.endswith(f"{message}\n") and done.stderr.startswith("vecmill: ") and done.stderr.count("\n") == 1, done.stderr)
            expect(state_of(server) == before, f"{options}: something was written")
        server.psql("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; GRANT SELECT, UPDATE ON sentences TO guest; GRANT USAGE ON SCHEMA public TO guest;"
                    f"GRANT CREATE ON DATABASE {server.database} TO guest", options="-c client_min_messages=error")
        try:
            done = vecmill.run("ingest", "sentences", "--db", server.uri_of(user="guest"), "--model", model_of_384(vecmill.folder), "--create-metrics", status=1)
            expect("this user lacks rights that the run needs (have the owners of what it names run this): CREATE TABLE IF NOT EXISTS "
                   '"public"."sentence_metrics"("sentenceid" ' in done.stderr, done.stderr)
            server.psql("ALTER TABLE wants ALTER extra DROP NOT NULL; ALTER TABLE wants RENAME TO sentence_metrics")
            done = vecmill.run("ingest", "sentences", "--db", server.uri_of(user="guest"), "--model", model_of_384(vecmill.folder), status=1)
            expect(done.stderr.endswith('GRANT SELECT, INSERT, UPDATE ON "public"."sentence_metrics" TO "guest"; \n'), done.stderr)
            expect(server.psql("SELECT count(embedding) FROM sentences") == [("0",)], "rows were embedded")
        finally:
            server.psql("DROP OWNED BY guest CASCADE; DROP ROLE guest", options="-c client_min_messages=error")


def test_refused_by_the_database(vecmill, folder):
    """A row whose metrics are refused has failed: its vector is not there either."""
    with fresh() as server:
        corpus.create(server, ["contents", "document_metrics"])
        corpus.fill(server, "contents", 30, blanks=0)
        narrow(server)
        server.psql("ALTER TABLE document_metrics ADD CHECK (sourceid NOT IN (3, 17))")
        done = ingest(vecmill, server.uri, 10, table="contents", status=3)
        expect("2 rows could not be embedded" in done.stderr and 'the database refused the metrics: new row for relation "document_metrics" violates check constraint' in done.stderr, done.stderr)
        expect(server.psql("SELECT sourceid FROM contents WHERE embedding IS NULL ORDER BY 1") == [("3",), ("17",)], "other rows")
        expect(server.psql("SELECT count(*) FROM document_metrics") == [("28",)], "other metrics")
        for table, what in ("document_metrics", "vector or its metrics"), ("contents", "vector or its metrics"):
            server.psql(f"""CREATE OR REPLACE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'no %', TG_RELNAME; END$$;
                UPDATE contents SET embedding = NULL WHERE sourceid = 4; CREATE TRIGGER no BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION no()""")
            done = ingest(vecmill, server.uri, 10, "--where", "sourceid = 4", "--retry-failed", table="contents", status=3)
            expect(f"the database refused the {what}: no {table} " in done.stderr, done.stderr)
            server.psql(f"DROP TRIGGER no ON {table}")


def test_dry_run(vecmill, folder):
    """Nothing is written, as a session that may not write can do it: no schema, no column, no table."""
    model = model_of_384(vecmill.folder)
    with fresh() as server:
        corpus.create(server, ["sentences"])
        rows = corpus.fill(server, "sentences", 600)
        n = sum(not row.blank for row in rows)
        server.psql("ALTER TABLE sentences DROP COLUMN embedding")
        before = state_of(server)
        read_only = server.uri_of(options="-c default_transaction_read_only=on")
        done = vecmill.run("ingest", "sentences", "--db", read_only, "--model", model, "--dry-run", "--create-metrics")
        expect(f"Remaining to embed in sentences: {n}\nDry run: nothing was written. {n} rows to embed, " in done.stdout and done.stderr == "", done.stdout)
        n_tokens = int(done.stdout.partition("rows to embed, ")[2].split()[0])
        expect(" tokens, about " in done.stdout and f", by {n} rows embedded on trial\n" in done.stdout, done.stdout)
        done = vecmill.run("ingest", "sentences", "--db", server.uri_of(), "--model", model, "--dry-run", "--retry-failed", "--limit", 7)
        expect(state_of(server) == before, "written")
        real = ingest(vecmill, server.uri, "--create-metrics", table="sentences", model=model)
        expect(f": {n_tokens} tokens in" in real.stdout, f"{real.stdout}, told {n_tokens}")
        server.psql("DELETE FROM sentence_metrics WHERE sentenceid > 500")
        n = sum(not row.blank for row in rows[500:])
        done = vecmill.run("ingest", "sentences", "--db", read_only, "--dry-run", "--metrics-only")
        expect(done.stdout.endswith(f"Dry run: nothing was written. {n} rows to measure\n"), done.stdout)
        done = vecmill.run("ingest", "sentences", "--db", read_only, "--dry-run")
        expect(done.stdout.endswith("Dry run: nothing was written. 0 rows to embed\n"), done.stdout)


def test_shared_with_others(vecmill, folder):
    """Processes share a run only if they write the same metrics: neither rows without ratios nor rows without metrics come of it."""
    for i, text in enumerate(("star\n", "star\nmoon\n", "moon\nstar\n")):
        (folder / f"{i}.txt").write_text(text)
    lists = [("--wordlist", folder / f"{i}.txt") for i in range(3)]
    cases = (((), ("--create-metrics",), False), (("--create-metrics", *lists[0]), (), False), (lists[0], lists[1], False), (lists[1], lists[2], True))
    with fresh() as server:
        fill(server, 300)
        for first, second, fits in cases:
            with locked(server, "id = 150"):
                run = start(vecmill, server.uri, 20, "--workers", 1, *first)
                waiting(server)
                if fits:
                    other = start(vecmill, server.uri, 20, "--workers", 1, *second)
                    until(server, "SELECT count(*) FROM vecmill.workers", "2")
                else:
                    done = ingest(vecmill, server.uri, *second, status=1)
                    expect("another vecmill is working on its column embedding with other rows in view, or other metrics: id id (integer); text text" in done.stderr,
                           done.stderr)
                    expect(("; metrics in t_metrics by word list " in done.stderr) == (len(first) > 1), done.stderr)
            expect(run.communicate(timeout=60)[0].count("Embedded") == 1 and run.returncode == 0, f"exit {run.returncode}")
            if fits:
                expect(other.wait(60) == 0, f"exit {other.returncode}")
            server.psql("UPDATE t SET embedding = NULL")
        expect(server.psql("SELECT count(*), count(hawaiian_word_ratio) FROM t_metrics") == [("300", "300")], "rows without metrics")


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
