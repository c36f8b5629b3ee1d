"""Shadows that fail, in every way: the user's request comes first."""

import contextlib
import itertools
import json
import re
from pathlib import Path

import pytest
from documents import source
from explain import explain_pass
from services import Endless, Noting, Service, serving
from shadows import JSON, add_secondary, compared, encoded, launch_another, order, report, versions, wait_for_report
from stage import Stage, in_force, wait_until

MB = 1_000_000


@pytest.fixture
def failing(set_stage):
    """Sets a stage with a shop that does well, and a shadow that is the stage's own service `checkout-v2`, or what else
    listens at `port`.
    """
    with contextlib.ExitStack() as cleanup:

        def enter(policy=None, port=None, respond=lambda version, number: order(number), edit=None, endpoints=None, **arguments):
            def both(bootstrap):
                add_secondary(bootstrap)
                if edit:
                    edit(bootstrap)

            ports = cleanup.enter_context(versions(lambda version, number: encoded(*respond(version, number))))
            ports = {"checkout-v1": ports["checkout-v1"], "checkout-v1b": ports["checkout-v1b"]}
            if port:
                ports["checkout-v2"] = port
            ports |= endpoints or {}
            policy = policy or compared(compare={})
            stage = set_stage(policy=policy, endpoints=ports, edit=both, **arguments)
            stage.wait_for_all_workers(in_force(1))
            return stage

        yield enter


def ask(stage, count=50):
    """Asks for orders, one after another: none may fail, or take 2 s."""
    with stage.connect() as connection:
        for number in range(count):
            response = connection.get(f"/checkout?{number}")
            assert (response.status, response.upstream) == (200, "checkout-v1")
            assert response.received - response.sent < 2
            assert json.loads(response.body)["order"] == number


def wait_for_dropped(stage, reason, count, seconds=20):
    """Waits until so many requests were dropped for this reason; none may be for another."""
    wait_until(lambda: stage.metric("shadow_dropped", reason=reason) >= count, f"{count} dropped: {reason}", seconds)
    reasons = {labels["reason"] for name, labels, _ in stage.metrics() if name == "shadow_dropped"}
    assert reasons == {reason}
    assert stage.metric("shadow_requests", outcome="dropped") == stage.metric("shadow_dropped")


@pytest.mark.parametrize(
    ("fault", "reason"), [("close", "unreachable"), ("break-off", "reset"), ("hang", "timeout"), ("stall", "reset")]
)
def test_a_shadow_that_does_not_answer(failing, fault, reason):
    stage = failing(compared(compare={}, timeout="500ms"))
    stage.behave("checkout-v2", fault=fault, ratio=1)
    ask(stage)
    wait_for_dropped(stage, reason, 50)


def test_a_shadow_that_hangs_for_seconds_fills_what_it_may(failing):
    stage = failing(compared(compare={}, timeout="3s", maxInFlight=5))
    stage.behave("checkout-v2", fault="hang", ratio=1)
    ask(stage)
    wait_for_dropped(stage, "in_flight", 45)
    wait_until(lambda: stage.metric("shadow_dropped", reason="timeout") == 5, "the others", 20)


def test_a_shadow_that_is_down(failing):
    stage = failing(port=1)
    ask(stage)
    wait_for_dropped(stage, "unreachable", 50)


def test_a_shadow_that_the_proxy_does_not_know(failing):
    policy = compared(compare={})
    policy["rollouts"][0]["shadow"]["cluster"] = "checkout-v9"
    stage = failing(policy)
    ask(stage)
    wait_for_dropped(stage, "no_cluster", 50)


def test_a_shadow_without_a_healthy_host(failing):
    stage = failing(policy_for("checkout-empty"), edit=add_empty)
    ask(stage)
    wait_for_dropped(stage, "unavailable", 50)


def add_empty(bootstrap):
    """A cluster without endpoints."""
    clusters = bootstrap.document["static_resources"]["clusters"]
    clusters.append(
        {"name": "checkout-empty", "connect_timeout": "1s", "load_assignment": {"cluster_name": "checkout-empty"}}
    )


def policy_for(cluster, **shadow):
    """Compares with another cluster."""
    policy = compared(compare={}, **shadow)
    policy["rollouts"][0]["shadow"]["cluster"] = cluster
    return policy


def test_a_shadow_whose_circuit_breaker_is_open(failing):
    def edit(bootstrap):
        clusters = bootstrap.document["static_resources"]["clusters"]
        cluster = next(cluster for cluster in clusters if cluster["name"] == "checkout-v2")
        cluster["circuit_breakers"] = {"thresholds": [{"max_requests": 1, "max_pending_requests": 1}]}

    stage = failing(compared(compare={}, timeout="1s"), edit=edit, workers=1)
    stage.behave("checkout-v2", fault="hang", ratio=1)
    ask(stage)
    wait_until(lambda: stage.metric("shadow_dropped") >= 50, "all copies", 20)
    # Envoy answers in the cluster's place, or refuses at once.
    reasons = {labels["reason"] for name, labels, _ in stage.metrics() if name == "shadow_dropped"}
    assert reasons <= {"unavailable", "unreachable", "timeout"} and len(reasons) > 1


@pytest.mark.parametrize("limit_mb", [None, 1])
def test_a_shadow_that_answers_100_mb(failing, limit_mb):
    """Envoy keeps up to 32 MB of an answer to a call, unless it is told otherwise."""

    def edit(bootstrap):
        if limit_mb:
            limit = {"http.async_response_buffer_limit": limit_mb * MB}
            bootstrap.document["layered_runtime"] = {"layers": [{"name": "static", "static_layer": limit}]}

    Endless.size = 100 * MB
    with serving(Endless, "checkout-v2") as port:
        stage = failing(compared(compare={}, timeout="20s", maxInFlight=2), port=port, edit=edit)
        before = resident_mb(stage)
        ask(stage)
        wait_until(lambda: stage.metric("shadow_dropped", reason="reset") >= 2, "resets", 30)
        grown = resident_mb(stage) - before
        print(f"resident: {before} MB before, {grown} MB more after answers of 100 MB")
    assert grown < (20 if limit_mb else 150)


def test_a_response_of_50_mb_streams_and_is_not_kept(failing):
    """Of that size are the user's answers; the shadow's is short, since Envoy keeps that."""
    Endless.size = 50 * MB
    with serving(Endless, "checkout-v1") as port:
        stage = failing(endpoints={"checkout-v1": port}, workers=1)
        before = resident_mb(stage)
        with stage.connect() as connection:
            for number in range(3):
                assert len(connection.get(f"/checkout?{number}").body) == 50 * MB
        grown = resident_mb(stage) - before
        print(f"resident: {before} MB before, {grown} MB more after three responses of 50 MB")
        document = wait_for_report(stage, 3)
    assert [(field["kind"], field["different"]) for field in document["fields"] if field["name"] == "body"] == [("body", 3)]
    assert grown < 25


def resident_mb(stage):
    """The memory of Envoy that is resident."""
    status = Path(f"/proc/{stage.envoy.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1_000


HOSTILE = {
    "deep": b"[" * 10_000,
    "a long key": b'{"' + b"k" * 64_000 + b'":1}',
    "no UTF-8": b'{"a":"\xff"}',
    "many keys": b"{" + b",".join(b'"%d":%d' % (i, i) for i in range(8_000)) + b"}",
    "a NUL": b'{"a\\u0000":1}',
    "half a pair": b'{"a":"\\ud800"}',
    "nothing": b"",
    "cut short": b'{"a":1',
}


@pytest.fixture(scope="module")
def launch():
    """A stage, and what launches one version after another there, each with an answer; that gives the launch's name."""
    launches = itertools.count(1)
    with (
        versions(lambda _, number: encoded(*order(number))) as ports,
        serving(lambda _: HostileShop(), "checkout-v2") as port,
        Stage(endpoints=ports | {"checkout-v2": port}, edit=add_secondary, plugin={"source": source()}) as stage,
    ):

        def enter(body):
            HostileShop.body = body
            return launch_another(stage, launches, compare={})

        yield stage, enter


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_of_a_shadow_is_a_difference_and_no_more(launch, name):
    stage, begin = launch
    rollout = begin(HOSTILE[name])
    ask(stage)
    document = wait_for_report(stage, 50, rollout=rollout)
    assert document["equal"] == 0
    assert any(field["differs"] for field in document["fields"])
    assert stage.stats("vm_reload|wasm.*active").get("wasm.envoy.wasm.runtime.v8.active") == 4


class HostileShop(Service):
    """Answers with the same JSON, whatever it is."""

    body = b""

    def __init__(self):
        super().__init__("checkout-v2")

    def respond(self, fault, more, text):
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(self.body)
        self.transport.write(head + self.body)


def test_what_is_known_is_for_who_may_know_it(failing):
    stage = failing(compared(compare={}))
    for headers in [[], [("x-mulkko-pass", "forged")]]:
        response = stage.get("/.mulkko/shadow/checkout-v2", *headers)
        assert response.upstream == "checkout-v1"
    assert stage.get("/.mulkko/shadow/another", explain_pass()).status == 404
    assert report(stage)["compared"] == 0


BODIES = {
    "none": (b"", [], "compared"),
    "short": (b"a" * 1_000, [], "compared"),
    "as long as may be": (b"a" * 65_536, [], "compared"),
    "too long": (b"a" * 65_537, [], "dropped"),
    "as long as nobody knows": (b"5\r\naaaaa\r\n0\r\n\r\n", [("transfer-encoding", "chunked")], "dropped"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_copied_up_to_their_limit(set_stage, name):
    body, headers, outcome = BODIES[name]
    with serving(Noting, "checkout-v1") as v1, serving(Noting, "checkout-v2") as v2:
        policy = compared(compare={}, methods=["POST"])
        stage = set_stage(policy=policy, endpoints={"checkout-v1": v1, "checkout-v2": v2})
        stage.wait_for_all_workers(in_force(1))
        Noting.arrived.clear()
        with stage.connect() as connection:
            if headers:
                connection.write("POST", "/checkout?1", headers, body)
                assert connection.read("POST").status == 200
            else:
                assert connection.send("POST", "/checkout?1", body=body).status == 200
        if outcome == "dropped":
            wait_for_dropped(stage, "body", 1)
            assert not Noting.arrived["checkout-v2"]
        else:
            wait_until(lambda: Noting.arrived["checkout-v2"], "the copy")
            [copy] = Noting.arrived["checkout-v2"]
            assert (copy.method, copy.path, copy.body) == ("POST", "/checkout?1", body)


def test_long_bodies_are_mirrored_where_the_policy_says_so(set_stage):
    with serving(Noting, "checkout-v1") as v1, serving(Noting, "checkout-v2") as v2:
        policy = compared(compare={}, methods=["POST"], largeBodies="mirror", maxBodyBytes=10)
        stage = set_stage(policy=policy, endpoints={"checkout-v1": v1, "checkout-v2": v2})
        stage.wait_for_all_workers(in_force(1))
        Noting.arrived.clear()
        with stage.connect() as connection:
            connection.send("POST", "/checkout?1", body=b"a" * 200_000)
        wait_until(lambda: Noting.arrived["checkout-v2"], "the copy")
        [copy] = Noting.arrived["checkout-v2"]
        assert (copy.header("x-mulkko-shadow"), len(copy.body)) == ("mirror", 200_000)
        stage.wait_for_metric("shadow_requests", 1, outcome="mirrored")


@pytest.mark.parametrize("credentials", [False, True, ["X-Session*"]])
def test_a_copy_is_the_request_but_for_credentials(set_stage, credentials):
    with serving(Noting, "checkout-v1") as v1, serving(Noting, "checkout-v2") as v2:
        stage = set_stage(
            policy=compared(compare={}, credentials=credentials), endpoints={"checkout-v1": v1, "checkout-v2": v2}
        )
        stage.wait_for_all_workers(in_force(1))
        Noting.arrived.clear()
        usual = ["cookie", "authorization", "proxy-authorization"]
        named = ["x-api-key", "x-amzn-oidc-data", "cf-access-jwt-assertion"]
        secret = [(name, "secret") for name in (*usual, *named, "x-session-id")]
        own = [*secret, ("x-custom", "1"), ("accept-encoding", "gzip")]
        with stage.connect() as connection:
            connection.get("/checkout?1", *own)
        wait_until(lambda: Noting.arrived["checkout-v2"], "the copy")
        [real], [copy] = Noting.arrived["checkout-v1"], Noting.arrived["checkout-v2"]
        for name in ("host", "x-custom", "x-request-id", "x-mulkko-checkout-v2", "baggage"):
            assert copy.header(name) == real.header(name), name
        assert (copy.header("accept-encoding"), copy.header("x-mulkko-shadow")) == ("identity", "compare")
        if isinstance(credentials, bool):
            kept = [*usual, *named, "x-session-id"] if credentials else ["x-session-id"]
        else:
            kept = named
        for name, value in secret:
            assert real.header(name) == value, name
            assert copy.header(name) == (value if name in kept else None), name


def test_a_header_that_is_no_text_is_not_copied(failing):
    stage = failing()
    with stage.connect() as connection:
        connection.get("/checkout?1", ("x-custom", b"\xff"))
    wait_for_dropped(stage, "headers", 1)


def test_values_are_told_only_where_the_policy_says_so(failing):
    for shows in (False, True):
        stage = failing(compared(compare={"showValues": shows}))
        ask(stage, 20)
        document = json.dumps(wait_for_report(stage, 20))
        assert ("checkout-v2" in document) and ('"example"' in document)
        assert (JSON[1] in document) == shows
