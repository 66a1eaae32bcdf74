#!/usr/bin/python3
"""The environment of the peers: what counts as complete, what is done when it is not. Nothing is fetched."""
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
import peers  # noqa: E402


class Peers(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.python = self.folder / "home" / "peers" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        patches = [mock.patch.dict(os.environ, {"VECMILL_HOME": str(self.folder / "home")}),
                   mock.patch.object(peers, "REQUIREMENTS", self.folder / "peers.txt")]
        for patch in patches:
            patch.start()
            self.addCleanup(patch.stop)
        self.addCleanup(self.temporary.cleanup)
        (self.folder / "peers.txt").write_text("# a comment\none==1.0\n\ntwo==2.5\n")

    def environment(self, one="1.0", two="2.5+local", pip="exit 9"):
        """A Python that knows these distributions and no others; its pip is played by a line of shell."""
        for name, version in (("one", one), ("two", two)):
            info = self.folder / "site" / f"{name}-{version}.dist-info"
            info.mkdir(parents=True, exist_ok=True)
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        self.python.write_text(f'#!/bin/bash\nif [ "$2" = pip ]; then echo "$@" >>"{self.folder}/calls"; {pip}; fi\n'
                               f'PYTHONPATH="{self.folder}/site" exec /usr/bin/python3 "$@"\n')
        self.python.chmod(0o755)

    def ensure(self):
        """(what ensure gave or said when it gave up, how pip was called); the venv module is not run."""
        run = subprocess.run

        def without_venv(command, **options):
            if command[1:3] == ["-m", "venv"]:
                return subprocess.CompletedProcess(command, 0)
            return run(command, **options)

        with mock.patch.object(subprocess, "run", without_venv), contextlib.redirect_stderr(io.StringIO()):
            try:
                said = peers.ensure()
            except SystemExit as stop:
                said = stop.code
        calls = self.folder / "calls"
        return said, calls.read_text() if calls.exists() else ""

    def test_complete_is_left_alone(self):
        self.environment()
        self.assertEqual(self.ensure(), (self.python, ""))

    def test_other_version_is_not_complete(self):
        self.environment(two="2.6")
        self.assertFalse(peers.is_complete(self.python))

    def test_absent_is_not_complete(self):
        self.assertFalse(peers.is_complete(self.python))
        self.environment()
        (self.folder / "peers.txt").write_text("one==1.0\nthree==3\n")
        self.assertFalse(peers.is_complete(self.python))

    def test_what_lacks_is_installed(self):
        new = self.folder / "site" / "two-2.5.dist-info"
        old = self.folder / "site" / "two-2.4.dist-info"
        self.environment(two="2.4", pip=f"mv {old} {new}; sed -i s/2.4/2.5/ {new}/METADATA; exit 0")
        said, calls = self.ensure()
        self.assertEqual(said, self.python)
        self.assertIn(f"install --quiet --disable-pip-version-check -r {self.folder / 'peers.txt'}", calls)

    def test_failure_is_told(self):
        self.environment(two="2.4", pip="exit 3")
        self.assertIn("vecmill: cannot install the peers: pip exited 3", self.ensure()[0])
        self.environment(two="2.4", pip="exit 0")
        self.assertIn("still lacks pinned versions", self.ensure()[0])


class Pins(unittest.TestCase):
    def test_every_version_is_exact(self):
        pins = peers.pins()
        self.assertGreater(len(pins), 9)
        for pin in pins:
            self.assertRegex(pin, r"^[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*$")
        names = [re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins]
        self.assertEqual(len(names), len(set(names)))


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    n_failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)
