#!/usr/bin/python3
"""tests/ingest/test_edits.py with processes that share a table in PostgreSQL; edits aim at what they have claimed.

  test_edits_shared.py --vecmill PATH [--model DIR] [--seconds N] [--seed S]
"""
import contextlib
import json
import random
import struct
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ingest"))
from servers import Server, SqlError  # noqa: E402
from test_edits import COLUMNS, N_ROWS, main  # noqa: E402


def little_endian(sent: str | None) -> bytes | None:
    if sent is None:
        return None
    return struct.pack(f"<{len(sent) // 8}f", *struct.unpack(f">{len(sent) // 8}f", bytes.fromhex(sent)))


class SharedTable:
    """t in a server; three processes work on it."""

    n_processes = 3

    def __init__(self, vecmill, server):
        self.server, self.editor = server, server.session()
        self.words = ("--db", server.uri, "--lease", 5)
        self.width = json.loads((Path(vecmill.model) / "config.json").read_text(encoding="utf-8"))["hidden_size"]

    def make(self, texts: list) -> None:
        rows = "".join(f"{i}\t{text}\n" for i, text in enumerate(texts))
        self.server.psql(f"""CREATE TABLE texts(n integer PRIMARY KEY, text text);
COPY texts FROM STDIN;
{rows}\\.
CREATE TABLE t({COLUMNS}, embedding vector({self.width}));
CREATE TABLE log(text text, embedding vector);
CREATE FUNCTION wrote() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO log VALUES(new.text, new.embedding); RETURN new; END$$;
CREATE TRIGGER wrote AFTER UPDATE OF embedding ON t FOR EACH ROW WHEN (new.embedding IS NOT NULL) EXECUTE FUNCTION wrote();
INSERT INTO t(id, text) SELECT i, texts.text || ' ' || i FROM generate_series(1, {N_ROWS}) AS i JOIN texts ON n = i % {len(texts)}""")

    def at(self, rng: random.Random) -> int:
        """Half of them within a page that somebody has claimed."""
        if rng.random() < 0.5:
            try:
                got = self.editor.sql("SELECT (first_key)[1], (last_key)[1] FROM vecmill.leases WHERE NOT done ORDER BY random() LIMIT 1")
                if got:
                    return rng.randint(*sorted(map(int, got[0])))
            except SqlError:  # before there are leases
                pass
        return rng.randrange(1, N_ROWS)

    def edit(self, sql: str) -> None:
        try:
            self.editor.sql(f"BEGIN; {sql}; COMMIT")
        except SqlError as problem:
            self.editor.sql("ROLLBACK")
            if problem.sqlstate not in ("23505", "40P01"):  # a key that is taken; two that wait for each other
                raise

    def end_editing(self) -> None:
        self.editor.close()

    def pairs(self, what: str) -> list:
        return [(text, little_endian(sent)) for text, sent in self.server.psql(f"SELECT {what} text, encode(substr(vector_send(embedding), 5), 'hex') "
                                                                               f"FROM {'log' if what else 't'}")]

    def rows(self) -> list:
        return self.pairs("")

    def log(self) -> list:
        return self.pairs("DISTINCT")


@contextlib.contextmanager
def shared_table(vecmill):
    with Server() as server:
        yield SharedTable(vecmill, server)


if __name__ == "__main__":
    sys.exit(main(shared_table))
