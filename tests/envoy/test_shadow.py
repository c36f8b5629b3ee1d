"""Shadows in Envoy: copies of requests, whose responses nobody sees."""

import contextlib
import json

import pytest
from arithmetic import in_first
from documents import user
from passes import make_pass
from services import Noting, serving
from shadows import shadowed
from stage import PASS_KEY, in_force, wait_until


@pytest.fixture
def noting(set_stage):
    """Sets a stage whose upstreams note what arrives, and gives it with what has arrived, by upstream."""
    with contextlib.ExitStack() as cleanup:

        def enter(policy, **arguments):
            ports = {name: cleanup.enter_context(serving(Noting, name)) for name in ("checkout-v1", "checkout-v2")}
            stage = set_stage(policy=policy, endpoints=ports, **arguments)
            stage.wait_for_all_workers(in_force(policy["revision"]))
            Noting.arrived.clear()
            return stage, Noting.arrived

        yield enter


def test_envoy_mirrors_what_the_policy_picks(noting):
    stage, arrived = noting(shadowed(key="user", percent=30, methods=["GET", "POST"]))
    secrets = [
        ("cookie", "session=1"), ("authorization", "Bearer 1"), ("proxy-authorization", "Basic 1"), ("x-api-key", "1"),
        ("x-mulkko-pass", make_pass(PASS_KEY, explain=True)), ("x-mulkko-mirror", "checkout-v1"),
    ]  # fmt: skip
    picked = {i for i in range(60) if in_first(30, "checkout-v2/shadow", f"user-{i}")}
    with stage.connect() as connection:
        for i in range(60):
            response = connection.send("POST", f"/checkout?{i}", [user(i), *secrets], body=b"body of %d" % i)
            assert (response.status, response.upstream) == (200, "checkout-v1")
    wait_until(lambda: len(arrived["checkout-v2"]) >= len(picked), "the copies")
    assert {int(copy.path.partition("?")[2]) for copy in arrived["checkout-v2"]} == picked
    for copy in arrived["checkout-v2"]:
        assert (copy.method, copy.body.decode()) == ("POST", f"body of {copy.path.partition('?')[2]}")
        assert (copy.header("x-mulkko-shadow"), copy.header("x-mulkko-checkout-v2")) == ("mirror", "stable")
        assert not {name for name, _ in secrets} & dict(copy.headers).keys()
        assert copy.header("host") == arrived["checkout-v1"][0].header("host")
    assert len(arrived["checkout-v1"]) == 60
    for request in arrived["checkout-v1"]:
        assert request.header("x-mulkko-shadow") is None
        assert request.header("cookie") == "session=1" and request.header("authorization")
        is_picked = int(request.path.partition("?")[2]) in picked
        assert request.header("x-mulkko-mirror") == ("checkout-v2" if is_picked else None)
    stage.wait_for_metric("shadow_requests", len(picked), rollout="checkout-v2", outcome="mirrored")


def take_mirror_off(bootstrap):
    """Has filters of the stable version's cluster remove what names the mirror."""
    api = "type.googleapis.com/envoy.extensions"
    codec = {"@type": f"{api}.filters.http.upstream_codec.v3.UpstreamCodec"}
    mutations = {"request_mutations": [{"remove": "x-mulkko-mirror"}]}
    filters = [
        {"name": "mutation", "typed_config": {"@type": f"{api}.filters.http.header_mutation.v3.HeaderMutation", "mutations": mutations}},
        {"name": "codec", "typed_config": codec},
    ]
    options = f"{api.removeprefix('type.googleapis.com/')}.upstreams.http.v3.HttpProtocolOptions"
    for cluster in bootstrap.document["static_resources"]["clusters"]:
        if cluster["name"] == "checkout-v1":
            cluster["typed_extension_protocol_options"] = {
                options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http_protocol_options": {}}, "http_filters": filters}
            }


def test_what_takes_the_header_off_stops_the_copies(noting):
    """Why requests keep it: Envoy looks for it only after the filters of their cluster."""
    stage, arrived = noting(shadowed(methods=["GET", "POST"]), edit=take_mirror_off)
    with stage.connect() as connection:
        for i in range(20):
            connection.send("POST", f"/checkout?{i}", body=b"1")
    stage.wait_for_metric("shadow_requests", 20, rollout="checkout-v2", outcome="mirrored")
    assert [request.header("x-mulkko-mirror") for request in arrived["checkout-v1"]] == [None] * 20
    # A copy is sent before the user has an answer.
    assert stage.stats("cluster.checkout-v2.upstream_rq_total$") == {"cluster.checkout-v2.upstream_rq_total": 0}


def test_requests_that_a_shadow_does_not_pick_have_no_copy(noting):
    stage, arrived = noting(shadowed(when={"==": [{"var": "request.headers.x-copy"}, "yes"]}))
    yes, no = ("x-copy", "yes"), ("x-copy", "no")
    with stage.connect() as connection:
        connection.send("POST", "/checkout", [yes], body=b"1")
        connection.get("/checkout", no)
        connection.get("/checkout", no, ("x-mulkko-mirror", "checkout-v2"))
        connection.get("/elsewhere", yes)
        connection.get("/checkout?this", yes)
    wait_until(lambda: arrived["checkout-v2"], "the copy")
    assert [copy.path for copy in arrived["checkout-v2"]] == ["/checkout?this"]


def test_a_copy_has_no_copy(noting):
    stage, arrived = noting(shadowed(), plugin={"trust": "mesh"})
    with stage.connect() as connection:
        connection.get("/checkout?copy", ("x-mulkko-shadow", "mirror"))
        connection.get("/checkout?real")
    wait_until(lambda: arrived["checkout-v2"], "the copy")
    assert [copy.path for copy in arrived["checkout-v2"]] == ["/checkout?real"]


@pytest.mark.parametrize("methods", [["GET"], ["POST"]])
def test_copies_are_counted_where_nothing_else_is_waited_for(set_stage, methods):
    """An inline policy for good: there is no source to ask, and no guard."""
    policy = shadowed(methods=methods)
    if methods == ["POST"]:
        # One whose headers are no text is dropped; a mirrored one has them.
        policy["rollouts"][0]["shadow"]["mode"] = "compare"
    stage = set_stage(plugin=json.dumps({"name": "shop", "policy": policy}), workers=1)
    with stage.connect() as connection:
        connection.send(methods[0], "/checkout")
        # What is first counted has it tick, and that is over then.
        stage.wait_for_metric("intended_share_millionths", 1_000_000, rollout="checkout-v2", variant="stable")
        for _ in range(10):
            connection.send(methods[0], "/checkout", [("x-bytes", b"\xff")])
    outcome = "mirrored" if methods == ["GET"] else "dropped"
    wait_until(lambda: stage.metric("shadow_requests", outcome=outcome) >= 10, "the count")


@pytest.mark.parametrize("fault", ["close", "hang", "503", "stall"])
def test_a_mirror_that_fails_costs_users_nothing(set_stage, fault):
    stage = set_stage(policy=shadowed())
    stage.wait_for_all_workers(in_force(1))
    stage.behave("checkout-v2", fault=fault, ratio=1)
    with stage.connect() as connection:
        assert [connection.get("/checkout").status for _ in range(20)] == [200] * 20
