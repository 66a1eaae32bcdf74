"""Seeds of fuzz/corpus/pg_answers: what a PostgreSQL answers to a run, a search and so on, as fuzz/fake_libpq.h has it.

An answer is found by words of the statement, so that a statement more or less in the store's code leaves the others
answered. FAKE_LIBPQ_TELL=1 build/fuzz/fuzz/fuzz-pg_answers SEED prints each statement and what it got.
"""
import struct


def text(value) -> bytes:
    if value is None:
        return b"\xff"
    raw = value if isinstance(value, bytes) else value.encode()
    return (bytes([len(raw)]) if len(raw) < 254 else b"\xfe" + struct.pack("<H", len(raw))) + raw


def rows(*lines) -> bytes:
    return bytes([1, len(lines[0]) if lines else 1, len(lines)]) + b"".join(text(field) for line in lines for field in line)


def ok(n: int = 0) -> bytes:
    return b"\0" + text(str(n))


def error(code: str, words: str) -> bytes:
    return b"\2" + code.encode() + text(words)


def once(words: str, *answers: bytes) -> bytes:
    """Answers to the next statements that hold these words, one each."""
    return b"".join(text(words) + answer for answer in answers)


def always(words: str, answer: bytes) -> bytes:
    return text(words) + bytes([answer[0] | 128]) + answer[1:]


NONE, TRUE, FALSE = rows(), rows(["true"]), rows(["false"])
HASH = "5eb63bbbe01eeed093cb22bb8f5acdc3"
SINCE = "1700000000.5"  # a record's
PLACE, WRITER = b"\0\0\0\1\0\1", b"\0\0\2\7"  # ctid and xmin
VECTOR, OTHER = (struct.pack(">hh3f", 3, 0, *numbers) for numbers in ((0.5, -1, 2), (0, 1, 0)))


def columns(vector: str | None = "vector") -> bytes:
    """Name, type, its number and dimension, is it a text, type again, NOT NULL, generated, place in the key from 1, is its form steady, collation, is it long, where its operators are."""
    lines = [["id", "bigint", "20", "-1", "false", "int8", "true", "false", "1", "true", None, "false", None],
             ["b", "text", "25", "-1", "true", "text", "true", "false", "2", "true", None, "true", None],
             ["Text", "character varying", "1043", "-1", "true", "varchar", "false", "false", "0", "true", None, "true", None]]
    if vector:
        lines.append(["embedding", f"{vector}(3)", "16500", "3", "false", vector, "false", "false", "0", "false", None, "true", None])
    return rows(*lines)


def page(*ids: int) -> bytes:
    return rows(*[[str(i), f"key {i}", f"star {i}", HASH, PLACE, WRITER] for i in ids]) if ids else NONE


# of the metrics' table: name, place in the key, type, wants a value, collation, is it a table, is its key checked at once, rule, generated, NOT NULL, domain, takes no NULL,
# is it partitioned, heirs
METRICS = rows(*[[name, place, "bigint" if place == "1" else None, "false", None, "true", "true", "", None, "false", None, "false", "false", None] for name, place in
                 (("id", "1"), ("hawaiian_word_ratio", "0"), ("word_count", "0"), ("length", "0"), ("entity_count", "0"), ("frequency", "0"), ("updated_at", "0"))])
VECTORS = rows(["1", "k", VECTOR], ["2", "k", OTHER], ["3", "k", b"\0\1"])

# what every call may ask, the more telling words first
SERVER = b"".join([
    always("parameter server_encoding", rows(["UTF8"])), always("parameter TimeZone", rows(["UTC"])),
    always("max_identifier_length", rows(["63", "1", "1", "1", "1", "1", "1"])),
    always("nspname::text, relname::text, relkind::text", rows(["16400", "public", "t", "r", None])),
    once("WITH RECURSIVE base", columns()), always("count(*)::text FROM pg_index", rows(["1"])),
    always("y.oid::text", rows(["16500", "public", "vector"])), always("attgenerated = 'v'", METRICS),
    always("relkind = 'r' AND relname", rows(["1"])), always("max(n)::text FROM", rows(["4"])),
    always("SELECT model, revision", rows(["model", "revision", "mean", "", "float32", "Text", "3", "1", "false", "true", "false"])),
    always("(n.oid IS NOT NULL)::text", rows(*[["true", "true", "true", kind, *["true"] * 5] for kind in ("table", "table", "index", *["table"] * 5)])),
    always("row_security_active", rows(["false", "; as u, search path public"])),
    # user, owner, reads, writes, grants, parent, type, makes tables, metrics; and each column that is read
    always("pg_has_role(c.relowner, 'USAGE') AND NOT", rows(["u", "true", "true", "true", None, None, None, *["true"] * 12])),
    always("pg_try_advisory_xact_lock", rows(["true", None])), always("has_", rows(["true", "u"])),
])
LOOK = b"".join([
    always("ORDER BY random", rows(["1", "k", "star", "", VECTOR], ["2", "k", "star", "", OTHER])), always("\"embedding\" IS NOT NULL)::text", TRUE),
])


def run(selection: str = "id id, b (bigint, text); text Text; metrics in t_metrics", cut: tuple = ()) -> bytes:
    """What is told of the run, which has these rows in view, as far as `cut`; two pages, a lease to take over before, and one that was lost too often behind them."""
    def column(*fields) -> bytes:
        return rows([*fields, SINCE, selection, "2", *cut])

    paths = [None] * 3  # set_config's answers
    return b"".join([
        once("owner::text, pid::text", rows(["7b1d0a52-0000-4000-8000-000000000000", "99999999"])),
        always("SELECT pass::text, selection", rows(["1", "", "false", "0", "0", "1"])), always("WITH l AS (DELETE", rows(["2", "0", "2"])),
        always("text_column = $5::text OR NOT", rows(["true", SINCE, "false", "model", "", "Text"])),
        once("SELECT pass::text, pass_claimed::text", column("2", "0", "false"), column("2", "1", "true")), always("SELECT pass::text, pass_claimed::text", column("3", "0", "true")),
        once("SELECT pass::text, pass_over::text", column("2", "false", None, *paths), column("2", "false", "{5,k}", *paths), column("2", "true", "{7,k}", *paths)),
        always("SELECT pass::text, pass_over::text", column("3", "true", None, *paths)),
        always("SELECT id::text, extract(epoch FROM created)", column("1")), always("FOR UPDATE)", rows(["1", "3", "1", "7", "3", "1", "true", None])),
        always("FILTER (WHERE expires", rows(["0", "0"])), always("n_total = ", rows(["7", "0"])),
        once("attempts < 3", rows(["10", "2", "{0,k}", "{3,k}", "1"])), once("attempts >= 3", rows(["13", "2", "{8,k}", "{9,k}", "3"])), always("(fence + 1)::text", NONE),
        once("first_key = n.key", rows(["14"])), once("INSERT INTO \"vecmill\".\"leases\"", rows(["11"]), rows(["12"])), always("SELECT NULL::bigint AS id", rows([None])),
        always("SELECT EXISTS (SELECT 1 FROM \"vecmill\"", FALSE), always("SELECT count(*)::text, count(", rows(["9", "1", "1", "0", "0", "0", "0"])),
        always("SELECT id::text FROM \"vecmill\"", rows(["1"])), once("\"ctid\", \"t\".\"xmin\" FROM", page(1, 2, 3), page(4, 5), page(6, 7), page(8)),
    ])


ALL_METRICS = b"".join([
    once("row_number()", ok(), page(1, 2), ok(), page(3)), always("EXPLAIN", rows(["Insert"])), always("INSERT INTO \"public\".\"t_metrics\"", ok(2)), once("SELECT count(*)::text FROM", rows(["2"])),
    always("IS NOT NULL AND \"t\".\"id\" IS NOT NULL)::text", TRUE), once("FETCH", rows(["1", "k", "9", ""], ["2", "k", "9", ""]), rows(["3", "k", "9", ""])),
    once("vecmill_r.*", page(1, 2), page(3)), always("SET frequency", ok(3)),
])
NEAR = b"".join([always("c.relname::text FROM pg_index", rows(["t_hnsw"])), once("\"embedding\" FROM", VECTORS), once("\"embedding\"", VECTORS)])
JOBS = b"".join([
    once("SELECT id::text, schema_name", rows(["1", "public", "t", "embedding", "Text", "model", "id id, b", "9", "4", "1", "3", "0", "0", "2500000", "false"],
                                              ["2", "s", "u", "v", "x", "m", "", "-1", "0", "0", "0", "0", "0", "0", "true"])),
    once("SELECT column_id::text, host", rows(["1", "host/boot/pid", "77", "2.5", "0.1", "false", "3"], ["1", "other", "78", "2.5", "99", "true", "0"])),
])
REFUSED = b"".join([
    once("SET done = true", error("23514", "new row violates check constraint")), once("FOR UPDATE)", rows(["1", "1", "0", None]), error("P0001", "not this one"),
                                                                                        rows(["1", "0", "1", None])),
    always("SELECT 1 FROM \"public\".\"t\" WHERE (\"t\"", rows(["1"])), once("OFFSET", rows(["7", "k"])),
])
LOST = b"\3" + text("server closed the connection unexpectedly")

# what the first two bytes of an input say: which calls, and how (fuzz_pg_answers.c)
INGEST, METRICS_ONLY, DRY_RUN, SEARCH, OF_JOBS, VECTOR_ALONE, SEVERAL_CONNECTIONS = range(7)
WHERE_LIMIT_CHANGED, EXACT, STREAM = 2 + 4 + 8 + 16 + 64, 32, 128

SEEDS = {
    "ingest": (INGEST, 0, LOOK + run() + ALL_METRICS + SERVER),
    "halfvec": (SEVERAL_CONNECTIONS, 0, once("WITH RECURSIVE base", columns("halfvec")) + LOOK + run() + SERVER),
    "refused": (INGEST, WHERE_LIMIT_CHANGED, LOOK + REFUSED + run("id id, b (bigint, text); text Text; --limit 2; --changed; --where a > 1; as u, search path public; metrics in t_metrics", ("7", "k")) + SERVER),
    "answer-lost": (INGEST, 0, once("SET done = true", LOST, rows(["0", "0", "0", "7", "0", "0", "false", None])) + always("SELECT n_written::text", rows(["4", "1"])) + LOOK + run() + SERVER),
    "new": (INGEST, 0, once("WITH RECURSIVE base", columns(None)) + once("attgenerated = 'v'", NONE) +
            once("relkind = 'r' AND relname", *3 * [rows(["0"])]) + once("atttypmod = $1::integer", NONE, rows(["true", "vector(3)"])) + always("\"embedding\" IS NOT NULL)::text", FALSE) + run("id id, b (bigint, text); text Text") + SERVER),
    "metrics-only": (METRICS_ONLY, 0, LOOK + run() + ALL_METRICS + SERVER),
    "dry-run": (DRY_RUN, 0, LOOK + run() + SERVER),
    "search": (SEARCH, 0, NEAR + once("\"Text\"", rows(["star 3"])) + SERVER),
    "exact": (SEARCH, EXACT, NEAR + SERVER + once("\"Text\"", rows(["star 3"]))),
    "stream": (SEARCH, STREAM, NEAR + SERVER + once("\"Text\"", rows(["star 3"]))),
    "jobs": (OF_JOBS, 0, JOBS + SERVER),
    "vector": (VECTOR_ALONE, 0, VECTOR),
    "halves": (VECTOR_ALONE, 0, struct.pack(">hh3e", 3, 0, 0.5, 65504, 6e-8) + b"\0"),
    "in-turn": (INGEST, 0, once("", NONE, NONE, rows(["contents, sentences"]))),
    "no-connection": (INGEST, 0, once("connect", b"\3" + text("connection to server failed: FATAL:  53300: sorry, too many clients already"))),
    "copy": (INGEST, 0, once("format_type", b"\4") + SERVER),
    "denied": (INGEST, 0, once("format_type", error("42501", "permission denied for table t")) + SERVER),
}

# what each comes to say, of all that it says: one that does not has been left behind by the store's code (tests/scripts/test_fuzz_answers.py)
COMMIT, LEAVES = "SET done = true", "DELETE FROM \"vecmill\".\"workers\" WHERE owner = "
TEXT_OF_ROW = "SELECT \"t\".\"Text\"::text FROM ONLY \"public\".\"t\" WHERE (\"t\".\"id\", \"t\".\"b\") = "
REACHES = {
    "ingest": (COMMIT, "first_key = n.key", "INSERT INTO \"public\".\"t_metrics\"", "FETCH", "vecmill_r.*", "SET frequency", LEAVES),
    "halfvec": (COMMIT, LEAVES),
    "refused": (COMMIT, "INSERT INTO \"vecmill\".\"failures\"", "DELETE FROM ONLY", "SET frequency", LEAVES),
    "answer-lost": (COMMIT, "SELECT n_written::text", LEAVES),
    "new": ("ADD COLUMN IF NOT EXISTS \"embedding\" \"public\".\"vector\"(3)", COMMIT, LEAVES),
    "metrics-only": ("INSERT INTO \"public\".\"t_metrics\"", "FETCH", "SET frequency"),
    "dry-run": ("vecmill_r.*",),
    "search": ("<=>", TEXT_OF_ROW),
    "exact": ("<=>", TEXT_OF_ROW),
    "stream": (TEXT_OF_ROW,),
    "jobs": ("SELECT column_id::text, host",),
    "in-turn": ("WITH them AS",),
    "no-connection": ("connect",),
    "copy": ("WITH RECURSIVE base",),
    "denied": ("WITH RECURSIVE base",),
}


def seeds():
    for name, (what, how, entries) in SEEDS.items():
        yield name, bytes([what, how]) + entries
