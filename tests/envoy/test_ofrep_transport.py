"""However a request for flags comes, over HTTP/1.1 and HTTP/2, it is answered, and nothing of it goes upstream."""

import pytest
from documents import canary
from http2 import Http2
from ofrep import (
    ALL,
    ask,
    body_of,
    by_key,
    configuration,
    flag,
    path_of,
    resolved,
    unharmed,
    upstream_requests,
    written,
)
from stage import Stage, wait_until

NUMBERS = [f"n{number}" for number in range(100)]
FLAGS = {
    "static": flag(),
    "number": flag({"var": "number"}, variants={name: name for name in NUMBERS}, defaultVariant="n0"),
}
# A rollout that applies to every request, to see that OFREP's are not decided.
POLICY = {**canary(100), "metadata": {}, "flags": FLAGS}
POLICY["rollouts"][0].pop("matches", None)
POLICY["rollouts"][0].pop("hostnames", None)

BODY = body_of({"number": "n7"})
CHUNKED = ("transfer-encoding", "chunked")
LAST = b"0\r\n\r\n"
TRAILERS = b"0\r\nx-trailer: a\r\nx-mulkko-flags: b\r\n\r\n"


def length(body):
    """The header that says how long a body is."""
    return ("content-length", str(len(body)))


def chunk(part):
    """A part of a body as a chunk."""
    return b"%x\r\n%s\r\n" % (len(part), part)


def each(text):
    """Each byte of it."""
    return [text[i : i + 1] for i in range(len(text))]


def with_trailers(bootstrap):
    """Lets trailers through: by itself Envoy drops those of HTTP/1.1."""
    bootstrap.connection_manager["http_protocol_options"] = {"enable_trailers": True}


@pytest.fixture(scope="module")
def mesh():
    """A proxy of the mesh that has the flags above; nothing reaches its upstreams."""
    with Stage(plugin=configuration(POLICY), edit=with_trailers) as stage, unharmed(stage):
        yield stage
        assert upstream_requests(stage) == 0
        assert stage.metric("requests") == 0


def wait_for_active(stage, count):
    """Waits until so many requests are under way."""
    name = "http.edge.downstream_rq_active"
    wait_until(lambda: stage.stats(f"^{name}$").get(name) == count, f"{count} requests under way")


# Headers, and the parts in which what follows them is sent.
HTTP_1 = {
    "with its length": ([length(BODY)], [BODY]),
    "byte by byte": ([length(BODY)], each(BODY)),
    "in a chunk": ([CHUNKED], [chunk(BODY) + LAST]),
    "in chunks": ([CHUNKED], [chunk(BODY[:9]), chunk(BODY[9:]), LAST]),
    "in a chunk for each byte": ([CHUNKED], [*map(chunk, each(BODY)), LAST]),
    "in chunks that are cut anywhere": ([CHUNKED], each(chunk(BODY[:9]) + chunk(BODY[9:]) + LAST)),
    "with trailers": ([CHUNKED], [chunk(BODY), TRAILERS]),
    "with trailers, byte by byte": ([CHUNKED], each(chunk(BODY) + TRAILERS)),
    "as large as it may be": ([length(b" " * 65_536)], [BODY, b" " * (65_536 - len(BODY))]),
    "as large as it may be, in chunks": ([CHUNKED], [chunk(BODY), chunk(b" " * (65_536 - len(BODY))), LAST]),
}
HTTP_1_EMPTY = {
    "without body": ([], []),
    "of no length": ([length(b"")], []),
    "without chunks": ([CHUNKED], [LAST]),
    "with trailers alone": ([CHUNKED], [TRAILERS]),
}
# The parts of a body, the last of which says that it is; `...` stands for trailers.
HTTP_2 = {
    "at once": [BODY],
    "byte by byte": each(BODY),
    "with an end of its own": [BODY, b""],
    # One at a time: Envoy takes more for an attack.
    "with empty parts": [b"", BODY[:9], b"", BODY[9:], b""],
    "with trailers": [BODY, ...],
    "in parts, with trailers": [BODY[:9], BODY[9:], ...],
    "as large as it may be": [BODY, b" " * (65_536 - len(BODY))],
}
HTTP_2_EMPTY = {"without body": [], "with an empty body": [b""], "with trailers alone": [...]}


def over_http_1(stage, path, headers, parts, late=False):
    """The answer to a request over HTTP/1.1; `late`: its parts come when the headers have long been there."""
    with stage.connect() as connection:
        connection.write("POST", path, headers)
        if late:
            wait_for_active(stage, 1)
        for part in parts:
            connection.socket.sendall(part)
        return connection.read()


def over_http_2(stage, path, headers, parts, late=False):
    """The answer to a request over HTTP/2."""
    with Http2(stage.port) as connection:
        stream = connection.start("POST", path, headers, end=not parts)
        if late:
            wait_for_active(stage, 1)
        for i, part in enumerate(parts):
            if part is ...:
                connection.trailers(stream, ("x-trailer", "a"), ("x-mulkko-flags", "b"))
            else:
                connection.send(stream, part, end=i == len(parts) - 1)
        return connection.response(stream)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
def test_a_body_may_come_in_any_way(mesh, late):
    for way, (headers, parts) in HTTP_1.items():
        assert resolved(over_http_1(mesh, path_of("number"), headers, parts, late))[0] == "n7", way
    for way, (headers, parts) in HTTP_1_EMPTY.items():
        late_part = late and bool(parts)
        assert resolved(over_http_1(mesh, path_of("number"), headers, parts, late_part))[0] == "n0", way
    for way, parts in HTTP_2.items():
        for headers in [], [length(b"".join(part for part in parts if part is not ...))]:
            assert resolved(over_http_2(mesh, path_of("number"), headers, parts, late))[0] == "n7", way
    for way, parts in HTTP_2_EMPTY.items():
        late_part = late and bool(parts)
        assert resolved(over_http_2(mesh, path_of("number"), [], parts, late_part))[0] == "n0", way


def test_the_headers_wait_for_the_word_to_go_on(mesh):
    with mesh.connect() as connection:
        connection.write("POST", path_of("number"), [length(BODY), ("expect", "100-continue")])
        assert connection.read().status == 100
        connection.socket.sendall(BODY)
        assert resolved(connection.read())[0] == "n7"


def test_a_body_that_is_too_large_is_refused_as_soon_as_that_is_known(mesh):
    more = BODY + b" " * (65_537 - len(BODY))
    parts = [more[i : i + 4096] for i in range(0, len(more), 4096)]
    for path in ALL, path_of("number"):
        for answer in (
            over_http_1(mesh, path, [length(more)], []),
            over_http_1(mesh, path, [length(more)], [more]),
            over_http_1(mesh, path, [CHUNKED], [chunk(more), LAST]),
            over_http_1(mesh, path, [CHUNKED], map(chunk, parts)),
            over_http_1(mesh, path, [CHUNKED], map(chunk, parts), late=True),
            over_http_2(mesh, path, [length(more)], [more]),
            over_http_2(mesh, path, [], [more]),
            over_http_2(mesh, path, [], [*parts, ...]),
        ):
            assert answer.status == 413
            assert written(answer)["errorDetails"]
    with Http2(mesh.port) as connection:
        # The end never comes; the other requests of the connection are answered all the same.
        endless = connection.start("POST", ALL)
        other = connection.start("POST", path_of("number"))
        connection.send(endless, more)
        assert connection.response(endless).status == 413
        connection.send(other, BODY, end=True)
        assert resolved(connection.response(other))[0] == "n7"
        assert resolved(connection.ask("POST", path_of("number"), [], BODY))[0] == "n7"
        assert not connection.closing


def raw(path, body=b""):
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_requests_that_follow_without_waiting_are_answered_in_order(mesh):
    with mesh.connect() as connection:
        # Two at a time: Envoy takes more answers of its own that nobody has read for an attack.
        for first, second in zip(NUMBERS[::2], NUMBERS[1::2], strict=True):
            numbers = [raw(path_of("number"), body_of({"number": name})) for name in (first, second)]
            connection.socket.sendall(b"".join(numbers))
            assert [resolved(connection.read())[0] for _ in numbers] == [first, second]
        connection.socket.sendall(raw(path_of("static")) + raw(path_of("number"), BODY))
        assert [resolved(connection.read())[0] for _ in range(2)] == [False, "n7"]


def test_requests_side_by_side_are_not_mixed_up(mesh):
    with Http2(mesh.port) as connection:
        streams = {name: connection.start("POST", path_of("number")) for name in NUMBERS}
        wait_for_active(mesh, len(NUMBERS))
        # The bodies come in pieces, in turn, and end in another order than the requests came.
        for cut in range(0, 12, 3):
            for name, stream in streams.items():
                connection.send(stream, body_of({"number": name})[cut : cut + 3])
        for name, stream in reversed(streams.items()):
            connection.send(stream, body_of({"number": name})[12:], end=True)
        for name, stream in streams.items():
            assert resolved(connection.response(stream))[0] == name
        assert not connection.closing


def test_flags_are_asked_for_with_post_alone(mesh):
    for method in "HEAD", "GET", "PUT", "PATCH", "DELETE", "SEARCH":
        for path in ALL, path_of("static"), path_of("no-such-flag"):
            for body in b"", b"{}":
                with mesh.connect() as connection:
                    answer = connection.send(method, path, (), body)
                with Http2(mesh.port) as connection:
                    other = connection.ask(method, path, (), body)
                for response in answer, other:
                    assert response.status == 405, (method, path)
                    assert "POST" in response.header("allow")
                    assert method == "HEAD" or written(response)["errorDetails"]


BELOW = [
    *("/ofrep/v1", "/ofrep/v1/", "/ofrep/v1?x=/", "/ofrep/v1/other", "/ofrep/v1/evaluate", "/ofrep/v1/evaluate/"),
    *("/ofrep/v1/evaluate/flag/static", "/ofrep/v1/evaluate/flagsstatic", "/ofrep/v1/evaluate/Flags"),
    *("/ofrep/v1/configuration", "/ofrep/v1/ofrep/v1/evaluate/flags"),
    # As Envoy normalises them.
    *("//ofrep///v1//other", "/x/../ofrep/v1/other", "/ofrep/./v1/evaluate/../other"),
]  # fmt: skip


def test_below_the_prefix_nothing_goes_upstream(mesh):
    for path in BELOW:
        for method, body in ("GET", b""), ("POST", b""), ("POST", b"{}"), ("PUT", b"x" * 10_000):
            with mesh.connect() as connection:
                response = connection.send(method, path, (), body)
            assert (response.status, response.upstream) == (404, None), (method, path)
            assert written(response)["errorDetails"]
            with Http2(mesh.port) as connection:
                assert connection.ask(method, path, (), body).status == 404, (method, path)
    with mesh.connect() as connection:
        assert by_key(connection.send("POST", "/x/..//ofrep/v1/./evaluate//flags", (), BODY))["number"]["value"] == "n7"


BESIDE = [
    *("/", "/ofrep", "/ofrep/", "/ofrep/v10", "/ofrep/v10/evaluate/flags", "/ofrep/v1x/evaluate/flags", "/ofrep/v1."),
    *("/OFREP/v1/evaluate/flags", "/Ofrep/V1", "/x/ofrep/v1/evaluate/flags", "/?/ofrep/v1/evaluate/flags"),
    *("/ofrep?/v1", "/evaluate/flags", "/ofrep/v1;x/evaluate/flags"),
]  # fmt: skip


def test_beside_the_prefix_all_goes_upstream(set_stage):
    stage = set_stage(plugin=configuration({"flags": FLAGS}))
    for path in BESIDE:
        for method, body in ("GET", b""), ("POST", b""), ("POST", b"{}"), ("POST", b" " * 70_000), ("OPTIONS", b""):
            with stage.connect() as connection:
                response = connection.send(method, path, [("x-echo", "1")], body)
            assert response.upstream == "checkout-v1", (method, path)
            assert response.echo.request["path"] == path
    assert stage.metric("ofrep_requests") == 0
    # A connection may carry both, one behind the other.
    with stage.connect() as connection:
        connection.socket.sendall(raw(path_of("number"), BODY) + raw("/ofrep", BODY))
        assert resolved(connection.read())[0] == "n7"
        assert connection.read().upstream == "checkout-v1"
        connection.socket.sendall(raw("/ofrep", BODY) + raw(path_of("number"), BODY))
        assert connection.read().upstream == "checkout-v1"
        assert resolved(connection.read())[0] == "n7"


def test_without_ofrep_all_goes_upstream(set_stage):
    stage = set_stage(plugin='{"name": "shop", "policy": {"flags": {}}}')
    assert stage.get(ALL).upstream == ask(stage).upstream == "checkout-v1"
