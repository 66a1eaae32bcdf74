#!/usr/bin/python3
"""The figures that README and guides show are those of docs/measured, rounded as they are written."""
import json
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = "docs/EMBEDDINGS_SPEEDUP_SUMMARY.md"
GUIDE = "docs/PARALLEL_EMBEDDINGS.md"
MODEL = {  # first cell: the peer of rows/s, and the name of the share
    "`vecmill embed` of the same texts, 2 workers": ("embed", None),
    "ingest, batches of 100": ("ingest 100", "ingest_pg_model_100_share"),
    "ingest, batches of 1,000": ("ingest 1000", "ingest_pg_model_1000_share"),
    "ingest, batches of 100, 1 worker": ("ingest 100, 1 workers", None),
    "the same, 4 workers on the 2 cores": ("ingest 100, 4 workers", None),
    "the same, 8 workers": ("ingest 100, 8 workers", None),
    "the Python script's way, batches of 100, 2 threads": ("python 100", None),
}
FREE = {  # first cell: the peer of rows/s, at batches of 100 and of 1,000
    "ingest, end to end, its schema made within: 4 connections, of which 2 write": "ingest",
    "the same with metrics, frequencies at the end included": "ingest, metrics",
    "the same without, `--connections 1`": "ingest, 1 connection",
    "bare COPY into a staging table + UPDATE .. FROM, 1 connection": "copy, 1 connection",
    "the same, 2 connections": "copy, 2 connections",
    "the same, 4 connections": "copy, 4 connections",
    "bare UPDATE .. FROM unnest, 1 connection": "unnest, 1 connection",
    "the Python script's way": "python",
}
SHARES = {  # first cell: the pair that the share is of
    "ingest as a share of COPY, 1 connection each": "ingest, 1 connection, of copy, 1 connection",
    "4 connections each": "ingest, of copy, 4 connections",
    "ingest with 4, COPY with the 2 that ingest writes by": "ingest, of copy, 2 connections",
    "4 connections each, ingest with metrics": "ingest, metrics, of copy, 4 connections",
}
INTEL = "genuineintel-6-167"
ON_INTEL = "On an Intel"
INTEL_MODEL = {"`vecmill embed`, 2 workers": "embed", "ingest, batches of 100": "ingest 100",
               "ingest, batches of 1,000": "ingest 1000", "the Python script's way, batches of 100": "python 100"}
INTEL_FREE = {
    "ingest, 4 connections": "ingest",
    "the same with metrics": "ingest, metrics",
    "ingest, 1 connection": "ingest, 1 connection",
    "COPY, 1 connection": "copy, 1 connection",
    "COPY, 4 connections": "copy, 4 connections",
    "the Python script's way": "python",
}


def measured(name: str, processor: str = "zen4", **wanted) -> dict:
    """The one result of this name with these values."""
    path = ROOT / "docs" / "measured" / f"{processor}.json"
    found = [result for result in json.loads(path.read_text(encoding="utf-8"))["results"]
             if result["name"] == name and all(result.get(key) == value for key, value in wanted.items())]
    assert len(found) == 1, f"{name} {wanted}: {len(found)} results"
    return found[0]


def row(document: str, first: str, section: str = "") -> list[str]:
    """The cells behind the one that reads so, bold or not; in the section whose heading begins so, or in none of a processor's own."""
    parts = re.split(r"^## ", (ROOT / document).read_text(encoding="utf-8"), flags=re.M)
    lines = [line for part in parts if part.startswith(section or "On an ") == bool(section) for line in part.splitlines()]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines if line.startswith("|")]
    found = [cells[1:] for cells in rows if re.sub(r"\*\*|, turn by turn", "", cells[0]) == first]
    assert len(found) == 1, f"{document}, {first}: {len(found)} rows"
    return found[0]


def is_rounded(written: str, value: float) -> bool:
    """Whether `written` is `value` to as many places as it shows, or to hundreds from 1,000 on."""
    number = float(written.replace(",", ""))
    places = len(written.partition(".")[2])
    step = 10.0 ** -places if places else 100 if number >= 1000 else 1
    return abs(number - value) <= step * 0.501


class Figures(unittest.TestCase):
    def check(self, text: str, values: list[float]):
        """That the numbers with which `text` begins are these."""
        written = re.findall(r"\d[\d,]*(?:\.\d+)?", text)
        self.assertGreaterEqual(len(written), len(values), text)
        for number, value in zip(written, values):
            self.assertTrue(is_rounded(number, value), f"{number} in '{text}': measured {value:g}")

    def check_spread(self, text: str, result: dict, factor: float = 1):
        self.check(text, [factor * result[key] for key in ("value", "low", "high")])

    def test_ingest_with_a_model(self):
        for first, (peer, share) in MODEL.items():
            rate, of_embed = row(SUMMARY, first)
            self.check_spread(rate, measured("ingest_pg_model", peer=peer))
            if share:
                self.check_spread(of_embed, measured(share), 100)

    def check_free(self, rates: dict, processor: str, section: str = ""):
        for first, peer in rates.items():
            for text, batch in zip(row(SUMMARY, first, section), (100, 1000), strict=True):
                self.check_spread(text, measured(f"ingest_pg_free_{batch}", processor, peer=peer))
        for first, pair in SHARES.items():
            for text, batch in zip(row(SUMMARY, first, section), (100, 1000), strict=True):
                self.check_spread(text, measured(f"ingest_pg_free_{batch}_share", processor, peer=pair), 100)

    def test_ingest_of_vectors_that_cost_nothing(self):
        self.check_free(FREE, "zen4")
        self.check_free(INTEL_FREE, INTEL, ON_INTEL)

    def test_ingest_with_a_model_on_intel(self):
        for first, peer in INTEL_MODEL.items():
            self.check_spread(row(SUMMARY, first, ON_INTEL)[0], measured("ingest_pg_model", INTEL, peer=peer))
        [said] = row(SUMMARY, "ingest as a share of `vecmill embed`, at 100 and at 1,000", ON_INTEL)
        for text, batch in zip(said.split("),"), (100, 1000), strict=True):
            self.check_spread(text, measured(f"ingest_pg_model_{batch}_share", INTEL), 100)

    def test_recommended_workers(self):
        said = row(GUIDE, "2 cores (Zen 4), PostgreSQL on the same machine")[2]
        rates = re.match(r"(\S+) rows/s of short sentences with 2 workers, (\S+) with 1, (\S+) with 4, (\S+) with 8; "
                         r"batches of 1,000: (\S+)$", said)
        self.assertTrue(rates, said)
        peers = ("ingest 100", "ingest 100, 1 workers", "ingest 100, 4 workers", "ingest 100, 8 workers", "ingest 1000")
        for text, peer in zip(rates.groups(), peers, strict=True):
            self.check(text, [measured("ingest_pg_model", peer=peer)["value"]])
        said = row(GUIDE, "fast database, vectors that cost nothing, 2 cores shared with the server")[2]
        rates = re.match(r"(\S+) rows/s; (\S+) with batches of 100$", said)
        self.assertTrue(rates, said)
        for text, batch in zip(rates.groups(), (1000, 100), strict=True):
            self.check(text, [measured(f"ingest_pg_free_{batch}", peer="ingest")["value"]])

    def test_live_index(self):
        text = " ".join((ROOT / GUIDE).read_text(encoding="utf-8").split())
        rates = re.search(r"bare updates of 1,000 rows: (\S+) rows/s without an index, (\S+) with IVFFlat, (\S+) with HNSW", text)
        self.assertTrue(rates)
        for said, index in zip(rates.groups(), ("no index", "ivfflat", "hnsw"), strict=True):
            self.check(said.rstrip(","), [measured("pg_live_index", peer=index)["value"]])

    def test_embedding(self):
        for first, name, kernels in (("long package descriptions (91 tokens), AVX-512", "embed_f32_long", "avx512"),
                                     ("long ones, AVX2", "embed_f32_long", "avx2"),
                                     ("short ones (12 tokens), AVX-512", "embed_f32_short", "avx512"),
                                     ("short ones, AVX2", "embed_f32_short", "avx2")):
            for text, workers in zip(row("README.md", first), (1, 2), strict=True):
                self.check(text, [100 * measured(name, workers=workers, kernels=kernels)["share"]])

    def test_embedding_beside_others(self):
        for first, peers in (("times as fast as ONNX Runtime 1.31 (its faster graph), long and short",
                              ("onnxruntime, plain graph", "onnxruntime, transformer-optimised graph")),
                             ("times as fast as sentence-transformers 6.2, long and short", ("sentence-transformers",))):
            for text, workers in zip(row("README.md", first), (1, 2), strict=True):
                said = re.findall(r"\d+\.\d+", text)
                for number, name in zip(said, ("embed_f32_long_beside", "embed_f32_short_beside"), strict=True):
                    self.check(number, [min(measured(name, workers=workers, peer=peer)["value"] for peer in peers)])


if __name__ == "__main__":
    unittest.main()
