"""Seeds of fuzz/corpus/pg_answers: what a PostgreSQL answered to a run, a search and so on, as fuzz/fake_libpq.h has it.

The answers stand in the order in which they are asked for; FAKE_LIBPQ_TELL=1 build/fuzz/fuzz/fuzz-pg_answers SEED
prints each statement and what it got.
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


DONE = b"\5"  # connected, or a statement without a number
NONE, TRUE, FALSE = rows(), rows(["true"]), rows(["false"])
HASH = "5eb63bbb-e01e-eed0-93cb-22bb8f5acdc3"
VECTOR, OTHER = (struct.pack(">hh3f", 3, 0, *numbers) for numbers in ((0.5, -1, 2), (0, 1, 0)))


def columns(vector: str | None = "vector") -> bytes:
    """Name, type, its number and dimension, is it a text, type again, NOT NULL, generated, place in the key from 0."""
    lines = [["id", "bigint", "20", "-1", "false", "int8", "true", "false", "0"], ["b", "text", "25", "-1", "true", "text", "true", "false", "1"],
             ["Text", "character varying", "1043", "-1", "true", "varchar", "false", "false", "-1"]]
    if vector:
        lines.append(["embedding", f"{vector}(3)", "16500", "3", "false", vector, "false", "false", "-1"])
    return rows(*lines)


def page(*ids: int) -> bytes:
    return rows(*[[str(i), f"key {i}", f"star {i}", HASH] for i in ids]) if ids else NONE


TABLE, UNIQUE = rows(["16400", "public", "t", "r"]), rows(["1"])
VECTOR_TYPE = rows(["16500", "public", "vector"])
STATE_IS_THERE, NO_STATE = rows(["5"]), rows(["0"])
RECORD = rows(["model", "revision", "mean", "", "float32", "Text", "3", "1"])
METRICS = rows(*[[name, place, "bigint" if place == "0" else None] for name, place in
                 (("id", "0"), ("hawaiian_word_ratio", "-1"), ("word_count", "-1"), ("length", "-1"), ("entity_count", "-1"), ("frequency", "-1"),
                  ("updated_at", "-1"))])
RIGHTS = rows(["true", "u"])
DEAD = rows(["7b1d0a52-0000-4000-8000-000000000000", "99999999"])
RUN = rows(["1", "", "0", "0"])  # its pass, its selection, who else works on it
COUNTS = rows(["9", "1", "1", "0", "0", "0", "0"])
SAMPLE = rows(["1", "k", "star", "", VECTOR], ["2", "k", "star", "", OTHER])
VECTORS = rows(["1", "k", VECTOR], ["2", "k", OTHER], ["3", "k", b"\0\1"])
JOBS = rows(["1", "public", "t", "embedding", "Text", "model", "id id, b", "9", "4", "1", "3", "0", "2.5"],
            ["2", "s", "u", "v", "x", "m", "", "0", "0", "0", "0", "0", "0"])
WORKERS = rows(["1", "host/boot/pid", "77", "2.5", "0.1", "false", "3"], ["1", "other", "78", "2.5", "99", "true", "0"])

# calls, as the sequences that they ask for
FIND = [DONE, TABLE, columns(), UNIQUE, VECTOR_TYPE, STATE_IS_THERE, RECORD]
LOOK = [STATE_IS_THERE, RECORD, METRICS, TRUE]
JOIN = [DONE, UNIQUE, DEAD, ok(1), RUN, rows(["2"]), ok(1), DONE]
BEGIN = [STATE_IS_THERE, RIGHTS, STATE_IS_THERE, RECORD, STATE_IS_THERE, RECORD, *JOIN]
TOTALS = [COUNTS, rows(["7", "0"])]
CLAIMED_AGAIN = [DONE, rows(["2", "false", None]), ok(1), rows(["10", "2", "{0,k}", "{3,k}"]), page(1, 2, 3, 4, 5), ok(1), DONE]
CLAIMED = [DONE, rows(["2", "false", "{5,k}"]), ok(1), NONE, page(6, 7), rows(["11"]), DONE]
PASS_BEGINS = [DONE, rows(["2", "1"]), NONE, ok(0), rows(["0", "0"]), ok(1), DONE]
RUN_ENDS = [DONE, rows(["3", "0"]), NONE, ok(0), rows(["0", "0"]), DONE]
LACKING, SHARED = [DONE, TRUE, page(1, 2), DONE, ok(2)], [DONE, page(1, 2), DONE, ok(2)]
ALL_METRICS = [*LACKING, *3 * [DONE, TRUE, NONE, DONE], *SHARED, *3 * [DONE, NONE, DONE], DONE, TRUE, ok(3), DONE]


def nothing_left(n_pass: str) -> list:
    return [DONE, rows([n_pass, "true", "{7,k}"]), ok(1), NONE, FALSE, DONE]


PASSES = [*CLAIMED_AGAIN, rows(["1", "4", "1", "5"]), *CLAIMED, rows(["1", "1", "1", "7"]), *nothing_left("2"), *PASS_BEGINS, *nothing_left("3"), *RUN_ENDS]
SAVED, NOT_SAVED = [DONE, UNIQUE, rows(["1", "1", "0", None]), DONE], [DONE, UNIQUE, error("P0001", "not this one"), DONE, rows(["1", "0", "1", None])]
ROW_BY_ROW = [error("23514", "new row violates check constraint"), DONE, *SAVED, *NOT_SAVED, *SAVED, rows(["1", "0", "0", "4"]), DONE]
LOST = b"\3" + text("server closed the connection unexpectedly")
NO_COLUMN = [DONE, TABLE, columns(None), UNIQUE, VECTOR_TYPE, NO_STATE]

# what the first two bytes of an input say: which calls, and how (fuzz_pg_answers.c)
INGEST, METRICS_ONLY, DRY_RUN, SEARCH, OF_JOBS, VECTOR_ALONE, SEVERAL_CONNECTIONS = range(7)
KEY_ORDER_WHERE_LIMIT_CHANGED, EXACT, STREAM = 2 + 4 + 8 + 16 + 64, 32, 128

SEEDS = {
    "ingest": (INGEST, 0, [*FIND, *LOOK, SAMPLE, *BEGIN, *TOTALS, *PASSES, *ALL_METRICS, ok(1)]),
    "halfvec": (SEVERAL_CONNECTIONS, 0, [DONE, TABLE, columns("halfvec"), UNIQUE, VECTOR_TYPE, STATE_IS_THERE, RECORD, *LOOK, SAMPLE, *BEGIN[:6], DONE, *JOIN,
                                         *TOTALS, *PASSES, *ALL_METRICS, ok(1)]),
    "refused": (INGEST, KEY_ORDER_WHERE_LIMIT_CHANGED, [*FIND[:5], NONE, NONE, *FIND[5:], METRICS, TRUE, SAMPLE, *BEGIN, rows(["7", "k"]), rows(["1"]), *TOTALS,
                                                        *CLAIMED_AGAIN, *ROW_BY_ROW, *nothing_left("2"), *RUN_ENDS]),
    "answer-lost": (INGEST, 0, [*FIND, *LOOK, SAMPLE, *BEGIN, *TOTALS, *CLAIMED_AGAIN, LOST, DONE, TRUE, rows(["4", "1", "0", "1"]), *CLAIMED, LOST]),
    "new": (INGEST, 0, [*NO_COLUMN, NO_STATE, NONE, NO_STATE, DONE, DONE, RIGHTS, STATE_IS_THERE, NONE, rows(["1"]), STATE_IS_THERE, RECORD, *JOIN, *TOTALS,
                        *PASSES, ok(1)]),
    "metrics-only": (METRICS_ONLY, 0, [*FIND, *LOOK, rows(["2"]), *ALL_METRICS]),
    "dry-run": (DRY_RUN, 0, [*FIND, *LOOK, COUNTS, SAMPLE]),
    "search": (SEARCH, 0, [*FIND, *LOOK[:2], DONE, rows(["t_hnsw"]), TRUE, VECTORS, DONE, rows(["star 3"])]),
    "exact": (SEARCH, EXACT, [*FIND, *LOOK[:2], DONE, TRUE, VECTORS, DONE, rows(["star 3"])]),
    "stream": (SEARCH, STREAM, [*FIND, *LOOK[:2], VECTORS, rows(["star 3"])]),
    "jobs": (OF_JOBS, 0, [DONE, TRUE, JOBS, WORKERS]),
    "vector": (VECTOR_ALONE, 0, [VECTOR]),
    "halves": (VECTOR_ALONE, 0, [struct.pack(">hh3e", 3, 0, 0.5, 65504, 6e-8), b"\0"]),
    "no-table": (INGEST, 0, [DONE, NONE, NONE, rows(["contents, sentences"])]),
    "refused-connection": (INGEST, 0, [b"\3" + text("connection to server failed: FATAL:  53300: sorry, too many clients already")]),
    "copy": (INGEST, 0, [DONE, TABLE, b"\4"]),
    "denied": (INGEST, 0, [DONE, TABLE, error("42501", "permission denied for table t")]),
}


def seeds():
    for name, (what, how, answers) in SEEDS.items():
        yield name, bytes([what, how]) + b"".join(answers)
