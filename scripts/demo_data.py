#!/usr/bin/python3
"""Makes the demo's table, and the files that benchmarks read, from Debian's package descriptions.

  demo_data.py --db build/demo.db     packages(name TEXT PRIMARY KEY, section TEXT, description TEXT)
  demo_data.py --jsonl build          descriptions-long.jsonl and descriptions-short.jsonl, {"text": ...} a line

What exists already is left alone. The descriptions are fetched by apt-get into a
folder of our own under build/, so that the system's lists stay as they are and no
root is needed: long ones from Translation-en, section and short ones from Packages,
joined by name and Description-md5. One row a name, the newest version's. Where the
long ones cannot be had, the short ones are taken, and the output says so.
"""
import argparse
import contextlib
import functools
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

APT_HELPER = "/usr/lib/apt/apt-helper"
LISTS = Path("build/debian-lists")


def apt_environment() -> dict:
    """apt with lists and cache of its own; the system's update hooks belong to the system's lists and stay off."""
    folder = LISTS.resolve()
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    own = '#include "/etc/apt/apt.conf";\n' if Path("/etc/apt/apt.conf").exists() else ""
    own += "".join(f"#clear {name};\n" for name in (
        "APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success",
        "Acquire::Languages"))
    own += 'Acquire::Languages "en";\n'
    own += 'APT::Sandbox::User "";\n'  # the folder may lie where apt's own user cannot read
    for index in ("deb::DEP-11", "deb::Contents-deb", "deb-src::Sources"):
        own += f'Acquire::IndexTargets::{index}::DefaultEnabled "false";\n'
    (folder / "main.conf").write_text(own)
    # read before the system's configuration; the file it names is read after it, and so has the last word
    (folder / "apt.conf").write_text(
        f'Dir::Etc::main "{folder}/main.conf";\n'
        f'Dir::State::lists "{folder}/lists";\nDir::Cache "{folder}/cache";\n')
    return {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C.UTF-8"}


def update(environment: dict) -> bool:
    result = subprocess.run(["apt-get", "-q", "update"], env=environment, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        tail = " ".join(result.stdout.strip().splitlines()[-2:])
        print(f"vecmill: cannot fetch Debian's lists: {tail} (taking what is here)", file=sys.stderr)
    return result.returncode == 0


def index_files(created_by: str, environment: dict | None) -> list[str]:
    """The files of Debian's own archives among the configured sources; all of them where none is Debian's."""
    lines = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(FILENAME)", f"Created-By: {created_by}"],
        env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    rows = [row for row in rows if len(row) == 2 and os.path.exists(row[1])]
    debian = [name for origin, name in rows if origin == "Debian"]
    return debian or [name for _, name in rows]


def records(path: str):
    """The records of an index file as dictionaries; continuation lines keep their line breaks."""
    with subprocess.Popen([APT_HELPER, "cat-file", path], stdout=subprocess.PIPE, text=True,
                          encoding="utf-8", errors="replace") as process:
        record, name = {}, None
        for line in process.stdout:
            if line == "\n":
                if record:
                    yield record
                record, name = {}, None
            elif line[0] in " \t":
                if name:
                    record[name] += "\n" + line[1:].rstrip()
            else:
                name, _, value = line.partition(":")
                record[name] = value.strip()
        if record:
            yield record
    if process.returncode != 0:
        sys.exit(f"vecmill: cannot read {path}: apt-helper exited {process.returncode}")


def part_key(text: str):
    """Debian policy 5.6.12: non-digits compare with ~ first, then the end, then letters, then the rest; digits by value."""
    key = []
    for letters, digits in re.findall(r"(\D*)(\d*)", text):
        order = [-1 if c == "~" else ord(c) if c.isalpha() else ord(c) + 256 for c in letters]
        key.append((order + [0], int(digits or 0)))
    return key


@functools.lru_cache(maxsize=None)
def version_key(version: str):
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, _, revision = rest.rpartition("-")
    return int(epoch), part_key(upstream or revision), part_key(revision if upstream else "0")


def plain(description: str) -> str:
    """The control file's form undone: a line with a lone dot is an empty one."""
    lines = ["" if line.strip() == "." else line for line in description.split("\n")]
    return "\n".join(lines).strip()


def read_packages(environment: dict | None):
    """name -> (version, section, short description, Description-md5), the newest version of each."""
    newest = {}
    for path in index_files("Packages", environment):
        for record in records(path):
            name, version = record["Package"], record["Version"]
            if name in newest and version_key(version) <= version_key(newest[name][0]):
                continue
            newest[name] = (version, record.get("Section", ""),
                            record.get("Description", "").split("\n")[0], record.get("Description-md5"))
    return newest


def read_long(environment: dict):
    long = {}
    for path in index_files("Translations", environment):
        for record in records(path):
            if "Description-en" in record:
                long[record["Package"], record.get("Description-md5")] = plain(record["Description-en"])
    return long


def descriptions():
    """Rows (name, section, long or None, short), sorted by name."""
    environment = apt_environment()
    updated = update(environment)
    packages = read_packages(environment)
    if not packages:
        environment = None  # the system's own lists
        packages = read_packages(None)
    if not packages:
        sys.exit("vecmill: cannot make the demo's table: apt has no package lists (run: apt-get update)")
    long = read_long(environment) if updated else {}
    return [(name, section, long.get((name, md5)), short)
            for name, (_, section, short, md5) in sorted(packages.items())]


def replace(path: Path, write) -> None:
    """path appears whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.unlink(missing_ok=True)
    write(temporary)
    os.replace(temporary, path)


def write_db(path: Path, rows) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE packages(name TEXT PRIMARY KEY, section TEXT, description TEXT)")
    db.executemany("INSERT INTO packages VALUES (?, ?, ?)", rows)
    db.commit()
    db.close()


def write_jsonl(path: Path, texts) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def make_db(path: Path, rows) -> None:
    n_long = sum(1 for row in rows if row[2])
    table = [(name, section, long or short) for name, section, long, short in rows]
    replace(path, lambda temporary: write_db(temporary, table))
    mean = sum(len(row[2]) for row in table) / len(table)
    print(f"{path}: table packages, {len(table):,} rows: {n_long:,} long descriptions, "
          f"{len(table) - n_long:,} short ones, {mean:.0f} characters on average")


def make_jsonl(folder: Path, rows) -> None:
    long = [row[2] for row in rows if row[2]] or [row[3] for row in rows]
    short = [row[3] or row[2].split("\n")[0] for row in rows if row[3] or row[2]]
    for name, texts in (("long", long), ("short", short)):
        path = folder / f"descriptions-{name}.jsonl"
        replace(path, lambda temporary, texts=texts: write_jsonl(temporary, texts))
        print(f"{path}: {len(texts):,} texts, {sum(map(len, texts)) / len(texts):.0f} characters on average")


def is_database(path: Path) -> bool:
    """Whether it is there with its table; what is damaged is made again, since all of it can be."""
    if not path.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(path)) as db:
            whole = db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",) and db.execute("SELECT name FROM packages LIMIT 1").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return True
        whole = False
    if not whole:
        print(f"{path} is damaged or incomplete: kept as {path.name}.damaged, made again", file=sys.stderr)
        for ending in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(path.with_name(path.name + ending), path.with_name(path.name + ".damaged" + ending))
    return bool(whole)


def main() -> None:
    parser = argparse.ArgumentParser(description="makes the demo's table and the benchmarks' texts")
    parser.add_argument("--db", type=Path)
    parser.add_argument("--jsonl", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    want_db = arguments.db and not is_database(arguments.db)
    want_jsonl = arguments.jsonl and not all(
        (arguments.jsonl / f"descriptions-{name}.jsonl").exists() for name in ("long", "short"))
    if not want_db and not want_jsonl:
        return
    print("fetching Debian's package descriptions", file=sys.stderr)
    rows = descriptions()
    if want_db:
        make_db(arguments.db, rows)
    if want_jsonl:
        make_jsonl(arguments.jsonl, rows)


if __name__ == "__main__":
    main()
