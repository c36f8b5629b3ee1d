"""Trailers come from outside as headers do: what is forged in them goes too."""

import contextlib
import copy
import socket
import threading

REQUEST = (
    b"POST /elsewhere HTTP/1.1\r\nhost: shop.example.com\r\ntransfer-encoding: chunked\r\n"
    b"trailer: x-mulkko-checkout-v2, x-mine\r\n\r\n4\r\nbody\r\n0\r\n"
    b"x-mulkko-checkout-v2: canary\r\nx-mulkko-pass: forged\r\nx-mine: kept\r\n\r\n"
)


@contextlib.contextmanager
def upstream():
    """An upstream that keeps the bytes of one request, trailers and all: its port, and what it has received."""
    received = bytearray()

    def serve():
        connection, _ = server.accept()
        with connection:
            while b"\r\n0\r\n" not in received or not received.endswith(b"\r\n\r\n"):
                received.extend(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], received


def test_forged_trailers_are_removed_at_the_edge(set_stage):
    with upstream() as (port, received):

        def with_trailers(bootstrap):
            trailers = {"enable_trailers": True}
            bootstrap.connection_manager["http_protocol_options"] = trailers
            clusters = bootstrap.document["static_resources"]["clusters"]
            raw = copy.deepcopy(next(item for item in clusters if item["name"] == "checkout-v1"))
            raw["name"] = raw["load_assignment"]["cluster_name"] = "raw"
            raw["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http_protocol_options": trailers},
                }
            }
            clusters.append(raw)
            bootstrap.set_port("raw", port)
            route = {"match": {"prefix": "/"}, "route": {"cluster": "raw"}}
            bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"] = [route]

        stage = set_stage(edit=with_trailers)
        with socket.create_connection(("127.0.0.1", stage.port), timeout=10) as client:
            client.sendall(REQUEST)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
    trailers = bytes(received).rsplit(b"\r\n0\r\n", 1)[1]
    assert trailers == b"x-mine: kept\r\n\r\n"
