"""What comes from outside counts for nothing at the edge; in the mesh it is followed; passes are verified."""

import base64
import json
import time

import pytest
from client import Load
from documents import canary, source, user
from explain import decisions, explain_pass
from passes import make_pass
from stage import PASS_KEY, Stage, in_force, load_policy, marked

FORGED = [
    ("x-mulkko-checkout-v2", "canary"),
    ("x-mulkko-cluster", "checkout-v2"),
    ("x-mulkko-mirror", "checkout-v2"),
    ("x-mulkko-search", "v2"),
    ("x-mulkko-explain", 'checkout-v2="canary"'),
    ("x-mulkko-anything", "x"),
    ("baggage", "mulkko.checkout-v2=canary,tenant=7;level=gold"),
    ("baggage", "mulkko.cart=v2"),
]


def assert_clean(echo):
    """Nothing of `FORGED` has arrived, but the baggage of others has."""
    assert echo.request["upstream"] == "checkout-v1"
    assert echo.starting("x-mulkko-") == {}
    assert ",".join(echo.values("baggage")) == "tenant=7;level=gold"


def test_without_a_policy_the_edge_removes_what_is_forged(set_stage):
    stage = set_stage()
    assert_clean(stage.echo("/checkout", *FORGED))


def test_a_refused_plugin_configuration_acts_as_the_edge(set_stage):
    stage = set_stage(plugin='{"trust": "mesh", "nonsense": 1}')
    assert_clean(stage.echo("/checkout", *FORGED))


def test_where_no_rollout_applies_the_edge_removes_what_is_forged(set_stage):
    stage = set_stage(policy=canary(0))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert_clean(stage.echo("/elsewhere", *FORGED))


def test_at_the_edge_the_decision_is_the_proxys_alone(set_stage):
    stage = set_stage(policy=canary(0))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    echo = stage.echo("/checkout", user(1), *FORGED)
    assert echo.request["upstream"] == "checkout-v1"
    assert echo.starting("x-mulkko-") == {"x-mulkko-checkout-v2": "stable"}
    assert sorted(",".join(echo.values("baggage")).split(",")) == ["mulkko.checkout-v2=stable", "tenant=7;level=gold"]


def test_baggage_of_others_alone_passes_untouched(set_stage):
    stage = set_stage()
    baggage = "a=1;p=2 ,  b = 3,userId=al%20ice"
    assert stage.echo("/checkout", ("baggage", baggage)).values("baggage") == [baggage]


def test_the_mesh_follows_an_earlier_hop(set_stage):
    stage = set_stage(policy=canary(0.0001), plugin={"trust": "mesh"})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])

    def check(path, sent, upstream, variant, reason):
        response = stage.get(path, user(1), ("x-echo", "1"), explain_pass(), *sent)
        assert response.upstream == upstream
        assert response.echo.header("x-mulkko-checkout-v2") == variant
        assert decisions(response).get("checkout-v2") == ([variant, reason] if variant else None)

    by_baggage = [("baggage", "tenant=7,mulkko.checkout-v2=canary")]
    by_header = [("x-mulkko-checkout-v2", "canary")]
    check("/checkout", [], "checkout-v1", "stable", "SPLIT")
    check("/checkout", by_baggage, "checkout-v2", "canary", "FOLLOWED")
    check("/checkout", by_header, "checkout-v2", "canary", "FOLLOWED")
    check("/checkout", [("baggage", "mulkko.checkout-v2=stable"), *by_header], "checkout-v1", "stable", "FOLLOWED")
    check("/checkout", [("baggage", "mulkko.checkout-v2=no-such")], "checkout-v1", "stable", "SPLIT")
    # Elsewhere the decision is handed on, and routes nothing.
    check("/elsewhere", by_baggage, "checkout-v1", "canary", "FOLLOWED")
    # What picks a cluster counts for one hop.
    check("/checkout", [("x-mulkko-cluster", "checkout-v2")], "checkout-v1", "stable", "SPLIT")
    assert stage.metric("requests", rollout="checkout-v2", reason="FOLLOWED") == 4


def unsigned(**claims):
    """A token with `alg: none`."""

    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part({'exp': 4102444800, **claims})}."


NEXT = {"rollout": "checkout-next", "variant": "next"}
PASSES = {
    "none": ([], "today", 0),
    "one that holds": ([make_pass(PASS_KEY, **NEXT)], "next", 0),
    "the second holds": ([make_pass("x" * 40, **NEXT), make_pass(PASS_KEY, **NEXT)], "next", 1),
    "the first of two counts": (
        [make_pass(PASS_KEY, **{**NEXT, "variant": "today"}), make_pass(PASS_KEY, **NEXT)],
        "today",
        0,
    ),
    "one for a rollout unknown here": ([make_pass(PASS_KEY, rollout="other", variant="x")], "today", 0),
    "expired": ([make_pass(PASS_KEY, seconds=-60, **NEXT)], "today", 1),
    "not good yet": ([make_pass(PASS_KEY, nbf=int(time.time()) + 600, **NEXT)], "today", 1),
    "good for ever": ([make_pass(PASS_KEY, seconds=400 * 86_400, **NEXT)], "today", 1),
    "wrongly signed": ([make_pass("x" * 40, **NEXT)], "today", 1),
    "unsigned": ([unsigned(**NEXT)], "today", 1),
    "for a variant that is none": ([make_pass(PASS_KEY, **{**NEXT, "variant": "never"})], "today", 1),
    "cut": ([make_pass(PASS_KEY, **NEXT)[:-1]], "today", 1),
    "rubbish": (["rubbish"], "today", 1),
}


@pytest.fixture(scope="module")
def dark():
    """A stage with a dark launch, for all the passes."""
    policy = load_policy("dark-launch")
    policy["cohorts"]["office"]["cidr"][1] = ["192.0.2.128/25"]
    with Stage(policy=marked(policy, 1), plugin={"source": source()}) as stage:
        stage.wait_for_all_workers(in_force(1))
        yield stage


@pytest.mark.parametrize("what", PASSES)
def test_a_pass_opens_what_it_names_while_it_holds(dark, what):
    passes, variant, refused = PASSES[what]
    before = dark.metric("passes_refused")
    response = dark.get("/checkout", ("x-mulkko-pass", ", ".join(passes)), ("x-echo", "1"))
    assert response.echo.header("x-mulkko-checkout-next") == variant
    assert response.upstream == ("checkout-v2" if variant == "next" else "checkout-v1")
    assert response.header("x-mulkko-explain") is None
    assert dark.metric("passes_refused") - before == refused


def test_clocks_may_differ_by_half_a_minute(dark):
    for claims in {"seconds": -5}, {"nbf": int(time.time()) + 20}:
        echo = dark.echo("/checkout", ("x-mulkko-pass", make_pass(PASS_KEY, **claims, **NEXT)))
        assert echo.header("x-mulkko-checkout-next") == "next", claims


def test_a_pass_goes_on_upstream_from_the_edge_only_where_that_is_asked_and_it_verifies(dark, set_stage):
    good, bad = make_pass(PASS_KEY, aud=["shop"], **NEXT), make_pass("x" * 40, **NEXT)
    assert dark.echo("/checkout", ("x-mulkko-pass", f"{bad}, {good}")).values("x-mulkko-pass") == []
    policy = marked(load_policy("dark-launch"), 1)
    stage = set_stage(policy=policy, plugin={"source": source(), "forwardPasses": True, "passAudience": "shop"})
    stage.wait_for_all_workers(in_force(1))
    elsewhere = make_pass(PASS_KEY, aud="cart", **NEXT)
    echo = stage.echo("/checkout", ("x-mulkko-pass", f"{bad}, {elsewhere}, {good}"))
    assert echo.values("x-mulkko-pass") == [good] and echo.header("x-mulkko-checkout-next") == "next"
    for refused in bad, elsewhere:
        echo = stage.echo("/checkout", ("x-mulkko-pass", refused))
        assert echo.values("x-mulkko-pass") == [] and echo.header("x-mulkko-checkout-next") == "today"


def test_a_pass_that_asks_is_told_why(dark):
    assert decisions(dark.get("/checkout", explain_pass())) == {"checkout-next": ["today", "STATIC"]}
    both = make_pass(PASS_KEY, explain=True, **NEXT)
    assert decisions(dark.get("/checkout", ("x-mulkko-pass", both))) == {"checkout-next": ["next", "TARGETING_MATCH"]}
    assert (
        dark.get("/checkout", ("x-mulkko-pass", make_pass("x" * 40, explain=True))).header("x-mulkko-explain") is None
    )


def test_envoy_itself_removes_what_picks_a_cluster_should_the_plugin_be_gone(set_stage):
    def without_plugin(bootstrap):
        bootstrap.filters[:] = [item for item in bootstrap.filters if item["name"] != "mulkko"]

    stage = set_stage(edit=without_plugin)
    for more in [], [("x-forwarded-for", "10.0.0.1")], [("x-forwarded-for", "127.0.0.1, 10.0.0.1")]:
        echo = stage.echo("/checkout", ("x-mulkko-cluster", "checkout-v2"), ("x-mulkko-mirror", "checkout-v2"), *more)
        assert echo.request["upstream"] == "checkout-v1"
        assert echo.starting("x-mulkko-") == {}
    assert stage.echo("/checkout", ("x-mulkko-pass", "a")).header("x-mulkko-pass") == "a", "a pass must get through"


def test_forged_headers_under_load_never_pick_a_route(set_stage):
    stage = set_stage(policy=canary(0))
    with Load(stage.port, lambda: ("/checkout", [user(1), *FORGED])) as load:
        for revision in range(2, 6):
            stage.push(canary(0, revision))
            stage.wait_for_all_workers(in_force(revision), headers=[user(1)])
    assert not load.failed
    assert {answer.upstream for answer in load.responses} == {"checkout-v1"}
