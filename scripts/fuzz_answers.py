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
PLACE, WRITER = b"\0\0\0\1\0\1", b"\0\0\2\7"  # ctid and xmin
VECTOR, OTHER = (struct.pack(">hh3f", 3, 0, *numbers) for numbers in ((0.5, -1, 2), (0, 1, 0)))


def columns(vector: str | None = "vector") -> bytes:
    """Name, type, its number and dimension, is it a text, type again, NOT NULL, generated, place in the key from 0."""
    lines = [["id", "bigint", "20", "-1", "false", "int8", "true", "false", "0"], ["b", "text", "25", "-1", "true", "text", "true", "false", "1"],
             ["Text", "character varying", "1043", "-1", "true", "varchar", "false", "false", "-1"]]
    if vector:
        lines.append(["embedding", f"{vector}(3)", "16500", "3", "false", vector, "false", "false", "-1"])
    return rows(*lines)


def page(*ids: int) -> bytes:
    return rows(*[[str(i), f"key {i}", f"star {i}", HASH, PLACE, WRITER] for i in ids]) if ids else NONE


METRICS = rows(*[[name, place, "bigint" if place == "0" else None] for name, place in
                 (("id", "0"), ("hawaiian_word_ratio", "-1"), ("word_count", "-1"), ("length", "-1"), ("entity_count", "-1"), ("frequency", "-1"),
                  ("updated_at", "-1"))])
VECTORS = rows(["1", "k", VECTOR], ["2", "k", OTHER], ["3", "k", b"\0\1"])

# what every call may ask, the more telling words first
SERVER = b"".join([
    always("parameter server_encoding", rows(["UTF8"])), always("parameter TimeZone", rows(["UTC"])),
    always("max_identifier_length", rows(["63", "1", "1", "1", "1", "1", "1"])),
    always("nspname::text, relname::text, relkind::text", rows(["16400", "public", "t", "r", None])),
    once("format_type(atttypid, -1)", columns()), always("count(*)::text FROM pg_index", rows(["1"])),
    always("y.oid::text", rows(["16500", "public", "vector"])), always("array_position(i.indkey", METRICS),
    always("relkind = 'r' AND relname", rows(["1"])), always("FROM \"vecmill\".\"version\"", rows(["2"])), always("SELECT model, revision", rows(["model", "revision", "mean", "", "float32", "Text",
                                                                                                          "3", "1"])),
    always("has_column_privilege", rows(["true", "u"])), always("has_", rows(["true", "true", "true", "true"])), always("to_regclass", TRUE),
])
LOOK = b"".join([
    always("ORDER BY random", rows(["1", "k", "star", "", VECTOR], ["2", "k", "star", "", OTHER])), always("IS NOT NULL)::text", TRUE),
])


def run(selection: str = "id id, b (bigint, text); text Text") -> bytes:
    """What is told of the run, which has these rows in view; two pages, and a lease to take over before."""
    return b"".join([
        once("owner::text, pid::text", rows(["7b1d0a52-0000-4000-8000-000000000000", "99999999"])),
        always("SELECT pass::text, selection", rows(["1", "", "0", "0", "0"])), always("WITH l AS (DELETE", rows(["2"])),
        once("SELECT pass::text, pass_claimed::text", rows(["2", "1", selection])), always("SELECT pass::text, pass_claimed::text", rows(["3", "0", selection])),
        once("SELECT pass::text, pass_over::text", rows(["2", "false", None, selection]), rows(["2", "false", "{5,k}", selection]), rows(["2", "true", "{7,k}", selection])),
        always("SELECT pass::text, pass_over::text", rows(["3", "true", None, selection])), always("FOR UPDATE)", rows(["1", "3", "1", "7", "1"])),
        always("FILTER (WHERE expires", rows(["0", "0"])), always("n_total = ", rows(["7", "0"])),
        once("(fence + 1)::text", rows(["10", "2", "{0,k}", "{3,k}"])), always("(fence + 1)::text", NONE),
        once("INSERT INTO \"vecmill\".\"leases\"", rows(["11"]), rows(["12"])), always("SELECT NULL::bigint AS id", rows([None])),
        always("SELECT EXISTS (SELECT 1 FROM \"vecmill\"", FALSE), always("SELECT count(*)::text, count(", rows(["9", "1", "1", "0", "0", "0", "0"])),
        always("SELECT id::text FROM \"vecmill\"", rows(["1"])), once("ORDER BY \"t\".\"id\"", page(1, 2, 3, 4, 5), page(6, 7)),
    ])


ALL_METRICS = b"".join([
    always("FILTER (WHERE NOT", rows(["2"])), once("t_metrics", page(1, 2), ok(2)), once("row_number()", page(1, 2)), once("frequency", ok(3)),
    once("SELECT count(*)::text FROM", rows(["2"])),
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
    "ingest": (INGEST, 0, LOOK + ALL_METRICS + run() + SERVER),
    "halfvec": (SEVERAL_CONNECTIONS, 0, once("format_type(atttypid, -1)", columns("halfvec")) + LOOK + run() + SERVER),
    "refused": (INGEST, WHERE_LIMIT_CHANGED, LOOK + REFUSED + run("id id, b (bigint, text); text Text; --limit 2; --changed; --where a > 1") + SERVER),
    "answer-lost": (INGEST, 0, once("SET done = true", LOST) + always("SELECT n_written::text", rows(["4", "1"])) + LOOK + run() + SERVER),
    "new": (INGEST, 0, once("format_type(atttypid, -1)", columns(None)) + once("array_position(i.indkey", NONE) +
            once("relkind = 'r' AND relname", *3 * [rows(["0"])]) + always("IS NOT NULL)::text", FALSE) + run() + SERVER),
    "metrics-only": (METRICS_ONLY, 0, LOOK + ALL_METRICS + run() + SERVER),
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


def seeds():
    for name, (what, how, entries) in SEEDS.items():
        yield name, bytes([what, how]) + entries
