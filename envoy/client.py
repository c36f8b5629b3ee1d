"""A plain HTTP/1.1 client: sends exactly the bytes it is told to, keeps connections, and is fast enough for a crowd.

Libraries refuse the requests that the hostile tests are about, and hide on which connection (so: on which worker of
Envoy) a request goes.
"""

import json
import queue
import socket
import threading
import time
from dataclasses import dataclass

HOST = "shop.example.com"


@dataclass(frozen=True)
class Response:
    """What came back, and when the request was sent and the response was there (`time.time()`)."""

    status: int
    headers: list
    body: bytes
    sent: float
    received: float

    def header(self, name):
        """The first header of that name (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def upstream(self):
        """The service that answered; None for an answer of Envoy itself."""
        return self.header("x-upstream")

    @property
    def json(self):
        """The body, which must be JSON."""
        return json.loads(self.body)

    @property
    def echo(self):
        """The request as the upstream received it; see `upstream.py`."""
        echoed = self.body or self.header("x-echo")
        try:
            return Echo(json.loads(echoed))
        except (TypeError, ValueError):
            raise ValueError(f"no echo, but {self.status}: {self.body[:200]!r}") from None


@dataclass(frozen=True)
class Echo:
    """A request as it arrived upstream."""

    request: dict

    def values(self, name):
        """All values of a header."""
        return [value for key, value in self.request["headers"] if key == name]

    def header(self, name):
        """The only value of a header, or None."""
        values = self.values(name)
        assert len(values) < 2, f"{name} arrived {len(values)} times: {values}"
        return values[0] if values else None

    def starting(self, prefix):
        """All headers whose names start with `prefix`, as a dictionary."""
        return {key: value for key, value in self.request["headers"] if key.startswith(prefix)}


class Connection:
    """One connection to Envoy, on which requests follow one another.

    When a response says `connection: close`, the next request opens another, as any client does.
    """

    def __init__(self, port, seconds=10):
        self.port = port
        self.seconds = seconds
        self._open()

    def _open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.closing = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def get(self, path, *headers):
        """A GET with more headers, as pairs; `host` is the shop's unless they say another."""
        return self.send("GET", path, headers)

    def send(self, method, path, headers=(), body=b""):
        """Sends a request and reads its response. Names, values and path may be bytes, and are not looked at."""
        if body:
            headers = [*headers, ("content-length", str(len(body)))]
        return self.read(method, self.write(method, path, headers, body))

    def write(self, method, path, headers=(), body=b""):
        """Sends a request, or its first part: nothing is added but a `host`. Gives the time at which it was sent."""
        if not any(_bytes(name).lower() == b"host" for name, _ in headers):
            headers = [("host", HOST), *headers]
        lines = [b"%s %s HTTP/1.1" % (_bytes(method), _bytes(path))]
        lines += [b"%s: %s" % (_bytes(name), _bytes(value)) for name, value in headers]
        if self.closing:
            self.socket.close()
            self._open()
        sent = time.time()
        self.socket.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        return sent

    def read(self, method="POST", sent=0.0):
        """Reads the response to a request that was sent with this method, at this time."""
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = [tuple(line.split(": ", 1)) for line in lines]
        length = next((int(value) for name, value in headers if name == "content-length"), 0) if method != "HEAD" else 0
        is_chunked = method != "HEAD" and ("transfer-encoding", "chunked") in headers
        body = b"".join(self._chunks()) if is_chunked else self._take(length)
        self.closing = ("connection", "close") in headers
        return Response(int(status.split(" ")[1]), headers, body, sent, time.time())

    def _chunks(self):
        """The chunks of a body; trailers are left out."""
        while size := int(self._line(), 16):
            yield self._take(size)
            self._line()
        while self._line():
            pass

    def _line(self):
        while b"\r\n" not in self.received:
            self._receive()
        return self._take(self.received.index(b"\r\n") + 2)[:-2]

    def _take(self, length):
        while len(self.received) < length:
            self._receive()
        taken = bytes(self.received[:length])
        del self.received[:length]
        return taken

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("Envoy closed the connection")
        self.received += data


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def get_all(port, requests, connections=8):
    """Sends many GETs, `(path, headers)` each, over several connections; the responses are in the order of `requests`."""
    return send_all(port, [("GET", path, headers) for path, headers in requests], connections)


def send_all(port, requests, connections=8):
    """As `get_all`, of any method and with or without a body: `(method, path, headers, body)` each."""
    todo = queue.SimpleQueue()
    for item in enumerate(requests):
        todo.put(item)
    responses = [None] * todo.qsize()
    failures = []

    def work():
        try:
            with Connection(port) as connection:
                while True:
                    i, request = todo.get_nowait()
                    responses[i] = connection.send(*request)
        except queue.Empty:
            pass
        except Exception as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return responses


class Load:
    """Requests without a break, over several connections, for as long as the `with` block lasts.

    `request` gives the next request, `(path, headers)`. What came back stands in `responses`, what went wrong (a closed
    connection, a time-out) in `errors`; both may be looked at while the load goes on. With `per_second` requests follow
    each other at that rate, as far as connections are free; `opened` are connections to use instead of new ones.
    """

    def __init__(self, port, request, connections=8, per_second=None, opened=()):
        self.port = port
        self.request = request
        self.responses = []
        self.errors = []
        self.gap_s = 1 / per_second if per_second else 0
        self.due = 0
        self.turn = threading.Lock()
        self.stopped = threading.Event()
        opened = opened or [None] * connections
        self.workers = [threading.Thread(target=self._work, args=(it,), daemon=True) for it in opened]

    def __enter__(self):
        for worker in self.workers:
            worker.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for worker in self.workers:
            worker.join()

    @property
    def failed(self):
        """Requests that did not get a 200."""
        return [*self.errors, *(response for response in self.responses if response.status != 200)]

    def _work(self, opened):
        while not self.stopped.is_set():
            try:
                with opened or Connection(self.port) as connection:
                    opened = None
                    while not self.stopped.is_set():
                        self._wait()
                        path, headers = self.request()
                        self.responses.append(connection.get(path, *headers))
            # Whatever it is: a thread that ends of it would leave a load of nothing, in which nothing fails.
            except Exception as error:
                self.errors.append(error)

    def _wait(self):
        """Waits for its turn. What was missed is not made up for: that would come in a burst."""
        if self.gap_s:
            with self.turn:
                self.due = max(self.due + self.gap_s, time.monotonic())
                due = self.due
            self.stopped.wait(max(0, due - time.monotonic()))
