"""Clients that mean ill, and what the server has left for all others."""

import contextlib
import http.client
import socket
import ssl
import time

import pytest
import requests
import trustme
from documents import policy
from serve import TOKEN
from stage import wait_until

AUTHORITY = trustme.CA()


@contextlib.contextmanager
def unharmed(server, connect):
    """The server serves before and after, and has not grown by what it was sent."""
    with connect(server) as client:
        assert client.push(policy(1)).status_code == 201
        before = server.memory_bytes()
        yield client
        assert client.policy().json() == policy(1)
        assert client.push(policy(2), client.policy().headers["etag"]).status_code == 201
        assert server.memory_bytes() < before + (80 << 20)


def raw(server, head, pieces=()):
    """Sends a request as it stands; gives status and text of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def connections(client):
    """How many connections the server has."""
    return int(client.get("/metrics").text.split("\nmulkko_serve_connections ")[1].split()[0])


def head(*lines):
    """A push's head, with a good token."""
    first = ("PUT /v1/policies/shop HTTP/1.1", "host: x", f"authorization: Bearer {TOKEN}", "if-match: *")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def test_a_body_of_100_mb_is_refused(serve, connect):
    server = serve()
    with unharmed(server, connect):
        said = raw(server, head("content-length: 104857600"), (b" " * 65536 for _ in range(1600)))
        assert said[0] == 413 and "expected a body of at most 8388608 bytes" in said[1]
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        unsaid = raw(server, head("transfer-encoding: chunked"), (chunk for _ in range(1600)))
        assert unsaid == said


def test_nobody_s_body_is_not_read(serve, connect):
    server = serve()
    with unharmed(server, connect):
        request = head("content-length: 8000000").replace(TOKEN.encode(), b"nobody")
        assert raw(server, request)[0] == 401


@pytest.mark.parametrize(
    "line, token, status, closes",
    [
        ("PUT /v1/policies/shop", "nobody", 401, True),
        ("PUT /v1/policies/shop", TOKEN, 422, False),
        ("PUT /v1/nothing", TOKEN, 404, True),
        ("POST /v1/policies", TOKEN, 405, True),
    ],
)
def test_a_connection_ends_with_a_word_where_a_body_was_not_read(serve, connect, line, token, status, closes):
    server = serve()
    with unharmed(server, connect), socket.create_connection(("127.0.0.1", server.port)) as connection:
        headers = f"host: x\r\nauthorization: Bearer {token}\r\nif-none-match: *\r\ncontent-length: 1\r\n\r\n"
        connection.sendall(f"{line} HTTP/1.1\r\n{headers}".encode())
        if not closes:
            connection.sendall(b"{")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.getheader("connection") == "close") == (status, closes), answer.read()
        answer.read()
        if not closes:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 204 ")


def test_a_body_that_hangs_or_breaks_off_is_refused(serve, connect):
    server = serve(options=["--body-timeout", "1s"])
    with unharmed(server, connect):
        status, text = raw(server, head("content-length: 1000"), [b"{"])
        assert status == 408 and "the body took too long" in text
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head("content-length: 1000") + b"{")
            connection.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(connection)
            with contextlib.suppress(http.client.HTTPException):
                answer.begin()
                assert answer.status == 400


def test_slow_clients_are_closed_and_keep_nobody_from_being_served(serve, connect):
    server = serve(options=["--connections", "300"])
    with unharmed(server, connect) as client, contextlib.ExitStack() as cleanup:
        lorises = [cleanup.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(250)]
        for loris in lorises:
            loris.sendall(b"GET /v1/policies/shop HTTP/1.1\r\nhost: x\r\n")
        started = time.monotonic()

        def open_lorises():
            for loris in lorises:
                with contextlib.suppress(OSError):
                    loris.sendall(b"x-slow: 1\r\n")
            assert client.policy().status_code == 200
            time.sleep(0.5)
            return connections(client)

        assert open_lorises() >= 250
        wait_until(lambda: open_lorises() < 10, "their end", 20)
        assert time.monotonic() - started < 18


def test_who_takes_nothing_of_an_answer_is_closed(serve, connect):
    server = serve()
    with unharmed(server, connect) as client, contextlib.ExitStack() as cleanup:
        for _ in range(8):
            hog = cleanup.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            # More than the sockets' buffers hold, asked for at once.
            hog.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 1_000)
        wait_until(lambda: connections(client) > 8, "all of them")
        wait_until(lambda: connections(client) < 3, "their end", 60)


def test_there_are_only_so_many_connections(serve, connect):
    server = serve(options=["--connections", "20"])
    with unharmed(server, connect) as client:
        with contextlib.ExitStack() as cleanup:
            for _ in range(50):
                cleanup.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            wait_until(lambda: server.log().count("too many connections") >= 30, "the refusals")
            assert client.policy().status_code == 200, "who was there is served"
        wait_until(lambda: "mulkko_serve_connections 1\n" in client.get("/metrics").text, "their end")


@pytest.mark.parametrize(
    "request_head, status",
    [
        (b"GET /v1/policies/shop HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", 431),
        (b"\x00\x01\x02\x03\r\n\r\n", 400),
        (b"GET /v1/policies/../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /v1/policies/%2e%2e%2fservers HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /v1/policies/%00 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /v1/policies/%ff HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /v1/policies/shop/versions/99999999999999999999999 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /v1/policies/shop/versions?limit=-1 HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET /v1/policies/shop HTTP/1.1\r\nhost: x\r\nif-none-match: \xff\xff\r\nx-mulkko-node: \xff\r\n\r\n", 200),
        (b"GET /v1/policies/shop HTTP/1.1\r\nhost: x\r\nprefer: wait=99999999999999999999\r\n\r\n", 200),
    ],
)
def test_garbage_is_refused(serve, connect, request_head, status):
    server = serve()
    with unharmed(server, connect):
        assert raw(server, request_head)[0] == status
        assert "panicked" not in server.log()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Files of certificates: the server's, the authority's, a client's, and one that somebody else has signed."""
    folder = tmp_path_factory.mktemp("certificates")
    files = {"server": AUTHORITY.issue_cert("127.0.0.1"), "client": AUTHORITY.issue_cert("proxy.example.com")}
    files["stranger"] = trustme.CA().issue_cert("proxy.example.com")
    for name, made in files.items():
        made.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
    AUTHORITY.cert_pem.write_to_path(folder / "ca.pem")
    return folder


def test_tls_is_for_those_with_the_right_certificate(serve, certificates):
    pem, ca = (lambda name: str(certificates / f"{name}.pem")), str(certificates / "ca.pem")
    tls = ["--tls-cert", pem("server"), "--tls-key", pem("server")]
    server = serve(options=[*tls, "--client-ca", ca])
    assert server.url.startswith("https://")
    server.push(policy(1), "--ca", ca, "--client-cert", pem("client"))
    url = f"{server.url}/v1/policies/shop"
    assert requests.get(url, verify=ca, cert=pem("client"), timeout=10).json() == policy(1)
    for wrong in (None, pem("stranger")):
        with pytest.raises((requests.exceptions.SSLError, requests.exceptions.ConnectionError)):
            requests.get(url, verify=ca, cert=wrong, timeout=10)
    wait_until(lambda: server.log().count("connection refused") >= 2, "the refusals")
    done = server.push(policy(2), "--ca", ca, "--client-cert", pem("stranger"), check=False)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {server.url}/: ")
    done = server.push(policy(2), "--client-cert", pem("client"), check=False)
    assert done.returncode == 2 and "invalid peer certificate" in done.stderr
    # No TLS, and a handshake that says nothing.
    with pytest.raises(requests.exceptions.RequestException):
        requests.get(url.replace("https", "http"), timeout=10)
    context = ssl.create_default_context(cafile=ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pem("client"))
    with socket.create_connection(("127.0.0.1", server.port)) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            assert secure.version() == "TLSv1.2"
    assert requests.get(url, verify=ca, cert=pem("client"), timeout=10).json() == policy(1)


def test_a_silent_handshake_ends(serve, certificates):
    pem = str(certificates / "server.pem")
    server = serve(options=["--tls-cert", pem, "--tls-key", pem])
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as silent:
        assert silent.recv(1) == b"", "closed"
