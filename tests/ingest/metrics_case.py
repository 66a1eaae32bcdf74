"""What the tests of metrics share: golden texts, what is expected beside them, batch lines. Python's standard library alone."""
import json
import sqlite3
from contextlib import closing
from pathlib import Path

GOLDEN = json.loads((Path(__file__).resolve().parents[1] / "text" / "metrics_golden.json").read_text(encoding="utf-8"))
COLUMNS = "hawaiian_word_ratio, word_count, length, entity_count"


def list_files(folder: Path) -> tuple:
    """--wordlist and --wordlist-overrides of the golden texts."""
    words, overrides = folder / "words.txt", folder / "overrides.json"
    words.write_text("\n".join(GOLDEN["list"]) + "\n", encoding="utf-8", newline="")
    overrides.write_text(json.dumps(GOLDEN["overrides"]), encoding="utf-8")
    return "--wordlist", words, "--wordlist-overrides", overrides


def left_out(words: tuple) -> str:
    """What a run says of that list."""
    return f"vecmill: {words[1]}: 1 line is no single word and was left out (the first: {words[1]}:{GOLDEN['list'].index('e komo mai') + 1})\n"


def ratio_of(entry: dict) -> float | None:
    return entry["ratio"][0] / entry["ratio"][1] if entry["ratio"] else None


def golden_texts(nul: bool) -> list:
    """Those that are embedded: no blank ones, and none of ill-formed bytes; PostgreSQL holds no U+0000."""
    return [entry for entry in GOLDEN["texts"] if entry.get("text", "").strip() and (nul or "\0" not in entry["text"])]


def averages(entries: list, has_list: bool = True) -> str:
    """The end of a batch's line."""
    ratios = [ratio for ratio in map(ratio_of, entries) if has_list and ratio is not None]
    n = len(entries)
    ratio = f"{sum(ratios) / len(ratios):.3f}" if ratios else "n/a"
    words, length, names = (sum(entry[name] for entry in entries) / n for name in ("word_count", "length", "entity_count"))
    return f" | avg_ratio={ratio} avg_wc={words:.1f} avg_len={length:.1f} avg_ec={names:.2f}"


def make_sentences(path: Path, texts: list, table: str = "sentences") -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE {table}(sentenceid INTEGER PRIMARY KEY, hawaiiantext TEXT)")
        db.executemany(f"INSERT INTO {table}(hawaiiantext) VALUES(?)", [(text,) for text in texts])
        db.commit()
