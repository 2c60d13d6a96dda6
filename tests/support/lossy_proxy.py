"""A TCP proxy that loses replies, or all, in a process of its own: ``with LossyProxy(port, loss=0.01) as proxy: ... proxy.port``.

A lost reply: the server did what it was told, and the connection ends before its answer arrives.
"""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
from types import TracebackType


class LossyProxy:
    """Stands before a port of this machine. *loss*: the share of packets from the server that are lost, with their connections."""

    def __init__(self, port: int, loss: float, seed: int = 1) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listening.getsockname()[1]
        self._told, telling = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.close(self._told)
                _Pairs(self._listening, port, loss, random.Random(seed), telling).serve()
            finally:
                os._exit(1)
        os.close(telling)

    def cut(self) -> None:
        """From now on nothing gets through, and nobody is told: a network that is gone."""
        os.kill(self.pid, signal.SIGSTOP)

    def mend(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> LossyProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._listening.close()
        with os.fdopen(self._told, "rb") as told:
            self.lost = len(told.read())


class _Pairs:
    """Connections of clients, and those to the server that belong to them."""

    def __init__(self, listening: socket.socket, port: int, loss: float, rng: random.Random, telling: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.selector.register(listening, selectors.EVENT_READ)
        self.listening, self.port, self.loss, self.rng, self.telling = listening, port, loss, rng, telling
        self.other: dict[socket.socket, socket.socket] = {}
        self.servers: set[socket.socket] = set()

    def serve(self) -> None:
        while True:
            for ready in [key.fileobj for key, _ in self.selector.select()]:
                if ready is self.listening:
                    self.begin()
                elif isinstance(ready, socket.socket) and ready in self.other and not self.hand_on(ready):
                    self.end(ready)

    def begin(self) -> None:
        client, _ = self.listening.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.port), 2)
        except OSError:
            client.close()
            return
        self.other[client], self.other[server] = server, client
        self.servers.add(server)
        for each in (client, server):
            self.selector.register(each, selectors.EVENT_READ)

    def hand_on(self, one: socket.socket) -> bool:
        """False: this connection is over."""
        try:
            data = one.recv(65536)
            if data and one in self.servers and self.rng.random() < self.loss:
                os.write(self.telling, b".")
                return False
            self.other[one].sendall(data)
        except OSError:
            return False
        return bool(data)

    def end(self, one: socket.socket) -> None:
        for each in (one, self.other.pop(one)):
            self.other.pop(each, None)
            self.servers.discard(each)
            self.selector.unregister(each)
            each.close()
