"""A config cluster that does what the tests tell it: answers well, badly, late or never, and remembers who asked."""

import contextlib
import hashlib
import json
import socket
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """A response. With an `etag`, a 200 turns into a 304 for whoever has that one already."""

    status: int = 200
    body: bytes = b""
    etag: str | None = None
    content_type: str = "application/json"
    # Say so many bytes and close after the body: a response that breaks off.
    content_length: int | None = None
    # Say nothing until the server closes.
    hang: bool = False


@dataclass(frozen=True)
class Request:
    """A request that arrived, `at` in seconds of `time.monotonic()`, and the status it was answered with."""

    at: float
    path: str
    headers: dict
    status: int | None


def policy_answer(policy):
    """The answer of a well-behaved server: the policy (or any bytes) with its ETag."""
    body = policy if isinstance(policy, bytes) else json.dumps(policy).encode()
    return Answer(body=body, etag=f'"{hashlib.sha256(body).hexdigest()[:16]}"')


class ConfigServer:
    """Serves `answer`, which may be replaced at any time, until the `with` block ends.

    `port` is 0 for any, or the port at which an absent config cluster comes back.
    """

    def __init__(self, answer, port=0):
        self.answer = answer
        self.requests = []
        self.connections = []
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        # Kept-alive connections would go on answering from threads of their own.
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def statuses(self):
        """What was answered so far, in order; None stands for "nothing"."""
        return [request.status for request in self.requests]

    def _handler(self):
        config = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                config.connections.append(self.request)
                super().setup()

            def do_GET(self):
                answer = config.answer
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = answer.status
                if answer.etag is not None and headers.get("if-none-match") == answer.etag:
                    status = 304
                seen = None if answer.hang else status
                config.requests.append(Request(time.monotonic(), self.path, headers, seen))
                if answer.hang:
                    config.closing.wait()
                    self.close_connection = True
                    return
                body = b"" if status == 304 else answer.body
                self.send_response(status)
                if answer.etag is not None:
                    self.send_header("etag", answer.etag)
                if status != 304:
                    self.send_header("content-type", answer.content_type)
                    self.send_header("content-length", str(answer.content_length or len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = answer.content_length is not None

            def log_message(self, *_):
                """Silent: `requests` remembers."""

        return Handler
