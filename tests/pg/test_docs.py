#!/usr/bin/python3
"""What docs/ shows of PostgreSQL, run literally: the commands of the quick start, and the lines and messages of the guide.

  test_docs.py --vecmill PATH [NAME..]
"""
import os
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "ingest"))
import corpus  # noqa: E402
from ingest_case import expect, run_tests  # noqa: E402
from servers import Server, clean_environment  # noqa: E402

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def block(text: str, first: str) -> list:
    """The lines of the indented block that holds a line beginning so."""
    for lines in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE):
        if any(line.startswith("    " + first) for line in lines.splitlines()):
            return [line[4:] for line in lines.splitlines()]
    raise AssertionError(f"no block with {first}")


def shape(line: str) -> str:
    """Without what differs from run to run: numbers with a unit, and how busy whoever was."""
    return re.sub(r"\d[\d,.]*(?= s,| rows/s| tokens/s|%)", "N", line)


def shell(vecmill, folder, line: str, **more) -> subprocess.CompletedProcess:
    """As somebody types it in the root of a clone."""
    (folder / "build").mkdir(exist_ok=True)
    if not (folder / "build" / "vecmill").exists():
        (folder / "build" / "vecmill").symlink_to(vecmill.command)
    return subprocess.run(["bash", "-c", line], cwd=folder, env=clean_environment(**more), capture_output=True, text=True, check=False, timeout=200)


def me(**more) -> Server:
    """A server of a person `me`, with the corpus."""
    server = Server(**more)
    server.psql("CREATE ROLE me SUPERUSER LOGIN")
    corpus.create(server)
    for table, n in (("sentences", 400), ("documents", 60)):
        corpus.fill(server, table, n)
    return server


def test_quick_start(vecmill, folder):
    """Line for line, with nothing but the port beside it; then from .env; then what it says when all is done."""
    lines = block(page("QUICK_START_PARALLEL.md"), "export")
    with me() as server:
        ran = shell(vecmill, folder, "set -e\n" + "\n".join(lines), PGPORT=str(server.port))
        expect(ran.returncode == 0 and "main job   can run\n" in ran.stdout, ran.stdout + ran.stderr)
        expect(ran.stderr in ("", f"vecmill: model {MODEL}: taken, since it is the only one on this machine\n"), ran.stderr)
        expect(len(re.findall(r"^ *\d+  0\.\d{4}  \d+  \S", ran.stdout, re.MULTILINE)) == 10, ran.stdout)
        names = next(line for line in lines if line.startswith("export ")).removeprefix("export ").split()
        (folder / ".env").write_text("\n".join(names) + f"\nPG_PORT={server.port}\nEMBED_MODEL={MODEL}\nEMBED_WORKERS=1\n", encoding="utf-8")
        again = shell(vecmill, folder, "build/vecmill ingest sentences 100")
        told = re.search(r"says `(Nothing to embed: [^`]*)`", page("QUICK_START_PARALLEL.md"))[1]
        expect(again.returncode == 0 and f"\n{told}\n" in again.stdout and "workers=1, " in again.stdout, again.stdout + again.stderr)
        expect("Embedded 58 rows of documents into text_vector" in shell(vecmill, folder, "build/vecmill ingest documents").stdout, "the only vector column")


def test_lines(vecmill, folder):
    """The guide's lines are those of the same rows."""
    shown = block(page("PARALLEL_EMBEDDINGS.md"), "Configuration: ")
    with me() as server:
        ran = shell(vecmill, folder, f"build/vecmill ingest sentences 100 --workers 4 --connections 3 --model {MODEL}", **server.environment)
    lines = ran.stdout.splitlines()
    expect([shape(line) for line in lines if "Processed" not in line] == [shape(line) for line in shown if "Processed" not in line], ran.stdout)
    averages = [{line.partition(" | ")[2] for line in some if "Processed" in line} for some in (lines, shown)]
    expect(averages[0] == averages[1], ran.stdout)
    expect([line.partition("/")[2][:4] for line in lines if "Processed" in line] == [" 394"] * 4, ran.stdout)


def test_messages(vecmill, folder):
    """Every message that the guide quotes is one that the program says, but for its numbers."""
    quoted = {line.strip() for line in page("PARALLEL_EMBEDDINGS.md").splitlines() if re.match(r" +vecmill: ", line)}
    said = set()

    def say(line: str, status: int, **more) -> None:
        ran = shell(vecmill, folder, f"build/vecmill ingest sentences {line} --model {MODEL} --limit 1", **more)
        expect(ran.returncode == status, f"{line}: {ran}")
        said.update(ran.stderr.splitlines())

    with me(settings={"max_connections": 6, "superuser_reserved_connections": 0, "max_wal_senders": 0}) as server:
        there = server.environment
        server.psql("CREATE ROLE app LOGIN CONNECTION LIMIT 2; GRANT ALL ON sentences TO app; GRANT CREATE ON DATABASE corpus TO app; GRANT ALL ON SCHEMA public TO app;"
                    "GRANT ALL ON sentence_metrics TO app; CREATE INDEX ON sentences USING hnsw (embedding vector_cosine_ops)")
        say("", 1, **there | {"PGUSER": "app"})
        server.psql("DROP OWNED BY app")
        sessions = [server.session() for _ in range(3)]
        say("", 1, **there)
        sessions += [server.session() for _ in range(3)]
        say("", 1, **there)
        server.close_sessions()
        say("", 0, **there)
    say("--device cuda", 2)
    say("", 2, EMBED_DEVICE="cuda")
    numbers = re.compile(r"\d+")
    missing = {numbers.sub("N", line) for line in quoted} - {numbers.sub("N", line) for line in said}
    expect(len(quoted) == 6 and not missing, f"never said: {missing}, but {said}")


if __name__ == "__main__":
    os.environ.pop("EMBED_MODEL", None)
    sys.exit(run_tests(globals()))
