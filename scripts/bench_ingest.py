#!/usr/bin/python3
"""make bench-ingest: rows/s into PostgreSQL with pgvector, end to end, beside what bounds it; in turns, in one run.

  scripts/bench_ingest.py                  all of it; kept in docs/measured/PROCESSOR.json
  scripts/bench_ingest.py --only free      vectors that cost nothing, beside COPY + UPDATE .. FROM and unnest
  scripts/bench_ingest.py --only model     all-MiniLM-L6-v2, beside `vecmill embed` of the same texts
  scripts/bench_ingest.py --only index     bare updates of a column with a live index of pgvector, a twenty-fifth of the rows
  scripts/bench_ingest.py .. --turns 5 --rows 100000 --model-rows 1500 --dry

In every turn, on the same rows, the Python script's way too (sentence-transformers, psycopg2, one UPDATE a row); --no-python
leaves it out.

The server is PostgreSQL 16 with fsync=on, WAL segments of 16 MB and 512 MB of shared buffers, on this machine: it shares the
processors with its client. Before each measurement the table is made anew, analysed, and a checkpoint done. vecmill
is timed from before it connects (its schema is created within), `vecmill` commands as whole processes; the bare
statements from their first to their last, vectors, messages and connections ready; Python from its first SELECT, model and connection
ready. Nothing else may run beside it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "pg"))
import corpus  # noqa: E402
import figures  # noqa: E402
import peers  # noqa: E402
from servers import Server, clean_environment  # noqa: E402

BUILD = ROOT / "build"
VECMILL = BUILD / "vecmill"
BENCH = BUILD / "bench" / "bench-ingest"
BATCHES = (100, 1000)
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
N_USUAL = 4  # connections of ingest, of which two write (src/store/pg_store.h)
N_CPUS = len(os.sched_getaffinity(0))


def texts_of(n: int) -> list:
    rows = corpus.make_rows(2 * n, 1, n_sentences=1)
    return [(row.id, row.text) for row in rows if not row.blank][:n]


class Table:
    """The table t, made anew from `source` before each measurement, looked at after it."""

    def __init__(self, server, n: int):
        self.server, self.texts = server, texts_of(n)
        server.psql("DROP TABLE IF EXISTS source; CREATE TABLE source(id bigint PRIMARY KEY, text text)",
                    options="-c client_min_messages=error")
        corpus.copy_in(server, "source", "id, text", self.texts)

    def renew(self, index: str = "") -> None:
        self.server.psql("DROP SCHEMA IF EXISTS vecmill CASCADE; DROP TABLE IF EXISTS t, t_metrics; CREATE TABLE t(id bigint PRIMARY KEY,"
                         " text text, embedding vector(384)); INSERT INTO t SELECT * FROM source; ANALYZE t; " + index +
                         " CHECKPOINT",
                         options="-c client_min_messages=error")

    def check(self, way: str) -> None:
        got = int(self.server.psql("SELECT count(embedding) FROM t")[0][0])
        if got != len(self.texts):
            sys.exit(f"vecmill: cannot measure: {way} wrote {got} of {len(self.texts)} rows")


def run(command: list, way: str, **options) -> subprocess.CompletedProcess:
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          check=False, cwd=tempfile.gettempdir(), env=clean_environment(), **options)
    if done.returncode:
        sys.exit(f"vecmill: cannot measure: {way}: {done.stderr}")
    return done


def by_json(table: Table, command: list, way: str, index: str = "") -> float:
    """Rows a second, as the program says."""
    table.renew(index)
    said = json.loads(run(command, way).stdout.splitlines()[-1])
    table.check(way)
    return said["rows"] / said["seconds"]


def free_arms(table: Table, batch: int) -> dict:
    database = table.server.conninfo

    def bench(way, *words):
        return lambda: by_json(table, [BENCH, way, database, "t", batch, *words], way)
    return {"ingest": bench("run", 0, N_CPUS), "ingest, metrics": bench("run", 0, N_CPUS, "metrics"),
            "ingest, 1 connection": bench("run", 1, N_CPUS), "copy, 1 connection": bench("copy", 1),
            "copy, 2 connections": bench("copy", 2), f"copy, {N_USUAL} connections": bench("copy", N_USUAL),
            "unnest, 1 connection": bench("unnest", 1)}


def whole(table: Table | None, command: list, n: int, way: str) -> float:
    """Rows a second of a whole process."""
    if table:
        table.renew()
    start = time.perf_counter()
    run(command, way)
    seconds = time.perf_counter() - start
    if table:
        table.check(way)
    return n / seconds


def model_arms(table: Table, model: Path, folder: Path) -> dict:
    path, n = folder / "texts.jsonl", len(table.texts)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for _, text in table.texts), encoding="utf-8")
    embed = [VECMILL, "embed", path, "--model", model, "--input", "jsonl", "--format", "npy", "-o", folder / "vectors.npy"]

    def ingest(batch, workers="auto"):
        return lambda: whole(table, [VECMILL, "ingest", "t", batch, "--db", table.server.conninfo, "--model", model,
                                     "--progress", "off", "--workers", workers], n, "ingest")
    return {"embed": lambda: whole(None, embed, n, "embed"), **{f"ingest {batch}": ingest(batch) for batch in BATCHES},
            **{f"ingest 100, {workers} workers": ingest(100, workers) for workers in (1, 2 * N_CPUS, 4 * N_CPUS)}}


def python_arms(table: Table, batch: int, model: Path | None, arguments) -> dict:
    if arguments.no_python:
        return {}
    words = [model, N_CPUS] if model else []
    command = [peers.ensure(), ROOT / "scripts" / "bench_python_ingest.py", table.server.conninfo, "t", batch, *words]
    return {"python" + (f" {batch}" if model else ""): lambda: by_json(table, command, "python")}


def index_arms(table: Table) -> dict:
    def bench(method=None):
        index = f"CREATE INDEX ON t USING {method} (embedding vector_cosine_ops);" if method else ""
        return lambda: by_json(table, [BENCH, "unnest", table.server.conninfo, "t", 1000, 1], "unnest", index)
    return {"no index": bench(), "ivfflat": bench("ivfflat"), "hnsw": bench("hnsw")}


def take_turns(title: str, arms: dict, n_turns: int) -> dict:
    """Each arm once a turn; {arm: [rows/s]}."""
    took = {name: [] for name in arms}
    for _ in range(n_turns):
        for name, arm in arms.items():
            took[name].append(arm())
    print(title)
    for name, rates in took.items():
        print(f"  {name:24} {statistics.median(rates):9.0f} rows/s ({min(rates):.0f} to {max(rates):.0f}, {len(rates)} turns)", flush=True)
    return took


def result(name: str, rates: list, n_rows: int, **more) -> dict:
    return {"name": name, "workers": N_CPUS, "value": round(statistics.median(rates), 1), "unit": "rows/s", "low": round(min(rates), 1),
            "high": round(max(rates), 1), "turns": len(rates), "rows": n_rows, **more}


def share(name: str, ours: list, theirs: list, peer: str, wanted: float | None, n_rows: int) -> dict:
    """Ours over theirs, turn by turn."""
    ratios = [a / b for a, b in zip(ours, theirs)]
    verdict = f"; {100 * wanted:.0f} wanted: {'reached' if statistics.median(ratios) >= wanted else 'MISSED'}" if wanted else ""
    print(f"  {100 * statistics.median(ratios):.1f} %: {peer} ({100 * min(ratios):.1f} to {100 * max(ratios):.1f}){verdict}", flush=True)
    return result(name, ratios, n_rows, unit="share", peer=peer) | {"value": round(statistics.median(ratios), 4),
                                                                    "low": round(min(ratios), 4), "high": round(max(ratios), 4)}


def measure_free(server, arguments, _model) -> list:
    table, results = Table(server, arguments.rows), []
    for batch in arguments.batch:
        arms = free_arms(table, batch) | python_arms(table, batch, None, arguments)
        took = take_turns(f"vectors that cost nothing, batches of {batch}, {arguments.rows} rows", arms, arguments.turns)
        results += [result(f"ingest_pg_free_{batch}", rates, arguments.rows, peer=name) for name, rates in took.items()]
        for ours, theirs in (("ingest, 1 connection", "copy, 1 connection"), ("ingest", "copy, 2 connections"),
                             ("ingest", f"copy, {N_USUAL} connections"), ("ingest, metrics", f"copy, {N_USUAL} connections")):
            same_connections = theirs in ("copy, 1 connection", f"copy, {N_USUAL} connections")
            wanted = 0.8 if batch == 1000 and same_connections and "metrics" not in ours else None
            results.append(share(f"ingest_pg_free_{batch}_share", took[ours], took[theirs], f"{ours}, of {theirs}", wanted, arguments.rows))
    return results


def measure_model(server, arguments, model) -> list:
    table, n = Table(server, arguments.model_rows), arguments.model_rows
    with tempfile.TemporaryDirectory() as folder:
        arms = model_arms(table, model, Path(folder)) | python_arms(table, 100, model, arguments)
        took = take_turns(f"all-MiniLM-L6-v2, {n} rows", arms, arguments.turns)
    results = [result("ingest_pg_model", rates, n, peer=name) for name, rates in took.items()]
    return results + [share(f"ingest_pg_model_{batch}_share", took[f"ingest {batch}"], took["embed"], f"ingest {batch}, of embed", 0.95, n)
                      for batch in BATCHES]


def measure_index(server, arguments, _model) -> list:
    table, n = Table(server, arguments.rows // 25), arguments.rows // 25
    took = take_turns(f"a live index, bare updates of 1000 rows, {n} rows", index_arms(table), arguments.turns)
    return [result("pg_live_index", rates, n, peer=name) for name, rates in took.items()]


PARTS = {"free": measure_free, "model": measure_model, "index": measure_index}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100000)
    parser.add_argument("--model-rows", type=int, default=6000)
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--no-python", action="store_true")
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    subprocess.run(["ninja", "-C", BUILD, "bench/bench-ingest"], check=True, stdout=subprocess.DEVNULL)
    found = subprocess.run([ROOT / "scripts/fetch_model.py"], check=True, stdout=subprocess.PIPE, text=True)
    taken, load = figures.stamp(), os.getloadavg()[0]
    print(f"load average {load:.2f} at the start")
    for name in [arguments.only] if arguments.only else list(PARTS):
        with Server(fsync=True, wal_segment_mb=16, settings=SETTINGS) as server:
            results = PARTS[name](server, arguments, Path(found.stdout.strip()))
        if not arguments.dry:
            print(f"written to {figures.save([{**one, 'load_average': round(load, 2)} for one in results], taken=taken).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
