"""Between the command and its server: what is said there can be held up, and what is answered lost.

    with Gate(server, b"SET done = ", Fate.LOSE) as gate:
        run = start(vecmill, gate.uri, 20)
        gate.wait()     # such a message has come, and is with the server
        gate.open()     # its answer is lost now, and the connection with it
"""
import enum
import socket
import struct
import threading


class Fate(enum.Enum):
    """Of a message to the server."""
    PASS = enum.auto()
    BREAK = enum.auto()  # it never arrives, and the connection ends
    LOSE = enum.auto()   # the server does what it says; the answer is lost, and the connection with it


class Connection:
    """One of the command's, and the one that goes on to the server."""

    def __init__(self, proxy, client):
        self.proxy, self.client, self.loses = proxy, client, threading.Event()
        self.upstream = socket.create_connection((proxy.server.host, proxy.server.port))
        for end in (self.upstream, client):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for target in (self.pass_questions, self.pass_answers):
            threading.Thread(target=target, daemon=True).start()

    def messages(self):
        """As (kind, all of it); the first has no kind."""
        with self.client.makefile("rb") as file:
            kind = b""
            while len(head := file.read(4)) == 4:
                yield kind, kind + head + file.read(struct.unpack(">I", head)[0] - 4)
                kind = file.read(1)

    def pass_questions(self) -> None:
        try:
            for kind, message in self.messages():
                fate = self.proxy.fate_of(kind, message)
                if fate is Fate.BREAK:
                    break
                if fate is Fate.LOSE:
                    self.loses.set()
                self.upstream.sendall(message)
        except OSError:
            pass
        self.end()

    def pass_answers(self) -> None:
        """Once answers are lost: the server is let finish, and the connection ends."""
        try:
            while data := self.upstream.recv(65536):
                if not self.loses.is_set():
                    self.client.sendall(data)
                elif data[-6:-1] == b"Z\0\0\0\5":  # it is ready for the next
                    self.proxy.lost()
                    break
        except OSError:
            pass
        self.end()

    def end(self) -> None:
        for end in (self.upstream, self.client):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:  # the other side was first
                pass


class Proxy:
    def __init__(self, server):
        self.server = server
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.uri = server.uri_of(port=self.socket.getsockname()[1], sslmode="disable", gssencmode="disable")
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                Connection(self, self.socket.accept()[0])
            except OSError:
                return

    def fate_of(self, kind: bytes, message: bytes) -> Fate:
        raise NotImplementedError

    def lost(self) -> None:
        """An answer has come that will not be passed on."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


class Gate(Proxy):
    """The first `times` messages with these words have that fate. One that passes does not do so before the gate is opened,
    one whose answer is lost keeps its connection until then."""

    def __init__(self, server, words: bytes, fate: Fate, times: int = 1):
        self.words, self.fate, self.left = words, fate, times
        self.lock, self.has_come, self.is_open = threading.Lock(), threading.Event(), threading.Event()
        super().__init__(server)

    def fate_of(self, kind: bytes, message: bytes) -> Fate:
        with self.lock:
            if self.left == 0 or self.words not in message:
                return Fate.PASS
            self.left -= 1
        if self.fate is not Fate.LOSE:
            self.has_come.set()
        if self.fate is Fate.PASS:
            self.is_open.wait()
        return self.fate

    def lost(self) -> None:
        self.has_come.set()
        self.is_open.wait()

    def wait(self) -> None:
        if not self.has_come.wait(60):
            raise AssertionError(f"nobody said {self.words}")

    def open(self) -> None:
        self.is_open.set()

    def __exit__(self, *_):
        self.open()
        super().__exit__()
