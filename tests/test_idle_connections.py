"""A request on a connection that the server closes while it is idle is sent again, once."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from specserver.client.session import Session
from specserver.errors import StoreError, Unreachable

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


class Server:
    """Answers a request or resets its connection, as it is told for each in turn."""

    def __init__(self, *deeds: str) -> None:
        self.deeds = list(deeds)
        self.done: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self.deeds:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while self.deeds and (request := self._request(connection)):
            self.done.append(request)
            deed = self.deeds.pop(0)
            if deed == "answer":
                connection.sendall(ANSWER)
                continue
            if deed == "begin":
                connection.sendall(ANSWER[:-1])
                return
            # A reset instead of an orderly end.
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return

    def _request(self, connection: socket.socket) -> str:
        data = b""
        while not data.endswith(b"}"):
            piece = connection.recv(4096)
            if not piece:
                return ""
            data += piece
        return data.partition(b"\r\n\r\n")[2].decode()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # closing it alone would not end accept()
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def serve() -> Iterator[object]:
    started: list[Server] = []

    def start(*deeds: str) -> Server:
        started.append(Server(*deeds))
        return started[-1]

    yield start
    for server in started:
        server.close()


def post(session: Session, server: Server, number: int) -> bytes:
    with session.send("POST", f"{server.url}/bulk", {"n": number}, timeout_s=5) as answer:
        return answer.read_all()


def test_a_request_on_an_idle_connection_is_sent_again(serve):
    server, session = serve("answer", "reset", "answer"), Session()
    assert post(session, server, 1) == b"OK"
    assert post(session, server, 2) == b"OK"
    assert server.done == ['{"n": 1}', '{"n": 2}', '{"n": 2}']


def test_a_request_on_a_new_connection_is_not(serve):
    server = serve("reset", "answer")
    with pytest.raises(Unreachable):
        post(Session(), server, 1)
    assert server.done == ['{"n": 1}']


def test_it_is_sent_again_once(serve):
    server, session = serve("answer", "reset", "reset", "answer"), Session()
    assert post(session, server, 1) == b"OK"
    with pytest.raises(Unreachable):
        post(session, server, 2)
    assert server.done == ['{"n": 1}', '{"n": 2}', '{"n": 2}']


def test_an_answer_that_has_begun_is_not_asked_for_again(serve):
    server, session = serve("answer", "begin", "answer"), Session()
    assert post(session, server, 1) == b"OK"
    with pytest.raises(StoreError, match="cut off"):
        post(session, server, 2)
    assert server.done == ['{"n": 1}', '{"n": 2}']
