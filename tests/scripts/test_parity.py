#!/usr/bin/python3
"""How scripts/parity reads what the comparisons say, and counts."""
import contextlib
import importlib.machinery
import importlib.util
import io
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("parity", str(ROOT / "scripts" / "parity"))
parity = importlib.util.module_from_spec(importlib.util.spec_from_loader("parity", loader))
loader.exec_module(parity)


def said_by(script: str) -> dict:
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        part = parity.compare(sys.executable, "-c", script)
    part["shown"] = shown.getvalue()
    return part


class Parity(unittest.TestCase):
    def test_versions_and_counts(self):
        part = said_by("print('tokenizers 0.23.3\\nat most 2: 3 tokens: 12 texts, 0 different\\n  DIFFERENT x\\n12 texts, 0 different')")
        self.assertEqual(part["versions"], {"tokenizers": "0.23.3"})
        self.assertEqual(part["comparisons"], [{"what": "at most 2: 3 tokens", "texts": 12, "different": 0}])
        self.assertTrue(part["equal"])
        self.assertIn("DIFFERENT x\n", part["shown"])
        self.assertEqual(parity.count({"a": part}), (1, 0))

    def test_differences_fail(self):
        part = said_by("print('a: 5 texts, 0 different\\nb: 5 texts, 2 different'); raise SystemExit(1)")
        self.assertEqual(parity.count({"a": part, "b": said_by("print('c: 1 texts, 0 different')")}), (2, 1))

    def test_stopping_short_fails(self):
        broken = said_by("import sys; print('a: 5 texts, 0 different'); sys.stdout.flush(); sys.exit(3)")
        self.assertEqual(parity.count({"a": broken}), (1, 1))
        self.assertEqual(parity.count({"a": said_by("pass")}), (0, 1))


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    n_failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)
