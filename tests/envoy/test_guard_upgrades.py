"""Upgrades: a guard counts neither how they end nor how long they take, and of plain requests to the same service both."""

import contextlib

import h2.events
import pytest
from documents import guarded
from guards import judged, users_of
from http2 import Http2
from services import Switching, send_all_to, serving
from stage import in_force, wait_until

# How the service behaves; status and flags of an upgrade; of a plain request, whether it is an error, and whether slow.
MANNERS = {
    "well": ({}, 101, "DC", 0, 0),
    "refusing": ({"fault": "503", "ratio": 1}, 503, "-", 1, 0),
    "breaking off": ({"fault": "break-off", "ratio": 1}, 101, "UC", 1, 0),
    "late": ({"delay_ms": 600}, 101, "DC", 0, 1),
}


def policy():
    """Half of the users get the canary, no verdict puts an end to it, and two responses of the default say what is slow."""
    latency = {"quantiles": [0.5], "minBaseline": 100, "minDelta": "300ms"}
    return guarded(50, window="100ms", onBreach="report", errors={}, latency=latency)


@pytest.fixture
def stage(set_stage):
    """One that takes upgrades, of one worker: what is logged there before a request comes is counted before it."""

    def edit(bootstrap):
        send_all_to(bootstrap, "switching", port)
        bootstrap.connection_manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
        bootstrap.connection_manager["http2_protocol_options"] = {"allow_connect": True}

    with serving(Switching, "switching") as port:
        stage = set_stage(policy=policy(), workers=1, edit=edit)
        # For `behave`.
        stage.upstreams["switching"] = port
        stage.wait_for_all_workers(in_force(1))
        yield stage


def upgrade(stage, who, path):
    """Upgrades a connection, says something and leaves; gives the line of the access log."""
    with stage.connect() as connection:
        connection.write("GET", path, [who, ("connection", "upgrade"), ("upgrade", "websocket")])
        if connection.read("GET").status == 101:
            connection.socket.sendall(b"ping")
            assert connection.socket.recv(4) in (b"ping", b"")
    return logged(stage, path)


def tunnel(stage, who, path):
    """The same over HTTP/2, where an upgrade is a CONNECT."""
    with Http2(stage.port) as connection:
        stream = connection.start("CONNECT", path, [(":protocol", "websocket"), who])
        connection.send(stream, b"ping")
        connection.wait_for(stream, h2.events.DataReceived)
    return logged(stage, path)


def logged(stage, path):
    """The line of the access log, as soon as it is there."""
    lines = lambda: [line for line in stage.access_log() if line["path"] == path]
    return wait_until(lines, "the access log")[0]


def ask(stage, who):
    """A plain request. One that is broken off has no answer."""
    with contextlib.suppress(ConnectionError):
        stage.get("/checkout", who)


def counted(stage):
    """What was counted of the canary: requests and errors among them, responses and slow ones among them."""
    return [
        judged(stage, metric, test, variant="canary")
        for test in ("errors", "p50")
        for metric in ("guard_requests", "guard_bad_requests")
    ]


def assert_counted(stage, expected, what):
    """So much has been counted, as soon as it is told."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: counted(stage) == expected, what)
    assert counted(stage) == expected, what


def test_upgrades_count_neither_as_requests_nor_as_responses(stage):
    canary, stable = users_of("canary", 50), users_of("stable", 50)
    # Did these say how fast the default is, the second plain request would be compared with them.
    for i in range(4):
        assert upgrade(stage, next(stable), f"/checkout/stable-{i}")["code"] == 101
    for requests in (1, 2):
        ask(stage, next(canary))
        assert_counted(stage, [requests, 0, 0, 0], "nothing to compare with")

    for _ in range(2):
        ask(stage, next(stable))

    def is_compared():
        ask(stage, next(canary))
        return judged(stage, test="p50", variant="canary") > 0

    wait_until(is_compared, "something to compare with")
    sent = stage.metric("requests", variant="canary", reason="SPLIT")
    wait_until(lambda: judged(stage, variant="canary") == sent, "all of them")
    requests, errors, responses, slow = counted(stage)
    assert (errors, slow) == (0, 0)

    for what, (manners, status, flags, is_error, is_slow) in MANNERS.items():
        stage.behave("switching", **manners)
        for use in (upgrade, tunnel) if what == "well" else (upgrade,):
            line = use(stage, next(canary), f"/checkout/{use.__name__}/{what.replace(' ', '-')}")
            assert (line["checkout-v2"], line["checkout-v2.reason"]) == ("canary", "SPLIT"), what
            assert (line["code"], line["flags"]) == (status, flags), what
        ask(stage, next(canary))
        requests, errors, responses, slow = requests + 1, errors + is_error, responses + 1, slow + is_slow
        assert_counted(stage, [requests, errors, responses, slow], what)
