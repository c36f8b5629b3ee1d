"""Services that the stage's own upstreams cannot play: one that takes upgrades, one that is sometimes slow, and one that
notes what it is asked."""

import asyncio
import collections
import contextlib
import copy
import random
import threading
from dataclasses import dataclass

from upstream import Service


class Switching(Service):
    """Takes upgrades, and then says what it hears. With the fault `break-off` it leaves at the first word."""

    is_asked = False
    # What it does with what it hears after an upgrade.
    hear = None

    def answer(self, request, headers, body):
        self.is_asked = "upgrade" in dict(headers)
        super().answer(request, headers, body)

    def respond(self, fault, more, text):
        if not self.is_asked or (fault and fault.isdigit()):
            super().respond(fault, more, text)
            return
        self.hear = (lambda _: self.transport.close()) if fault == "break-off" else self.transport.write
        self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")

    def data_received(self, data):
        if self.hear:
            self.hear(data)
        else:
            super().data_received(data)


class Uneven(Service):
    """Takes 5 ms and more: mostly less than 20 ms, one time in twenty more than 50 ms."""

    def respond(self, fault, more, text):
        late_s = 0.005 + random.expovariate(1 / 0.015)
        asyncio.get_running_loop().call_later(late_s, super().respond, fault, more, text)


@dataclass(frozen=True)
class Arrived:
    """A request as it arrived."""

    method: str
    path: str
    headers: list
    body: bytes

    def header(self, name):
        """The first header of that name, or None."""
        return next((value for key, value in self.headers if key == name), None)


class Noting(Service):
    """Notes the requests that arrive, by its name."""

    arrived = collections.defaultdict(list)

    def answer(self, request, headers, body):
        method, path, _ = request.split(" ")
        self.arrived[self.name].append(Arrived(method, path, headers, body))
        super().answer(request, headers, body)


class Shop(Noting):
    """A version of a shop. Its answers are of `respond`: status, headers and body of a request, by its number and the
    name of the version. Numbers stand in the path: `/checkout?17`.
    """

    responses = {}

    def answer(self, request, headers, body):
        method, path, _ = request.split(" ")
        self.arrived[self.name].append(Arrived(method, path, headers, body))
        if "x-echo" in dict(headers) or path == "/manners":
            Service.answer(self, request, headers, body)
            return
        number = path.partition("?")[2]
        status, more, body = self.responses[self.name](int(number) if number.isdigit() else 0)
        lines = [f"HTTP/1.1 {status} As told", f"x-upstream: {self.name}", *(f"{name}: {value}" for name, value in more)]
        if status != 204:
            lines.append(f"content-length: {len(body)}")
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.transport.write(head if method == "HEAD" or status == 204 else head + body)


class Endless(Service):
    """Answers with so many bytes."""

    size = 0
    streaming = None

    def respond(self, fault, more, text):
        if text.startswith("{"):
            super().respond(fault, more, text)
        else:
            self.streaming = asyncio.get_running_loop().create_task(self.stream())

    async def stream(self):
        self.transport.write(b"HTTP/1.1 200 OK\r\nx-upstream: %s\r\ncontent-length: %d\r\n\r\n" % (self.name.encode(), self.size))
        left = self.size
        while left and not self.transport.is_closing():
            part = min(left, 1 << 16)
            self.transport.write(b"a" * part)
            left -= part
            while self.transport.get_write_buffer_size() > 1 << 20 and not self.transport.is_closing():
                await asyncio.sleep(0.001)


@contextlib.contextmanager
def serving(service, name):
    """Serves until the end of the `with` block; gives the port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: service(name), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()


def send_all_to(bootstrap, name, port):
    """Has every request go to a service, whatever was decided."""
    clusters = bootstrap.document["static_resources"]["clusters"]
    cluster = copy.deepcopy(next(cluster for cluster in clusters if cluster["name"] == "checkout-v1"))
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = name
    clusters.append(cluster)
    bootstrap.set_port(name, port)
    routes = bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"]
    routes.insert(0, {"match": {"prefix": "/"}, "route": {"cluster": name}})
