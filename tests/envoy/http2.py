"""A plain HTTP/2 client, with prior knowledge: sends each part of a request when it is told to."""

import socket
import time

import h2.config
import h2.connection
import h2.events
from client import HOST, Response


class Http2:
    """One connection to Envoy, on which requests stand side by side."""

    def __init__(self, port, seconds=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self.h2.initiate_connection()
        self.events = {}
        # Whether Envoy wants no more requests on this connection.
        self.closing = False
        self._flush()
        # Its settings say how much may be sent.
        while self.h2.remote_settings.initial_window_size == 65_535:
            self._receive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def start(self, method, path, headers=(), *, end=False):
        """Sends the headers of a request; `end`: that is all of it. Gives its stream."""
        stream = self.h2.get_next_available_stream_id()
        first = [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)]
        self.h2.send_headers(stream, [*first, *headers], end_stream=end)
        self.events[stream] = []
        self._flush()
        return stream

    def send(self, stream, body, *, end=False):
        """Sends a part of a body, which may be empty."""
        size = self.h2.max_outbound_frame_size
        parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
        for i, part in enumerate(parts):
            self.h2.send_data(stream, part, end_stream=end and i == len(parts) - 1)
        self._flush()

    def trailers(self, stream, *headers):
        """Sends trailers, with which a request ends."""
        self.h2.send_headers(stream, headers, end_stream=True)
        self._flush()

    def reset(self, stream):
        """Takes a request back."""
        self.h2.reset_stream(stream)
        self._flush()

    def ask(self, method, path, headers=(), body=b""):
        """Sends a whole request and waits for its response."""
        stream = self.start(method, path, headers, end=not body)
        if body:
            self.send(stream, body, end=True)
        return self.response(stream)

    def wait_for(self, stream, kind):
        """Waits for an event of a response: its headers, a part of its body, its end."""
        while not any(isinstance(event, kind) for event in self.events[stream]):
            for event in self.events[stream]:
                assert not isinstance(event, h2.events.StreamReset), f"Envoy reset stream {stream}: {event.error_code}"
            self._receive()

    def response(self, stream):
        """Waits for the response to a request."""
        self.wait_for(stream, h2.events.StreamEnded)
        events = self.events[stream]
        headers = next(event.headers for event in events if isinstance(event, h2.events.ResponseReceived))
        body = b"".join(event.data for event in events if isinstance(event, h2.events.DataReceived))
        headers = [(str(name), str(value)) for name, value in headers]
        return Response(int(headers[0][1]), headers[1:], body, 0.0, time.time())

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("Envoy closed the connection")
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, h2.events.ConnectionTerminated):
                self.closing = True
            stream = getattr(event, "stream_id", None)
            if stream in self.events:
                self.events[stream].append(event)
        self._flush()

    def _flush(self):
        self.socket.sendall(self.h2.data_to_send())
