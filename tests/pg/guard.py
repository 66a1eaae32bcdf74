"""What keeps the machine clean behind the test servers: whose processes run, in which folder, on which port.

Every process that a fixture starts and every folder that it makes is told to the guardian, one small process a test
program, before anything can go wrong with it. The guardian waits for the end of its pipe, which comes however the test
program ends, by kill -9 too; then it ends what is still there, by its id, and removes the folders.
"""
import atexit
import ctypes
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import SystemRandom

PORTS = range(20000, 30000)  # below what the kernel hands out for outgoing connections
IPC_RMID = 0


# Processes

def stat_of(pid: int) -> list:
    """State, parent and the rest of /proc/PID/stat behind the name; empty once the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def started_at(pid: int) -> str:
    """Tells a process from a later one with its id; empty for one that is gone or only waits to be reaped."""
    stat = stat_of(pid)
    return stat[19] if stat and stat[0] not in "ZX" else ""


def children_of(pid: int) -> list:
    processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [p for p in processes if (stat := stat_of(p)) and stat[1] == str(pid)]


def wait_until_gone(processes: dict, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(start and started_at(pid) == start for pid, start in processes.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def end(processes: dict) -> None:
    """Ends processes ({id: (start, signal)}): as each likes it, and after ten seconds as none likes it."""
    alive = {pid: start for pid, (start, _) in processes.items() if started_at(pid) == start}
    for pid in alive:
        for sign in (processes[pid][1], signal.SIGCONT):  # a stopped one hears nothing else
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass
    if not wait_until_gone(alive, 10):
        for pid, start in alive.items():
            if started_at(pid) == start:
                os.kill(pid, signal.SIGKILL)
        wait_until_gone(alive, 10)


# Folders

def remove_shared_memory(data: Path) -> None:
    """A postmaster ended by kill -9 leaves a small System V segment, named in its postmaster.pid."""
    try:
        key, segment = data.joinpath("postmaster.pid").read_text().splitlines()[6].split()
        for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            words = line.split()
            if words[:2] == [key, segment] and words[6] == "0":
                ctypes.CDLL(None).shmctl(int(segment), IPC_RMID, None)
    except (OSError, IndexError, ValueError):
        pass


def remove(folder: Path) -> None:
    for data in [folder / "data", *folder.glob("*/data")]:
        remove_shared_memory(data)
    shutil.rmtree(folder, ignore_errors=True)


# The guardian

class Guardian:
    """The test program's side of the pipe."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-I", __file__], stdin=subprocess.PIPE, cwd="/",
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        atexit.register(self.close)

    def tell(self, **message) -> None:
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def guard() -> None:
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    processes, folders = {}, []
    for line in sys.stdin:
        message = json.loads(line)
        if "started" in message:
            processes[message["started"]] = message["at"], message["end"]
        if "ended" in message:
            processes.pop(message["ended"], None)
        if "made" in message:
            folders.append(message["made"])
        if "removed" in message:
            folders.remove(message["removed"])
    end(processes)
    for folder in folders:
        remove(Path(folder))


# One of each for a test program

once = threading.RLock()  # tests may start servers in threads
_guardian = None
_room = None


def guardian() -> Guardian:
    global _guardian
    with once:
        _guardian = _guardian or Guardian()
    return _guardian


def server_user() -> dict:
    """How subprocess is to start a server: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            who = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
    raise OSError("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")


def give(*paths: Path) -> None:
    """Makes files the server user's own."""
    who = server_user()
    for path in paths if who else ():
        os.chown(path, who["user"], who["group"])


def room() -> Path:
    """The folder of all that this test program's servers need, which their user can reach; gone at its end."""
    global _room
    with once:
        _room = _room or make_room()
    return _room


def make_room() -> Path:
    place = Path(tempfile.gettempdir()).resolve()
    open_to_all = all(p.stat().st_mode & 1 for p in [place, *place.parents])
    # the path of a socket has room for 107 bytes
    if len(str(place)) > 60 or (server_user() and not open_to_all):
        place = Path("/tmp")
    made = Path(tempfile.mkdtemp(prefix="vecmill-pg-", dir=place))
    guardian().tell(made=str(made))
    made.chmod(0o755)
    return made


class Port:
    """A port of 127.0.0.1 that no other fixture of this machine takes until it is released.

    The lock is a socket in Linux's abstract namespace: it has the range of the port itself, leaves no file, and goes
    with the process that holds it.
    """

    def __init__(self):
        for number in SystemRandom().sample(PORTS, len(PORTS)):
            self.lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self.lock.bind(f"\0vecmill-test-port-{number}")
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                self.lock.close()
                continue
            self.number = number
            return
        raise OSError(f"no port between {PORTS.start} and {PORTS.stop - 1} is free")

    def release(self) -> None:
        self.lock.close()


if __name__ == "__main__":
    guard()
