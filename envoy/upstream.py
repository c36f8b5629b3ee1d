"""Services that name themselves: upstreams for the demo, the tests and the benchmark.

`python upstream.py checkout-v1 checkout-v2` serves each name on a free port of its own and prints the ports as one line
of JSON. Every response says its service's name, in `x-upstream` and in the body. A request for `/echo`, or with the
header `x-echo`, gets back what arrived here, as JSON: `{"upstream", "method", "path", "headers": [[name, value], ...]}`
with the bytes of header values as Latin-1.
"""

import asyncio
import json
import sys


class Service(asyncio.Protocol):
    """One connection to a service. Small rather than complete: HTTP/1.1 from Envoy, bodies by `content-length`."""

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
            self.answer(request, headers)

    def answer(self, request, headers):
        method, path, _ = request.split(" ")
        if path.startswith("/echo") or any(name == "x-echo" for name, _ in headers):
            body = json.dumps({"upstream": self.name, "method": method, "path": path, "headers": headers}) + "\n"
        else:
            body = self.name + "\n"
        self.transport.write(
            f"HTTP/1.1 200 OK\r\nx-upstream: {self.name}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        )


async def serve(names):
    """Serves all `names` until the process ends."""
    loop = asyncio.get_running_loop()
    servers = {name: await loop.create_server(lambda name=name: Service(name), "127.0.0.1", 0) for name in names}
    print(json.dumps({name: server.sockets[0].getsockname()[1] for name, server in servers.items()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1:]))
