"""Services that name themselves: upstreams for the demo, the tests and the benchmark.

`python upstream.py checkout-v1 checkout-v2` serves each name on a free port of its own and prints the ports as one line
of JSON. Every response says its service's name, in `x-upstream` and in the body. A request for `/echo`, or with the
header `x-echo`, gets back what arrived here, as JSON: `{"upstream", "method", "path", "headers": [[name, value], ...]}`
with the bytes of header values as Latin-1; for a HEAD, in the header `x-echo`. A path that ends in `/order` gets JSON, in
which a time and an id are new each time.

A service fails on demand. `POST /manners` with `{"fault": "503", "ratio": 0.2, "delay_ms": 40}` says how it behaves from
now on: so many of its requests get the fault, others with another `seed`, and all are answered so late; `"wrong": 0.05` has
so many orders add up to something else. The header `x-fault` says of one request what its fault is;
`x-respond-with: name: value` has the response carry one more header, and `x-trailer` a trailer. Faults are:
    three digits   an answer with that status
    close          no answer: the connection is closed
    break-off      half of an answer, then the connection is closed
    hang           no answer, ever
    stall          half of an answer, and never the rest
"""

import asyncio
import collections
import json
import random
import sys
import time
from dataclasses import dataclass


@dataclass
class Manners:
    """How a service behaves, and the dice that say which of its requests fail: the same ones in every run."""

    dice: random.Random
    fault: str = "503"
    ratio: float = 0.0
    delay_ms: float = 0.0
    wrong: float = 0.0

    def draw(self):
        """The fault of the next request, or None."""
        return self.fault if self.dice.random() < self.ratio else None

    def order(self):
        """An order."""
        total = 30 if self.dice.random() < self.wrong else 29
        items = [{"sku": "kimchi", "price": 12}, {"sku": "rice", "price": 17}]
        return {"items": items, "total": total, "now": time.time(), "trace": f"{self.dice.getrandbits(64):016x}"}


class Service(asyncio.Protocol):
    """One connection to a service. Small rather than complete: HTTP/1.1 from Envoy, bodies by `content-length`."""

    # How the services behave, by name: common to their connections.
    manners = collections.defaultdict(lambda: Manners(random.Random()))

    def __init__(self, name):
        self.name = name
        self.received = b""
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, rest = self.received.split(b"\r\n\r\n", 1)
            request, *lines = head.decode("latin-1").split("\r\n")
            headers = [line.split(": ", 1) for line in lines]
            length = next((int(value) for name, value in headers if name == "content-length"), 0)
            if len(rest) < length:
                return
            self.received = rest[length:]
            self.answer(request, headers, rest[:length])

    def answer(self, request, headers, body):
        method, path, _ = request.split(" ")
        if (method, path) == ("POST", "/manners"):
            told = json.loads(body)
            dice = random.Random(f"{self.name} {told.pop('seed', 0)}")
            self.manners[self.name] = Manners(dice, **told)
            return self.respond(None, "content-length: 0\r\n", "")
        manners = self.manners[self.name]
        values = dict(headers)
        if path.startswith("/echo") or "x-echo" in values:
            text = json.dumps({"upstream": self.name, "method": method, "path": path, "headers": headers}) + "\n"
        elif path.endswith("/order"):
            text = json.dumps(manners.order()) + "\n"
        else:
            text = self.name + "\n"
        more = f"{values['x-respond-with']}\r\n" if "x-respond-with" in values else ""
        if path.endswith("/order"):
            more += "content-type: application/json\r\n"
        if "x-trailer" in values:
            more += "transfer-encoding: chunked\r\n"
            text = f"{len(text):x}\r\n{text}\r\n0\r\n{values['x-trailer']}\r\n\r\n"
        else:
            more += f"content-length: {len(text)}\r\n"
        if method == "HEAD":
            more, text = f"{more}x-echo: {text.rstrip()}\r\n", ""
        fault = values.get("x-fault") or manners.draw()
        if manners.delay_ms:
            asyncio.get_running_loop().call_later(manners.delay_ms / 1000, self.respond, fault, more, text)
        else:
            self.respond(fault, more, text)
        return None

    def respond(self, fault, more, text):
        if self.transport.is_closing() or fault == "hang":
            return
        status = fault if fault and fault.isdigit() else "200"
        head = f"HTTP/1.1 {status} As told\r\nx-upstream: {self.name}\r\n{more}\r\n"
        if fault in ("break-off", "stall"):
            text = text[: len(text) // 2]
        if fault != "close":
            self.transport.write((head + text).encode())
        if fault in ("close", "break-off"):
            self.transport.close()


async def serve(names):
    """Serves all `names` until the process ends."""
    loop = asyncio.get_running_loop()
    servers = {name: await loop.create_server(lambda name=name: Service(name), "127.0.0.1", 0) for name in names}
    print(json.dumps({name: server.sockets[0].getsockname()[1] for name, server in servers.items()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
