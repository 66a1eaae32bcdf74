#!/usr/bin/python3
"""10,000 sentences by any number of workers and processes: the same vectors and metrics to the byte, each row embedded once.

  test_workers.py --vecmill PATH [--model DIR] [NAME..]

Runs are compared with each other as the server's own bytes; the first one with what `vecmill embed` makes of the same
texts and with counts that Python makes. How often the model ran is counted by its calls (VECMILL_COUNT_CALLS).
"""
import array
import collections
import json
import os
import re
import struct
import sys
import time
import unicodedata
from pathlib import Path

sys.dont_write_bytecode = True
import corpus
from runs import each_written_once, fresh, log_writes  # noqa: E402, first: it sets the path
from ingest_case import expect, made_alone, run_tests  # noqa: E402

N_ROWS = 2000 if os.environ.get("VECMILL_TEST") == "short" else 10000
SEED = 4
TABLE = """SELECT sentenceid, encode(substr(vector_send(embedding), 5), 'hex'), float4send(hawaiian_word_ratio), word_count, length, entity_count, frequency
  FROM sentences LEFT JOIN sentence_metrics USING (sentenceid) ORDER BY 1"""


def little_endian(sent: str) -> bytes:
    """What vector_send gives, as memory has it elsewhere."""
    numbers = array.array("f", bytes.fromhex(sent))
    numbers.byteswap()
    return numbers.tobytes()


def word_list(folder: Path) -> Path:
    path = folder / "words.txt"
    path.write_text("\n".join(corpus.PARTICLES + corpus.WORDS) + "\n", encoding="utf-8")
    return path


def filled(server, vecmill) -> list:
    """The table as it is before every run, with a column as wide as the model."""
    width = json.loads((Path(vecmill.model) / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    corpus.create(server, ["sentences"])
    if width != 384:
        server.psql(f"ALTER TABLE sentences DROP COLUMN embedding; ALTER TABLE sentences ADD COLUMN embedding vector({width})")
    rows = corpus.fill(server, "sentences", N_ROWS, seed=SEED)
    log_writes(server, "sentences", "sentenceid")
    return rows


def run_processes(vecmill, server, folder: Path, n: int, *words) -> list:
    """How many rows each embedded, all having ended well and at the table's end; the model has run once on each row's text."""
    calls = folder / "calls"
    calls.unlink(missing_ok=True)
    words += ("--wordlist", word_list(folder), "--create-metrics", "--db", server.uri_of(), "--model", vecmill.model)
    runs = [vecmill.start("ingest", "sentences", *words, env=vecmill.environment | {"VECMILL_COUNT_CALLS": str(calls)}) for _ in range(n)]
    told = [run.communicate(timeout=600) for run in runs]
    ends = [(run.returncode, errors) for run, (_, errors) in zip(runs, told)]
    expect(ends == [(0, "")] * n, str(ends))
    n_texts = struct.unpack("=QQ", calls.read_bytes())[0]
    to_embed = int(server.psql("SELECT count(embedding) FROM sentences")[0][0])
    expect(n_texts == to_embed, f"the model ran on {n_texts} texts for {to_embed} rows")
    each_written_once(server, to_embed)
    for output, _ in told:
        places = re.findall(r"Progress: (\d+) / (\d+)", output)
        expect(places[-1] == (str(to_embed),) * 2, f"the last line: {places[-1]} of {to_embed}")
        expect(all(int(a[0]) < int(b[0]) for a, b in zip(places, places[1:])), "progress that does not rise")
    return [int(re.search(r"^Embedded (\d+) ", output, re.MULTILINE)[1]) for output, _ in told]


def check_vectors(vecmill, folder: Path, rows: list, got: list) -> None:
    """As another command makes them of the texts alone."""
    wanted = {row.id: row.text for row in rows if not row.blank}
    alone = made_alone(vecmill, folder, list(dict.fromkeys(wanted.values())))
    wrong = [int(key) for key, vector, *_ in got if vector and little_endian(vector) != alone[wanted[int(key)]]]
    expect(not wrong, f"{len(wrong)} vectors are not their texts': {wrong[:5]}")


def check_metrics(rows: list, got: list) -> None:
    """What Python counts too; of ratio and names that each kind of them is there."""
    n_rows = collections.Counter(row.text for row in rows)
    wanted = [(row.id, len(row.text.split()), len(row.text), n_rows[row.text]) for row in rows if not row.blank]
    told = [(int(key), int(words), int(length), int(frequency)) for key, vector, _, words, length, _, frequency in got if vector]
    expect(told == wanted, f"other counts: {[pair for pair in zip(told, wanted) if pair[0] != pair[1]][:3]}")
    blanks = {str(row.id) for row in rows if row.blank}
    expect(all((row[0] in blanks) == (row[1:] == (None,) * 6) for row in got), "blank rows, and no others, have neither vector nor metrics")
    ratios = {row[2] for row in got if row[2]}
    names = {row[5] for row in got if row[5]}
    expect(len(ratios) > 20 and len(names) > 2, f"{len(ratios)} ratios, {len(names)} counts of names")


def check_corpus(rows: list) -> None:
    """Of what makes texts hard each is there: twins, blanks, the five okina forms, macrons as one and as two code points."""
    texts = [row.text for row in rows if not row.blank]
    expect(len(rows) - len(texts) > N_ROWS // 100 and len(texts) - len(set(texts)) > N_ROWS // 40, "blanks and twins")
    missing = [hex(ord(form)) for form in (corpus.OKINA, *corpus.OTHER_OKINAS) if sum(form in text for text in texts) < N_ROWS // 500]
    expect(not missing, f"okina forms that hardly any text has: {missing}")
    for form in ("NFC", "NFD"):
        expect(sum(unicodedata.normalize(form, text) == text != unicodedata.normalize("NFKD" if form == "NFC" else "NFC", text) for text in texts) > N_ROWS // 40, form)


def test_workers(vecmill, folder):
    """Workers 1, 2, 4 and 8, two and four processes: one table, as if one worker had made it."""
    kept = rows = None
    for n_processes, workers, batch in ((1, 1, 100), (1, 2, 100), (1, 4, 100), (1, 8, 100), (2, 2, 50), (4, 1, 25)):
        with fresh() as server:
            rows = filled(server, vecmill)
            from_s = time.monotonic()
            shares = run_processes(vecmill, server, folder, n_processes, batch, "--workers", workers, *(["--sleep", 0.005] if n_processes > 1 else []))
            took_s = time.monotonic() - from_s
            got = server.psql(TABLE)
        if kept is None:
            check_corpus(rows)
            check_vectors(vecmill, folder, rows, got)
            check_metrics(rows, got)
            kept = got
        expect(got == kept, f"{n_processes} processes of {workers} workers: "
                            f"{sum(a != b for a, b in zip(got, kept))} rows other than with one worker")
        expect(min(shares) > 0, f"processes that did nothing: {shares}")
        print(f"  each of {sum(shares)} texts embedded once by {n_processes} x {workers} workers ({', '.join(map(str, shares))}), {took_s:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(run_tests({"test_workers": test_workers}))
