"""Requests at a steady pace, whatever becomes of those before: prints how long they took, in milliseconds, as JSON.

    python paced.py PORT PER_SECOND SECONDS

A request's time begins when it is due, not when a connection is free for it: who must wait is counted in full.
"""

import json
import re
import selectors
import socket
import sys
import time

REQUEST = b"GET /checkout HTTP/1.1\r\nhost: shop.example.com\r\nx-user-id: user-1\r\n\r\n"
CONNECTIONS = 32


def paced(port, per_second, seconds):
    """The latencies, in milliseconds."""
    selector = selectors.DefaultSelector()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    for connection in idle:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
    due, asked, took_ms = time.perf_counter() + 0.1, {}, []
    # How much is still to come, of answers that have begun.
    rest = {}
    last = due + seconds
    while due < last or asked:
        now = time.perf_counter()
        while due < last and due <= now and idle:
            connection = idle.pop()
            connection.sendall(REQUEST)
            asked[connection] = due
            due += 1 / per_second
        wait = max(0, due - time.perf_counter()) if due < last else 1
        for key, _ in selector.select(wait if idle or due >= last else None):
            part = key.fileobj.recv(65_536)
            rest[key.fileobj] = rest.get(key.fileobj) or size(part)
            rest[key.fileobj] -= len(part)
            if rest[key.fileobj] == 0:
                took_ms.append((time.perf_counter() - asked.pop(key.fileobj)) * 1000)
                idle.append(key.fileobj)
    return took_ms


def size(beginning):
    """How long an answer is that begins so."""
    assert beginning.startswith(b"HTTP/1.1 200 "), beginning
    head, _, _ = beginning.partition(b"\r\n\r\n")
    return len(head) + 4 + int(re.search(rb"content-length: (\d+)", head)[1])


if __name__ == "__main__":
    print(json.dumps(paced(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
