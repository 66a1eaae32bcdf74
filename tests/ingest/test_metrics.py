#!/usr/bin/python3
"""Metrics beside vectors in SQLite, through the real command. docs/metrics.md has the rules.

  test_metrics.py --vecmill PATH [NAME..]
"""
import collections
import random
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

sys.dont_write_bytecode = True
from ingest_case import execute, expect, make_table, query, refused, run_tests  # noqa: E402
from metrics_case import COLUMNS, averages, golden_texts, list_files, make_sentences, ratio_of  # noqa: E402


def metrics(path: Path, table: str = "sentence_metrics", key: str = "sentenceid") -> list:
    return query(path, f"SELECT {key}, {COLUMNS}, frequency FROM {table} ORDER BY {key}")


def test_golden(vecmill, folder):
    """Each text's numbers are those that were worked out by hand, and a batch's line has their averages."""
    path, entries, words = folder / "t.db", golden_texts(nul=True), list_files(folder)
    make_sentences(path, [entry["text"] for entry in entries] + ["", None, " \u3000"])
    done = vecmill.ingest(path, 40, *words, "--create-metrics", "--workers", 1, table="sentences")
    n = collections.Counter(entry["text"] for entry in entries)
    expected = [(i, ratio_of(e), e["word_count"], e["length"], e["entity_count"], n[e["text"]]) for i, e in enumerate(entries, 1)]
    for got, wanted in zip(metrics(path), expected, strict=True):
        expect(got == wanted, f"{got}, not {wanted}")
    lines = [line for line in done.stdout.splitlines() if line.startswith("Processed")]
    total = len(entries)
    wanted = [f"Processed batch: {len(batch)} Progress: {min(at + 40, total)} / {total}{averages(batch)}"
              for at in range(0, total, 40) for batch in [entries[at:at + 40]]]
    expect(lines == wanted, f"{lines}\n{wanted}")
    expect(f"Metrics in sentence_metrics:{averages(entries)[2:]}; {total} frequencies written" in done.stdout, done.stdout)
    ages = query(path, "SELECT count(*) FROM sentence_metrics WHERE abs(julianday('now') - julianday(updated_at)) < 0.01")
    expect(ages == [(total,)], "updated_at is not now")
    shape = query(path, "SELECT name, type, pk FROM pragma_table_info('sentence_metrics')")
    expect(shape == [("sentenceid", "INTEGER", 1), ("hawaiian_word_ratio", "REAL", 0), ("word_count", "INTEGER", 0), ("length", "INTEGER", 0),
                     ("entity_count", "INTEGER", 0), ("frequency", "INTEGER", 0), ("updated_at", "TEXT", 0)], str(shape))


def test_without_list(vecmill, folder):
    """The ratio is NULL, though words show by themselves that they are Hawaiian; JSON says null."""
    path, entries = folder / "t.db", golden_texts(nul=True)
    make_sentences(path, [entry["text"] for entry in entries])
    events = vecmill.ingest_json(path, 1000, "--create-metrics", table="sentences")
    expect(query(path, "SELECT count(*), count(hawaiian_word_ratio) FROM sentence_metrics") == [(len(entries), 0)], "a ratio without a list")
    batch, summary = [event for event in events if event["event"] == "batch"][0], events[-1]
    told = f" | avg_ratio=n/a avg_wc={batch['avg_wc']:.1f} avg_len={batch['avg_len']:.1f} avg_ec={batch['avg_ec']:.2f}"
    expect(batch["avg_ratio"] is None and told == averages(entries, has_list=False), str(batch))
    expect(summary["metrics_table"] == "sentence_metrics" and summary["avg_ratio"] is None and summary["frequencies"] == len(entries), str(summary))
    expect([event for event in events if event["event"] == "table"][0]["metrics_table"] == "sentence_metrics", str(events))


def test_unusable_words(vecmill, folder):
    """What no word of a text can be is told, of the list and of what stands beside it, which may begin with a byte order mark."""
    path, words, over = folder / "t.db", folder / "words.txt", folder / "over.json"
    make_table(path, 30, seed=1)
    words.write_text("aloha\ne komo mai\npua-nani\n")
    over.write_text('[{"word": "poi", "action": "add"}, "a hui hou"]', encoding="utf-8-sig")
    done = vecmill.ingest(path, "--create-metrics", "--wordlist", words, "--wordlist-overrides", over)
    expect(done.stderr == f"vecmill: {words}: 2 lines are no single word and were left out (the first: {words}:2)\n"
           f"vecmill: {over}: 1 entry is no single word and was left out (the first: {over}: entry 2)\n", done.stderr)


def test_off(vecmill, folder):
    """Without a table nothing is measured; a table of that name that holds other things is left alone, and said to be."""
    path = folder / "t.db"
    make_table(path, 30, seed=1, blank_every=0)
    done = vecmill.ingest(path, "--limit", 10)
    expect("avg_" not in done.stdout and "Metrics" not in done.stdout and not done.stderr, done.stdout)
    execute(path, "CREATE TABLE t_metrics(id INTEGER PRIMARY KEY, clicks INTEGER)")
    done = vecmill.ingest(path, "--limit", 20)
    expect("avg_" not in done.stdout and done.stderr == "vecmill: no metrics: table t_metrics: no column hawaiian_word_ratio, so it cannot hold "
           "metrics (name another with --metrics-table)\n", done.stderr)
    done = vecmill.ingest(path, "--metrics-table", "m", "--create-metrics")
    expect(query(path, "SELECT count(*) FROM m") == [(10,)] and "avg_wc" in done.stdout, "not the table that was named")


def test_refusals(vecmill, folder):
    """What is missing or unfit is told before the first row, and nothing is written."""
    path = folder / "t.db"
    make_table(path, 30, seed=1)
    words, bad = folder / "words.txt", folder / "bad.txt"
    words.write_text("aloha\n")
    bad.write_bytes(b"aloha\n\xff\n")
    none = f"{path}: no table t_metrics for the metrics (--create-metrics makes it)"
    refused(vecmill, path, none, "--wordlist", words, status=1)
    refused(vecmill, path, none, "--metrics-only", status=1)
    refused(vecmill, path, none.replace("t_metrics", "nope"), "--metrics-table", "nope", status=1)
    refused(vecmill, path, f"cannot open {folder}/none.txt: No such file or directory", "--wordlist", folder / "none.txt", "--create-metrics", status=1)
    refused(vecmill, path, f"cannot open {folder}/none.json: No such file or directory", "--wordlist", words, "--wordlist-overrides",
            folder / "none.json", "--create-metrics", status=1)
    refused(vecmill, path, "--wordlist-overrides x: without a word list (give --wordlist FILE too)", "--wordlist-overrides", "x", status=2)
    over = folder / "over.json"
    over.write_text('["aloha"]')
    refused(vecmill, path, f"{over}: takes every word off the list {words} (leave one there)", "--wordlist", words, "--wordlist-overrides", over,
            "--create-metrics", status=1)
    for option in (("--changed",), ("--retry-failed",), ("--prefix", ""), ("--prefix", "x: ")):
        refused(vecmill, path, f"{option[0]}: not with --metrics-only, which embeds nothing (leave one of them out)", "--metrics-only", *option, status=2)
    refused(vecmill, path, "--metrics-table is empty (give a name, or leave it out)", "--metrics-table", "", status=2)
    done = vecmill.ingest(path, "--wordlist", bad, "--create-metrics", status=1)
    expect(str(bad) in done.stderr and query(path, "SELECT count(*) FROM sqlite_schema") == [(3,)], done.stderr)
    execute(path, "CREATE TABLE other(a INTEGER PRIMARY KEY, hawaiian_word_ratio, word_count, length, entity_count, frequency, updated_at);"
            "CREATE TABLE keyless(id INTEGER, hawaiian_word_ratio, word_count, length, entity_count, frequency, updated_at)")
    refused(vecmill, path, "table other: its key has a, which table t has not (name another with --metrics-table)", "--metrics-table", "other", status=1)
    refused(vecmill, path, "table keyless: no primary key, so its rows cannot be found (add one)", "--metrics-table", "keyless", status=1)
    refused(vecmill, path, "table log: no column hawaiian_word_ratio, so it cannot hold metrics (name another with --metrics-table)",
            "--metrics-table", "log", status=1)


def test_twins(vecmill, folder):
    """Rows with the very same text are counted, those of earlier runs and those without a vector too; a number is its digits."""
    path = folder / "t.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, text COLLATE NOCASE)")
        db.executemany("INSERT INTO t VALUES(?, ?)", enumerate(["Kai", "kai", "Kai ", "Kai", 7, "7", None, "", "a\0b", "a\0c", "a\0b"]))
        db.commit()
    vecmill.ingest(path, 2, "--create-metrics")
    twins = query(path, "SELECT id, frequency FROM t_metrics ORDER BY id")
    expect(twins == [(0, 2), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (8, 2), (9, 1), (10, 2)], str(twins))
    execute(path, "UPDATE t_metrics SET updated_at = 'before'; INSERT INTO t(text) VALUES('kai'), ('new')")
    done = vecmill.ingest(path, 2, "--where", "text <> 'kai'")
    changed = query(path, "SELECT id, frequency FROM t_metrics WHERE updated_at <> 'before' ORDER BY id")
    expect(changed == [(1, 2), (12, 1)] and "2 frequencies written" in done.stdout, f"{changed} {done.stdout}")
    execute(path, "DELETE FROM t WHERE id = 3")
    before = path.read_bytes()
    vecmill.ingest(path, "--limit", 3)
    expect(query(path, "SELECT frequency FROM t_metrics WHERE id = 0") == [(1,)], "a twin that is gone still counts")
    before = path.read_bytes()
    done = vecmill.ingest(path)
    done = vecmill.ingest(path)
    expect("Nothing to embed" in done.stdout and "frequencies" not in done.stdout, done.stdout)
    before = path.read_bytes()
    vecmill.ingest(path)
    expect(path.read_bytes() == before, "a run with nothing to do wrote")


def test_twins_without_text_type(vecmill, folder):
    """A text's bytes tell it from others: in a database of UTF-16 a BLOB of UTF-8 is the same text, and a row without a key counts."""
    path = folder / "t.db"
    execute(path, """PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(id TEXT PRIMARY KEY, text);
        INSERT INTO t VALUES('a', 'kai'), ('b', x'6b6169'), ('c', 'kai '), (NULL, 'kai'), (NULL, NULL)""")
    vecmill.ingest(path, "--create-metrics")
    twins = query(path, "SELECT id, frequency FROM t_metrics ORDER BY id")
    expect(twins == [("a", 3), ("b", 3), ("c", 1)], str(twins))


def test_same_at_any_number_of_workers(vecmill, folder):
    base, words, kept = folder / "t.db", list_files(folder), None
    make_table(base, 3000, seed=4)
    for workers, batch in ((1, 100), (2, 7), (4, 1000), (8, 64)):
        path = folder / f"{workers}.db"
        shutil.copy(base, path)
        vecmill.ingest(path, batch, "--workers", workers, "--create-metrics", *words)
        got = metrics(path, "t_metrics", "id")
        expect(len(got) == 2940 and kept in (None, got), f"{workers} workers: other metrics")
        kept = got


def test_kills(vecmill, folder):
    """Killed anywhere, a row has its vector and its metrics or neither; the end is that of a run left alone."""
    rng, path, whole, words = random.Random(3), folder / "t.db", folder / "whole.db", list_files(folder)
    make_table(path, 6000, seed=2)
    shutil.copy(path, whole)
    n_early = 0
    for _ in range(12):
        process = vecmill.start("ingest", "t", 10, "--db", path, "--model", vecmill.model, "--sleep", 0.005, "--create-metrics", *words)
        while "Processed batch" not in (line := process.stdout.readline()) and line:
            pass
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        n_early += process.returncode != 0
        apart = query(path, "SELECT count(*) FROM t LEFT JOIN t_metrics AS m ON m.id = t.id WHERE (embedding IS NULL) <> (word_count IS NULL)")
        expect(apart == [(0,)], f"{apart} rows with one and not the other")
    expect(n_early >= 9, f"only {n_early} runs were killed")
    vecmill.ingest(path, "--create-metrics", *words)
    vecmill.ingest(whole, "--create-metrics", *words)
    expect(metrics(path, "t_metrics", "id") == metrics(whole, "t_metrics", "id"), "other metrics than those of a run left alone")


def test_metrics_only(vecmill, folder):
    """Rows with a vector get what they lack, no model is opened, vectors stay; the rest waits."""
    path, entries, words = folder / "t.db", golden_texts(nul=True), list_files(folder)
    make_sentences(path, [entry["text"] for entry in entries])
    refused(vecmill, path, "table sentences: no column embedding, so no row has a vector (run without --metrics-only)", "--metrics-only",
            "--create-metrics", "--dry-run", table="sentences", status=1)
    vecmill.ingest(path, "--limit", 60, table="sentences")
    before = query(path, "SELECT * FROM sentences")
    done = vecmill.run("ingest", "sentences", 25, "--db", path, "--model", "/nowhere", "--metrics-only", "--create-metrics", *words)
    lines = done.stdout.splitlines()
    expect(lines[1:6] == ["Using table=sentences, id_col=sentenceid, text_col=hawaiiantext, batch_size=25", "Remaining to measure in sentences: 60",
                          *(f"Processed batch: {n} Progress: {at + n} / 60{averages(entries[at:at + n])}" for at, n in ((0, 25), (25, 25), (50, 10)))],
           done.stdout)
    expect(lines[6].startswith("Measured 60 rows of sentences into sentence_metrics: "), done.stdout)
    expect(query(path, "SELECT * FROM sentences") == before, "the table was touched")
    expect(query(path, "SELECT count(*), count(frequency) FROM sentence_metrics") == [(60, 60)], "not sixty")
    execute(path, "DELETE FROM sentence_metrics WHERE sentenceid % 3 = 0; UPDATE sentence_metrics SET word_count = NULL WHERE sentenceid = 1;"
            "UPDATE sentence_metrics SET updated_at = 'before'")
    done = vecmill.run("ingest", "sentences", "--db", path, "--metrics-only", "--where", "sentenceid <= 30", *words)
    expect("Remaining to measure in sentences: 11" in done.stdout and "Measured 11 rows" in done.stdout, done.stdout)
    expect(query(path, "SELECT count(*) FROM sentence_metrics WHERE updated_at = 'before'") == [(39,)], "others were written too")
    vecmill.ingest(path, *words, table="sentences")
    vecmill.run("ingest", "sentences", "--db", path, "--metrics-only", *words)
    got = [row[:5] for row in metrics(path)]
    expect(got == [(i, ratio_of(e), e["word_count"], e["length"], e["entity_count"]) for i, e in enumerate(entries, 1)], "other metrics")
    done = vecmill.run("ingest", "sentences", "--db", path, "--metrics-only")
    expect("Remaining to measure in sentences: 0" in done.stdout and "Measured 0 rows" in done.stdout, done.stdout)


def test_changed(vecmill, folder):
    """A text that was edited gets the metrics of the new one; a dry run tells how many there are."""
    path = folder / "t.db"
    make_table(path, 50, seed=1, blank_every=0)
    told = vecmill.ingest(path, "--changed", "--dry-run").stdout
    expect("Remaining to embed in t: 50\n" in told, told)
    vecmill.ingest(path, "--create-metrics")
    execute(path, "UPDATE t SET text = 'A Kai Kai.' WHERE id IN (3, 5)")
    before = path.read_bytes()
    told = vecmill.ingest(path, "--changed", "--dry-run").stdout
    expect("Remaining to embed in t: 2\n" in told and "2 rows to embed, " in told and path.read_bytes() == before, told)
    vecmill.ingest(path, "--changed")
    got = query(path, "SELECT id, word_count, entity_count, frequency FROM t_metrics WHERE id IN (3, 5)")
    expect(got == [(3, 3, 1, 2), (5, 3, 1, 2)], str(got))


def test_stopped_while_counting(vecmill, folder):
    """Ctrl-C ends the count of equal texts, however long it takes; vectors and metrics are kept, and the next run counts."""
    path = folder / "t.db"
    execute(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500000)"
                  "INSERT INTO t SELECT i, 'ka nani ' || (i / 2) FROM n")
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        run = vecmill.start("ingest", "t", "--db", path, "--model", vecmill.model, "--limit", 3, "--create-metrics", "--progress", "lines")
        for line in run.stdout:
            if line.startswith(("Processed batch", "Remaining to embed in t: 0")):
                break
        time.sleep(0.1)
        run.send_signal(number)
        output, errors = run.communicate(timeout=60)
        expect(run.returncode == status and errors.startswith("vecmill: stopped"), f"{run.returncode} {errors}")
        expect(query(path, "SELECT count(*), count(word_count), count(frequency) FROM t_metrics") == [(3, 3, 0)], "counted all the same, or more undone")
    done = vecmill.ingest(path, "--limit", 3)
    expect("; 3 frequencies written" in done.stdout and query(path, "SELECT frequency FROM t_metrics") == [(1,), (2,), (2,)], done.stdout)


def test_blanked(vecmill, folder):
    """With the vector of a text that is blank now, whoever took it, go its metrics: a row that is shared stays while another text is behind it, columns of others stay."""
    path = folder / "t.db"
    execute(path, """CREATE TABLE documents(doc INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT);
        INSERT INTO documents VALUES(1, 10, 'one'), (2, 10, 'two and more'), (3, 20, 'three'), (4, 20, 'four'), (5, NULL, 'five'), (6, 30, 'six'), (7, 40, 'last');
        CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT); INSERT INTO t VALUES(1, 'a'), (2, 'b'), (3, 'c');
        CREATE TABLE t_metrics(id INTEGER PRIMARY KEY, hawaiian_word_ratio REAL, word_count INTEGER, length INTEGER, entity_count INTEGER, frequency INTEGER,
                               updated_at TEXT, note TEXT)""")
    vecmill.ingest(path, "--create-metrics", table="documents")
    vecmill.ingest(path)
    execute(path, "UPDATE documents SET text = ' ' WHERE doc IN (1, 3, 5); UPDATE documents SET text = NULL WHERE doc = 4; UPDATE documents SET text = NULL, embedding = NULL WHERE doc = 6; UPDATE t_metrics SET note = 'mine';"
                  "UPDATE t SET text = '' WHERE id = 2")
    before = query(path, "SELECT * FROM t_metrics WHERE id <> 2")
    vecmill.ingest(path, table="documents")  # while they have their vectors, shared numbers are all of the first's text
    got = query(path, "SELECT sourceid, word_count, length, frequency FROM document_metrics WHERE sourceid < 30 ORDER BY 1")
    expect(got == [(10, 0, 1, 3), (20, 0, 1, 3)], f"of a text that is blank: {got}")
    done = vecmill.ingest(path, "--changed", table="documents")
    expect("5 blank now, vector removed" in done.stdout, done.stdout)
    got = query(path, "SELECT sourceid, word_count, frequency FROM document_metrics ORDER BY 1")
    expect(got == [(10, 3, 1), (40, 1, 1)], str(got))
    vecmill.ingest(path, "--changed")
    expect(query(path, "SELECT hawaiian_word_ratio, word_count, length, entity_count, note FROM t_metrics WHERE id = 2") == [(None,) * 4 + ("mine",)], "what is others' went")
    expect(query(path, "SELECT * FROM t_metrics WHERE id <> 2") == before, "other rows' metrics")
    execute(path, "UPDATE t SET text = 'b again' WHERE id = 2")
    vecmill.ingest(path, "--changed")
    expect(query(path, "SELECT word_count, frequency, note FROM t_metrics WHERE id = 2") == [(2, 1, "mine")], "no metrics of the new text")
    # and where they take no NULL
    execute(path, """DROP TABLE t_metrics; CREATE TABLE t_metrics(id INTEGER PRIMARY KEY, hawaiian_word_ratio REAL, Word_Count INTEGER NOT NULL, length INTEGER, entity_count INTEGER,
                                                                  frequency INTEGER NOT NULL DEFAULT 1, updated_at TEXT, note TEXT)""")
    vecmill.ingest(path, "--metrics-only")
    execute(path, "UPDATE t SET text = ' ' || char(0x3000) WHERE id = 3")
    vecmill.ingest(path, "--changed")
    expect(query(path, "SELECT word_count, length, frequency FROM t_metrics ORDER BY id") == [(1, 1, 1), (2, 7, 1), (0, None, 0)], "metrics of a blank text")


def test_second_text_meanwhile(vecmill, folder):
    """The table was emptied while the first text's run is at work: it is that run's all the same."""
    path = folder / "t.db"
    # in that mode who reads, even if he is stopped in it, keeps no writer out
    execute(path, """PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, english TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) INSERT INTO t SELECT i, 'aloha ' || i, 'hello to you ' || i FROM n""")
    first = vecmill.start("ingest", "t", 5, "--db", path, "--model", vecmill.model, "--create-metrics", "--sleep", 0.02)
    while not first.stdout.readline().startswith("Processed batch"):
        expect(first.poll() is None, "it ended before its time")
    with closing(sqlite3.connect(path, timeout=60)) as db:
        db.execute("BEGIN IMMEDIATE")  # no commit is under way
        first.send_signal(signal.SIGSTOP)
        while any(task.read_text().rsplit(") ", 1)[1][0] != "T" for task in Path(f"/proc/{first.pid}/task").glob("*/stat")):
            time.sleep(0.01)
        db.execute("DELETE FROM t_metrics")
        db.commit()
    done = vecmill.ingest(path, "--text-column", "english", "--vector-column", "v2")
    expect("no metrics: table t_metrics holds the numbers of column text, whose vectors are in embedding" in done.stderr, done.stderr)
    expect(query(path, "SELECT count(*) FROM t_metrics") == [(0,)] and query(path, "SELECT count(v2) FROM t") == [(400,)], "somebody measured")
    first.send_signal(signal.SIGCONT)
    output, errors = first.communicate(timeout=60)
    expect(first.returncode == 0, f"exit {first.returncode}: {output[-400:]} {errors}")
    expect(query(path, "SELECT DISTINCT word_count FROM t_metrics") == [(2,)], "numbers of both")


def test_second_text(vecmill, folder):
    """The numbers are of the text that was first; another one of the same rows does without, and is told how to have its own."""
    path = folder / "t.db"
    execute(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, english TEXT); INSERT INTO t VALUES(1, 'Aloha', 'hello to you'), (2, 'star', 'a star')")
    vecmill.ingest(path, "--create-metrics")
    execute(path, "ALTER TABLE vecmill_columns DROP COLUMN metrics_table")  # as it was before
    execute(path, "DELETE FROM t_metrics WHERE id = 2")
    vecmill.ingest(path, "--metrics-only")
    vecmill.ingest(path, "--metrics-table", "more", "--create-metrics")
    before = query(path, "SELECT * FROM t_metrics")
    english = ("--text-column", "english", "--vector-column", "v2")
    why = "table t_metrics holds the numbers of column text, whose vectors are in embedding (name another for this text with --metrics-table)"
    done = vecmill.ingest(path, *english)
    expect(done.stderr == f"vecmill: no metrics: {why}\n" and "Embedded 2 rows" in done.stdout and "avg_wc" not in done.stdout, done.stdout + done.stderr)
    done = vecmill.ingest(path, *english, "--metrics-table", "t_metrics", status=1)
    expect(done.stderr == f"vecmill: {why}\n" and query(path, "SELECT * FROM t_metrics") == before, done.stderr)
    execute(path, "UPDATE t SET v2 = NULL")
    vecmill.ingest(path, *english, "--metrics-table", "other", "--create-metrics")
    done = vecmill.ingest(path)
    expect(not done.stderr and query(path, "SELECT * FROM t_metrics") == before, "the first one's own")
    expect(query(path, "SELECT id, word_count FROM other") == [(1, 3), (2, 2)], "its own")
    execute(path, "DROP TABLE t_metrics; UPDATE t SET v2 = NULL")
    vecmill.ingest(path, *english, "--create-metrics")
    expect(query(path, "SELECT id, word_count FROM t_metrics") == [(1, 3), (2, 2)], "one that was made anew")
    done = vecmill.ingest(path, "--metrics-only", status=1)
    expect("table t_metrics holds the numbers of column english, whose vectors are in v2" in done.stderr, done.stderr)


def test_blanked_in_one_table(vecmill, folder):
    """documents and contents share metrics: a row that is of the other one's text stays, whichever is blank; columns of others make no difference."""
    numbers = "SELECT sourceid, word_count, length FROM document_metrics WHERE word_count IS NOT NULL ORDER BY 1"
    for extra in ("", "note TEXT, "):
        path = folder / f"{len(extra)}.db"
        execute(path, f"""CREATE TABLE Documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT); CREATE TABLE contents(sourceid INTEGER PRIMARY KEY, text TEXT);
            CREATE TABLE document_metrics(sourceid INTEGER, hawaiian_word_ratio REAL, word_count INTEGER, length INTEGER, entity_count INTEGER, frequency INTEGER,
                                          updated_at TEXT, {extra}PRIMARY KEY(sourceid));
            INSERT INTO documents VALUES(1, 1, 'one two three'), (2, 2, 'four five'), (3, 2, 'six'), (4, 3, 'seven'), (5, 4, 'eight'), (6, NULL, 'nine');
            INSERT INTO contents VALUES(1, 'x'), (2, 'y z'), (3, ' '), (4, 'of another length')""")
        for table in ("contents", "documents"):  # the later run counts
            vecmill.ingest(path, table=table)
        execute(path, "UPDATE contents SET text = '' WHERE sourceid IN (1, 4)")
        before = query(path, numbers)
        expect(before == [(1, 3, 13), (2, 2, 9), (3, 1, 5), (4, 1, 5)], str(before))
        done = vecmill.ingest(path, "--changed", table="contents")
        expect("2 blank now, vector removed" in done.stdout, done.stdout)
        expect(query(path, numbers) == [(1, 3, 13), (2, 2, 3), (3, 1, 5), (4, 1, 5)], f"contents took the numbers of documents: {query(path, numbers)}")
        execute(path, "UPDATE contents SET text = 'a b c d' WHERE sourceid IN (1, 2)")
        vecmill.ingest(path, "--changed", table="contents")
        execute(path, "UPDATE documents SET text = NULL WHERE doc_id <> 5")
        vecmill.ingest(path, "--changed", table="documents")
        expect(query(path, numbers) == [(1, 4, 7), (2, 4, 7), (4, 1, 5)], f"documents took the numbers of contents: {query(path, numbers)}")
        execute(path, "UPDATE contents SET text = '' WHERE sourceid < 4; UPDATE documents SET text = 'e' WHERE doc_id = 1")
        vecmill.ingest(path, "--changed", table="contents")
        expect(query(path, numbers) == [(4, 1, 5)], f"of a text that is gone: {query(path, numbers)}")
        vecmill.ingest(path, "--changed", table="documents")
        expect(query(path, numbers) == [(1, 1, 1), (4, 1, 5)], str(query(path, numbers)))


def test_keys(vecmill, folder):
    """A metrics table has the key of its table: composite, text, WITHOUT ROWID, a bare rowid."""
    path = folder / "t.db"
    execute(path, """CREATE TABLE c(a INTEGER, b TEXT, text TEXT, PRIMARY KEY(b, a)) WITHOUT ROWID; INSERT INTO c VALUES(1, 'x', 'A Kai'), (2, 'x', 'b'), (1, 'y', 'b');
        CREATE TABLE "k ""q"(uuid TEXT PRIMARY KEY NOT NULL, text TEXT); INSERT INTO "k ""q" VALUES('u1', 'A Kai'), ('u2', 'b');
        CREATE TABLE r(text TEXT); INSERT INTO r VALUES('A Kai'), ('b')""")
    vecmill.ingest(path, 1, "--create-metrics", table="c")
    vecmill.ingest(path, 1, "--create-metrics", table='k "q')
    vecmill.ingest(path, 1, "--create-metrics", "--id-column", "rowid", table="r")
    vecmill.ingest(path, 1, "--id-column", "rowid", "--wordlist", list_files(folder)[1], table="r")
    expect(query(path, "SELECT b, a, word_count, entity_count, frequency FROM c_metrics ORDER BY b, a") == [("x", 1, 2, 1, 1), ("x", 2, 1, 0, 2), ("y", 1, 1, 0, 2)], "c")
    expect(query(path, 'SELECT uuid, word_count, frequency FROM "k ""q_metrics" ORDER BY uuid') == [("u1", 2, 1), ("u2", 1, 1)], "k")
    expect(query(path, "SELECT rowid, word_count, frequency FROM r_metrics ORDER BY 1") == [(1, 2, 1), (2, 1, 1)], "r")


def test_shared(vecmill, folder):
    """Documents of one source: its metrics are those of the first of them, whatever came last; one without a source has none."""
    base = folder / "base.db"
    words = list_files(folder)
    texts = ["aloha", "kai kai", "Aloha kākou e Kai.", None, "nui"]
    with closing(sqlite3.connect(base)) as db:
        db.execute("CREATE TABLE documents(doc_id INTEGER PRIMARY KEY, sourceid INTEGER, text TEXT)")
        db.executemany("INSERT INTO documents VALUES(?, ?, ?)", [(i, None if i % 7 == 0 else i % 5, texts[(i // 5) % 5] if i != 3 else None) for i in range(1, 200)])
        db.commit()
        rows = db.execute("SELECT sourceid, text, (SELECT count(*) FROM documents AS o WHERE o.text = d.text) FROM documents AS d "
                          "WHERE text IS NOT NULL AND sourceid IS NOT NULL ORDER BY doc_id DESC").fetchall()
    first = {source: (text, n) for source, text, n in rows}  # the first one was put there last
    for workers, batch in ((1, 100), (4, 3)):
        path = folder / f"{workers}.db"
        shutil.copy(base, path)
        vecmill.ingest(path, batch, "--workers", workers, "--create-metrics", *words, table="documents")
        got = query(path, "SELECT sourceid, word_count, frequency, hawaiian_word_ratio FROM document_metrics ORDER BY sourceid")
        expect([row[:3] for row in got] == [(source, len(text.split()), n) for source, (text, n) in sorted(first.items())], f"{got} {first}")
        expect(all(row[3] is not None for row in got), str(got))
        before = path.read_bytes()
        vecmill.ingest(path, table="documents")  # without a list: nothing is undone
        expect(path.read_bytes() == before, "a run with nothing to do wrote")
    path = folder / "rowid.db"  # whose key is no column
    execute(path, "CREATE TABLE documents(sourceid INTEGER, text TEXT); INSERT INTO documents VALUES(1, 'one'), (1, 'one more'), (2, 'two')")
    for words in ((), ("--metrics-only",)):
        vecmill.ingest(path, "--id-column", "rowid", "--create-metrics", *words, table="documents")
        got = query(path, "SELECT sourceid, word_count, frequency FROM document_metrics ORDER BY 1")
        expect(got == [(1, 1, 1), (2, 1, 1)], f"{words}: {got}")
        execute(path, "DELETE FROM document_metrics")


def test_refused_by_the_database(vecmill, folder):
    """A row whose metrics are refused has failed: its vector is not there either."""
    path = folder / "t.db"
    make_table(path, 30, seed=1, blank_every=0)
    execute(path, "CREATE TABLE t_metrics(id INTEGER PRIMARY KEY CHECK (id NOT IN (3, 17)), hawaiian_word_ratio, word_count, length, entity_count, "
            "frequency, updated_at)")
    done = vecmill.ingest(path, 10, status=3)
    expect("the database refused the metrics: CHECK constraint failed" in done.stderr, done.stderr)
    expect(query(path, "SELECT id FROM t WHERE embedding IS NULL ORDER BY id") == [(3,), (17,)], "other rows")
    expect(query(path, "SELECT count(*) FROM t_metrics") == [(28,)] and query(path, "SELECT key FROM vecmill_failures ORDER BY key") == [("17",), ("3",)], "failures")


def test_averages_of_written(vecmill, folder):
    """The averages are of the rows that were written: not of those that a rule refuses, one that rolls the page back included."""
    for rule, statement, wanted in ((", CHECK (id = 10 OR embedding IS NULL)", "SELECT 1", "1.0"), ("", "RAISE(ABORT, 'no')", "1.0"), ("", "RAISE(ROLLBACK, 'no')", "1.0"),
                                    ("", "RAISE(IGNORE)", "1.0"), (", CHECK (id < 10 OR embedding IS NULL)", "SELECT 1", "10.0")):
        path = folder / "a.db"
        path.unlink(missing_ok=True)
        execute(path, f"CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT, embedding BLOB{rule})")
        if not rule:
            execute(path, f"CREATE TRIGGER no BEFORE UPDATE OF embedding ON t WHEN new.id < 10 BEGIN SELECT {statement}; END")
        with closing(sqlite3.connect(path)) as db, db:
            db.executemany("INSERT INTO t(id, text) VALUES(?, ?)", [(i, "star" + " star" * (9 if i < 10 else 0)) for i in range(1, 11)])
        done = vecmill.ingest(path, 10, "--create-metrics", status=3)
        lines = [line for line in done.stdout.splitlines() if "avg_" in line]
        expect(len(lines) == 2 and all(f" avg_wc={wanted} " in line for line in lines), f"{rule} {statement}: {lines}")


def test_dry_run(vecmill, folder):
    """Nothing is written: no column, no table, no byte; counts are exact, what is refused is refused."""
    path, home = folder / "t.db", folder / "db"
    home.mkdir()
    path = home / "t.db"
    make_table(path, 400, seed=1)
    execute(path, "ALTER TABLE t RENAME COLUMN embedding TO vector")
    before = path.read_bytes()
    done = vecmill.ingest(path, "--dry-run", "--create-metrics")
    expect("Remaining to embed in t: 392" in done.stdout and "Dry run: nothing was written. 392 rows to embed, " in done.stdout, done.stdout)
    n_tokens = int(done.stdout.partition("392 rows to embed, ")[2].split()[0])
    expect(path.read_bytes() == before and [file.name for file in home.iterdir()] == ["t.db"], f"written: {list(home.iterdir())}")
    refused(vecmill, path, f"{path}: no table nope for the metrics (--create-metrics makes it)", "--dry-run", "--metrics-table", "nope", status=1)
    for workers, rests in ((1, 7), (4, 1), (8, 0)):  # of 392 rows, 50 a batch
        told = vecmill.ingest_json(path, 50, "--dry-run", "--workers", workers, "--sleep", 10000)[-1]["expected_s"]
        expect(rests * 10000 < told < rests * 10000 + 5000, f"{workers} workers: {told} s, {rests} rests of 10,000 s")
    done = vecmill.ingest(path, "--dry-run", "--limit", 60, "--where", "id > 5")
    expect("Remaining to embed in t: 59" in done.stdout, done.stdout)
    path.chmod(0o444)
    vecmill.without_rights(folder).ingest(path, "--dry-run")
    path.chmod(0o644)
    real = vecmill.ingest_json(path, "--vector-column", "vector", "--create-metrics")
    expect(real[-1]["tokens"] == n_tokens, f"{real[-1]['tokens']} tokens, told {n_tokens}")
    before = path.read_bytes()
    told = vecmill.ingest_json(path, "--dry-run", "--vector-column", "vector")[-1]
    expect(told["remaining"] == 0 and told["dry_run"] is True and told["expected_tokens"] == 0 and path.read_bytes() == before, str(told))
    execute(path, "DELETE FROM t_metrics WHERE id < 11")
    before = path.read_bytes()
    done = vecmill.ingest(path, "--dry-run", "--metrics-only", "--vector-column", "vector")
    expect(done.stdout.endswith("Dry run: nothing was written. 10 rows to measure\n") and path.read_bytes() == before, done.stdout)


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
