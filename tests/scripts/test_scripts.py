#!/usr/bin/python3
"""The front door's scripts, with apt-get, dpkg-query, id and sudo played by stand-ins; how figures are kept."""
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
import demo_data  # noqa: E402
import fetch_model  # noqa: E402
import figures  # noqa: E402
import make_fuzz_seeds  # noqa: E402

PACKAGES = """\
Package: ant
Version: 1.9-1
Section: java
Description: an old builder
Description-md5: 11

Package: ant
Version: 1.10-1
Section: java
Description: a builder
Description-md5: 12

Package: bee
Version: 2~rc1
Section: science
Description: makes honey
Description-md5: 22
"""
TRANSLATION = """\
Package: ant
Description-md5: 11
Description-en: an old builder
 Which nobody wants.

Package: ant
Description-md5: 12
Description-en: a builder
 First paragraph.
 .
  * indented

Package: bee
Description-md5: 99
Description-en: of another version
 Not this one.
"""


class Fixture(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.path = {**os.environ, "PATH": f"{self.bin}:/usr/bin:/bin", "FOLDER": str(self.folder)}

    def tearDown(self):
        self.temporary.cleanup()

    def stand_in(self, name, body):
        (self.bin / name).write_text("#!/bin/bash\n" + body)
        (self.bin / name).chmod(0o755)


class Versions(unittest.TestCase):
    def test_order_is_dpkgs(self):
        versions = ["1", "1.0", "1.0~rc1", "1.0-1", "1.0-1+b1", "1:0.5", "0:1.0", "1.10", "1.9", "1.0a", "1.0+",
                    "2.0-1~deb12u1", "2.0-1", "1.0-0", "1.0.0-2", "a1", "1.0~~", "1.0~", "10-1-1", "9-1-1"]
        for a in versions:
            for b in versions:
                theirs = subprocess.run(["dpkg", "--compare-versions", a, "lt", b], check=False,
                                        stderr=subprocess.DEVNULL).returncode == 0
                self.assertEqual(demo_data.version_key(a) < demo_data.version_key(b), theirs, (a, b))


class Table(Fixture):
    def make(self, update_status):
        (self.folder / "Packages").write_text(PACKAGES)
        (self.folder / "Translation").write_text(TRANSLATION)
        self.stand_in("apt-get", f"""case $* in
  *update*) exit {update_status} ;;
  *Packages*) printf 'Debian\\t%s\\nOther\\t%s\\n' "$FOLDER/Packages" /dev/null ;;
  *Translations*) printf 'Debian\\t%s\\nDebian\\t%s\\n' "$FOLDER/Translation" "$FOLDER/gone" ;;
esac""")
        (self.folder / "build").mkdir()
        done = subprocess.run([ROOT / "scripts" / "demo_data.py", "--db", "build/demo.db", "--jsonl", "build"],
                              cwd=self.folder, env=self.path, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=True)
        with sqlite3.connect(self.folder / "build" / "demo.db") as db:
            return db.execute("SELECT name, section, description FROM packages").fetchall(), done.stdout

    def test_newest_version_joined_by_md5(self):
        rows, said = self.make(0)
        self.assertEqual(rows, [("ant", "java", "a builder\nFirst paragraph.\n\n * indented"),
                                ("bee", "science", "makes honey")])
        self.assertIn("2 rows: 1 long descriptions, 1 short ones", said)

    def test_short_ones_where_the_long_cannot_be_had(self):
        rows, said = self.make(100)
        self.assertEqual([row[2] for row in rows], ["a builder", "makes honey"])
        self.assertIn("cannot fetch Debian's lists", said)
        self.assertIn("0 long descriptions, 2 short ones", said)

    def test_what_is_damaged_is_made_again(self):
        self.make(0)
        path = self.folder / "build" / "demo.db"
        command = [ROOT / "scripts" / "demo_data.py", "--db", path]
        for damage in (b"", b"no database at all" * 100, path.read_bytes()[:4096]):
            path.write_bytes(damage)
            done = subprocess.run(command, cwd=self.folder, env=self.path, text=True, capture_output=True, check=True)
            self.assertIn("demo.db is damaged or incomplete: kept as demo.db.damaged, made again", done.stderr)
            self.assertEqual(path.with_name("demo.db.damaged").read_bytes(), damage)
            with contextlib.closing(sqlite3.connect(path)) as db:
                self.assertEqual(db.execute("SELECT count(*) FROM packages").fetchone(), (2,))

    def test_second_time_leaves_all_alone(self):
        self.make(0)
        before = {path: path.stat().st_mtime_ns for path in (self.folder / "build").glob("d*")}
        self.stand_in("apt-get", "exit 9")
        done = subprocess.run([ROOT / "scripts" / "demo_data.py", "--db", "build/demo.db", "--jsonl", "build"],
                              cwd=self.folder, env=self.path, stdout=subprocess.PIPE, check=True)
        self.assertEqual(done.stdout, b"")
        self.assertEqual(before, {path: path.stat().st_mtime_ns for path in before})


class Packages(Fixture):
    def run_script(self, uid, missing, sudo=None):
        self.stand_in("dpkg-query", f'[ "${{@: -1}}" = {missing} ] || echo -n installed')
        self.stand_in("apt-get", 'echo "$@" >>"$FOLDER/calls"')
        self.stand_in("id", f"echo {uid}")
        self.stand_in("sudo", sudo or "exit 1")
        done = subprocess.run([ROOT / "scripts" / "packages", "run"], env=self.path, text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        calls = self.folder / "calls"
        return done, calls.read_text() if calls.exists() else ""

    def test_nothing_missing_calls_nothing(self):
        done, calls = self.run_script(1000, "nonesuch")
        self.assertEqual((done.returncode, done.stdout, done.stderr, calls), (0, "", "", ""))

    def test_root_installs_what_is_missing(self):
        done, calls = self.run_script(0, "meson")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(calls, "-q -y update\n-q -y install --no-install-recommends meson\n")

    def test_user_with_sudo_installs(self):
        done, calls = self.run_script(1000, "meson", sudo='[ "$1" = -n ] && exit 0; exec "$@"')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("install --no-install-recommends meson", calls)

    def test_user_without_sudo_is_told_one_line(self):
        done, calls = self.run_script(1000, "meson")
        self.assertEqual((done.returncode, calls), (1, ""))
        line = "  sudo apt-get update && sudo apt-get install -y --no-install-recommends meson\n"
        self.assertTrue(done.stderr.endswith(line), done.stderr)

    def test_failure_is_told(self):
        self.run_script(0, "meson")
        self.stand_in("apt-get", "echo no such mirror; exit 100")
        done = subprocess.run([ROOT / "scripts" / "packages", "run"], env=self.path, text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such mirror", done.stderr)


class Figures(unittest.TestCase):
    def test_processors_have_names(self):
        for vendor, family, model, name in [("AuthenticAMD", 25, 17, "zen4"), ("AuthenticAMD", 25, 97, "zen4"),
                                            ("AuthenticAMD", 25, 1, "zen3"), ("AuthenticAMD", 25, 33, "zen3"),
                                            ("AuthenticAMD", 26, 2, "zen5"), ("GenuineIntel", 6, 143, "genuineintel-6-143")]:
            said = figures.processor(f"vendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n"
                                     "model name\t: A B\nflags\t\t: fpu avx2 fma avx512f\n\nmodel\t\t: 99\n")
            self.assertEqual((said["name"], said["brand"]), (name, "A B"))
            self.assertEqual(said["features"], ["avx2", "fma", "avx512f"])

    def test_new_results_replace_their_own_kind(self):
        old = [{"name": "a", "workers": 1, "value": 1}, {"name": "a", "workers": 2, "value": 2}, {"name": "b", "value": 3}]
        new = [{"name": "c", "value": 5}, {"name": "a", "workers": 2, "value": 4}]
        self.assertEqual([result["value"] for result in figures.merge(old, new)], [1, 4, 3, 5])
        other = [{"name": "a", "workers": 1, "kernels": "avx2", "value": 6}, {"name": "a", "workers": 1, "peer": "x", "value": 7}]
        self.assertEqual([result["value"] for result in figures.merge(old[:1], other)], [1, 6, 7])

    def test_each_result_has_its_commit(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "here.json"
            figures.save([{"name": "a", "value": 1}], path)
            figures.save([{"name": "b", "value": 2}], path)
            kept = json.loads(path.read_text(encoding="utf-8"))
        self.assertEqual([result["name"] for result in kept["results"]], ["a", "b"])
        self.assertTrue(all(result["commit"] and result["date"] for result in kept["results"]))


class FetchedModel(Fixture):
    def test_whole_or_not(self):
        self.assertFalse(fetch_model.is_whole(self.folder / "absent"))
        weights = self.folder / "model.safetensors"
        (self.folder / "1_Pooling").mkdir()
        pooling = self.folder / "1_Pooling" / "config.json"
        weights.write_bytes(b"weights")
        pooling.write_text("{}")
        self.assertFalse(fetch_model.is_whole(self.folder), "somebody else's, without a list")
        fetch_model.write_list(self.folder)
        self.assertTrue(fetch_model.is_whole(self.folder))
        weights.write_bytes(b"weigh")
        self.assertFalse(fetch_model.is_whole(self.folder), "cut short")
        weights.write_bytes(b"weights")
        pooling.unlink()
        self.assertFalse(fetch_model.is_whole(self.folder), "a file gone")
        (self.folder / fetch_model.LIST).write_text("[]")
        self.assertFalse(fetch_model.is_whole(self.folder), "a list of nothing")

    def test_leftovers(self):
        for name, age in ((".fetch-old", 2 * fetch_model.STALE_SECONDS), (".fetch-new", 0), ("other", 2 * fetch_model.STALE_SECONDS)):
            (self.folder / name / "model").mkdir(parents=True)
            os.utime(self.folder / name, (time.time() - age,) * 2)
        fetch_model.remove_leftovers(self.folder)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [".fetch-new", "bin", "other"])


class FuzzSeeds(Fixture):
    def test_committed(self):
        """What lies in fuzz/corpus is what the script writes, and JSON that one can read."""
        make_fuzz_seeds.write(self.folder / "corpus")
        written, there = ({str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
                          for folder in (self.folder / "corpus", make_fuzz_seeds.CORPUS))
        self.assertEqual([name for name in written if there.get(name) != written[name]], [], "scripts/make_fuzz_seeds.py writes them otherwise")
        for name in there.keys() - written.keys():
            self.assertTrue(name.endswith(".json") and there[name].decode("ascii").replace("\n", "").isprintable(), f"{name}: not written by the script")

    def test_targets(self):
        """Seeds are for targets that there are."""
        for folder in make_fuzz_seeds.CORPUS.iterdir():
            self.assertTrue((ROOT / "fuzz" / f"fuzz_{folder.name}.c").exists(), folder.name)


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=0).result
    n_failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)
