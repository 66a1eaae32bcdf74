#!/usr/bin/python3
"""What scripts/bench makes of results, with the measuring played by stand-ins."""
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
import figures  # noqa: E402

loader = importlib.machinery.SourceFileLoader("bench", str(ROOT / "scripts" / "bench"))
bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
loader.exec_module(bench)


def beside(peer: str, value: float) -> dict:
    return {"peer": peer, "value": value}


class Verdicts(unittest.TestCase):
    def test_the_faster_graph_counts(self):
        said = bench.verdicts([beside("onnxruntime, plain graph", 1.1), beside("onnxruntime, optimised", 1.3),
                               beside("sentence-transformers", 2.0)])
        self.assertEqual(said, ["  onnxruntime: 1.10 at the least; 1.2 wanted: MISSED",
                                "  sentence-transformers: 2.00 at the least; 2.0 wanted: reached"])

    def test_a_peer_that_is_absent_is_not_judged(self):
        self.assertEqual(bench.verdicts([beside("sentence-transformers", 1.99)]),
                         ["  sentence-transformers: 1.99 at the least; 2.0 wanted: MISSED"])


class Parts(unittest.TestCase):
    def run_main(self, *words):
        """(exit status, what was printed, results that were kept)."""
        with tempfile.TemporaryDirectory() as folder:
            parts = {name: lambda _model, name=name: [{"name": name, "workers": 1, "value": 1}]
                     for name in ("embed", "kernels", "cold", "memory")}
            out = io.StringIO()
            with mock.patch.object(bench, "PARTS", parts), mock.patch.object(bench, "ROOT", Path(folder)), \
                    mock.patch.object(figures, "FOLDER", Path(folder) / "docs"), \
                    mock.patch.object(bench, "prepare", lambda: Path("model")), \
                    mock.patch.object(sys, "argv", ["bench", *words]), \
                    contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                try:
                    status = bench.main()
                except SystemExit as stop:
                    status = stop.code
            kept = [result for path in (Path(folder) / "docs").glob("*.json")
                    for result in json.loads(path.read_text(encoding="utf-8"))["results"]]
            return status, out.getvalue(), kept

    def test_all_are_kept_with_one_stamp(self):
        status, _, kept = self.run_main()
        self.assertEqual((status, [result["name"] for result in kept]), (0, ["embed", "kernels", "cold", "memory"]))
        self.assertEqual(len({(result["commit"], result["date"]) for result in kept}), 1)

    def test_memory_is_skipped_and_told(self):
        status, said, kept = self.run_main("--skip-memory")
        self.assertEqual((status, [result["name"] for result in kept]), (0, ["embed", "kernels", "cold"]))
        self.assertIn("skipped (--skip-memory)", said)

    def test_one_part(self):
        self.assertEqual([result["name"] for result in self.run_main("--only", "ker")[2]], ["kernels"])
        status, said, kept = self.run_main("--only", "nonesuch")
        self.assertEqual((status, kept), (2, []))
        self.assertIn("no such part", said)

    def test_dry_keeps_nothing(self):
        self.assertEqual(self.run_main("--dry")[::2], (0, []))

    def test_company_is_told(self):
        for load, told in ((0.4, False), (0.6, True)):
            with mock.patch("os.getloadavg", lambda load=load: (load, 0, 0)):
                self.assertEqual("something else runs" in self.run_main("--dry")[1], told)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    n_failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)
