#!/usr/bin/python3
"""The virtual environment of the peers (scripts/peers.txt): made once, under $VECMILL_HOME/peers.

Prints its Python. An environment that holds the pinned versions is left alone; one that does not
is completed. Several gigabytes: PyTorch's own package from PyPI carries much that a CPU never runs.
"""
import subprocess
import sys
from pathlib import Path

from fetch_model import home

REQUIREMENTS = Path(__file__).resolve().parent / "peers.txt"
CHECK = """
import importlib.metadata, sys
for pin in sys.argv[1:]:
    name, version = pin.split("==")
    if importlib.metadata.version(name).split("+")[0] != version:
        sys.exit(1)
"""


def pins() -> list:
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_complete(python: Path) -> bool:
    return python.exists() and subprocess.run([python, "-c", CHECK, *pins()], stderr=subprocess.DEVNULL,
                                              check=False).returncode == 0


def ensure() -> Path:
    folder = home() / "peers"
    python = folder / "bin" / "python"
    if is_complete(python):
        return python
    print(f"installing {len(pins())} PyPI packages and what they need (gigabytes), kept in {folder}", file=sys.stderr)
    try:  # a half-made environment is completed
        subprocess.run(["/usr/bin/python3", "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS],
                       check=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"vecmill: cannot install the peers: {error.cmd[2]} exited {error.returncode} (its words are above; is "
                 f"PyPI reachable, and is there room for 6 GB in {folder}?)")
    if not is_complete(python):
        sys.exit(f"vecmill: cannot install the peers: {folder} still lacks pinned versions (remove it and try again)")
    return python


if __name__ == "__main__":
    print(ensure())
