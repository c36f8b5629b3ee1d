"""What a decision does to a request, seen from upstream, from the routes, from the access log and from the metrics."""

import json

from documents import canary, user
from stage import in_force, load_policy, marked, wait_until


def test_headers_cluster_and_baggage(set_stage):
    policy = canary(100)
    policy["rollouts"][0]["variants"]["canary"]["headers"].update(
        {"x-checkout-version": "v2", "user-agent": "replaced"}
    )
    stage = set_stage(policy=policy)
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    echo = stage.echo("/checkout", user(1), ("user-agent", "original"), ("x-checkout-version", "forged"))
    assert echo.request["upstream"] == "checkout-v2"
    assert echo.starting("x-mulkko-") == {"x-mulkko-checkout-v2": "canary"}, "x-mulkko-cluster counts for one hop"
    assert echo.header("x-checkout-version") == "v2"
    assert echo.header("user-agent") == "replaced"
    assert echo.header("baggage") == "mulkko.checkout-v2=canary"


def test_elsewhere_a_request_passes_as_it_came(set_stage):
    stage = set_stage(policy=canary(100))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    sent = [("x-b", "1"), ("x-a", "2"), ("x-b", "3"), ("baggage", "a=1"), ("cookie", "c=d")]
    headers = stage.echo("/elsewhere", *sent).request["headers"]
    assert [(name, value) for name, value in headers if (name, value) in sent] == sent


def test_routes_match_the_header_and_the_filter_state(set_stage):
    policy = load_policy("shop")
    rollouts = [rollout for rollout in policy["rollouts"] if rollout["name"] in ("search", "cart")]
    rollouts[0]["strategy"]["blueGreen"].pop("at")
    rollouts[1].update(key="user", strategy={"canary": {"variant": "v2", "percent": 50}})
    policy["rollouts"] = rollouts
    stage = set_stage(policy=marked(policy, 118))
    stage.wait_for_all_workers(in_force(118), path="/search")
    assert stage.get("/search?q=1").upstream == "checkout-v2"
    seen = set()
    for key in range(40):
        echo = stage.echo("/cart", user(key))
        variant = echo.header("x-mulkko-cart")
        assert echo.request["upstream"] == {"v1": "checkout-v1", "v2": "checkout-v2"}[variant]
        seen.add(variant)
    assert seen == {"v1", "v2"}
    assert stage.get("/cart", user(1), ("host", "other.example.com")).upstream == "checkout-v1"


def test_the_access_log_tells_who_got_what_and_why(set_stage):
    stage = set_stage(policy=canary(100))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    stage.get("/checkout?logged", user(1))
    stage.get("/elsewhere?logged")
    lines = wait_until(
        lambda: (
            (found := [line for line in stage.access_log() if "logged" in line["path"]]) and len(found) == 2 and found
        ),
        "the access log",
        10,
    )
    told = {line["path"]: (line["cluster"], line["checkout-v2"], line["checkout-v2.reason"]) for line in lines}
    assert told == {
        "/checkout?logged": ("checkout-v2", "canary", "STATIC"),
        "/elsewhere?logged": ("checkout-v1", None, None),
    }


def test_members_beyond_the_limits_of_baggage_are_left_out_and_counted(set_stage):
    stage = set_stage(policy=canary(100))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    ours = "mulkko.checkout-v2=canary"
    many = [f"k{i}=v" for i in range(64)]
    for baggage, expected in [(many, [ours, *many[:-1]]), (["k=1", "big=" + "v" * 8180], [ours, "k=1"])]:
        before = stage.metric("baggage_members_dropped")
        assert stage.echo("/checkout", user(1), ("baggage", ",".join(baggage))).header("baggage") == ",".join(expected)
        assert stage.metric("baggage_members_dropped") == before + 1
    almost = ",".join(f"k{i}=v" for i in range(63))
    echo = stage.echo("/checkout", user(1), ("baggage", almost))
    assert sorted(echo.header("baggage").split(",")) == sorted([*almost.split(","), "mulkko.checkout-v2=canary"])


def test_metrics_carry_labels(set_stage):
    stage = set_stage(policy=canary(50))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    stage.get("/checkout")
    series = [(name, labels) for name, labels, _ in stage.metrics()]
    everyone = {"policy": "shop", "rollout": "checkout-v2", "variant": "stable", "reason": "DEFAULT"}
    assert ("requests", everyone) in series
    for name, labels in series:
        allowed = {"policy", "rollout", "variant", "reason", "outcome"}
        assert labels["policy"] == "shop" and set(labels) <= allowed, (name, labels)
    assert stage.metric("last_fetch_timestamp_seconds") > 1_700_000_000
    names = {name for name, _ in series}
    assert {
        "requests",
        "policy_revision",
        "policies",
        "policy_refused",
        "fetches",
        "last_fetch_timestamp_seconds",
    } <= names


def test_two_rollouts_on_one_path_both_decide_and_the_more_exact_one_wins_the_cluster(set_stage):
    policy = canary(100)
    exact = {
        **policy["rollouts"][0],
        "name": "exact",
        "matches": [{"path": {"type": "Exact", "value": "/checkout/pay"}}],
    }
    exact["variants"] = {"stable": {}, "canary": {"cluster": "checkout-v1", "headers": {"x-mark": "exact"}}}
    policy["rollouts"].append(exact)
    stage = set_stage(policy=policy)
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    echo = stage.echo("/checkout/pay", user(1))
    assert echo.starting("x-m") == {"x-mark": "exact", "x-mulkko-exact": "canary", "x-mulkko-checkout-v2": "canary"}
    assert echo.request["upstream"] == "checkout-v1"
    assert set(echo.header("baggage").split(",")) == {"mulkko.exact=canary", "mulkko.checkout-v2=canary"}


def test_a_request_that_uses_up_its_budget_gets_defaults_and_is_counted(set_stage):
    """OFREP's requests have a budget too."""
    loop = {"!=": [{"var": ""}, -1]}
    for _ in range(3):
        loop = {"all": [list(range(60)), loop]}
    policy = canary(100)
    policy["rollouts"][0]["force"] = [
        {"when": {"and": [{"==": [{"var": "request.headers.x-dear"}, "yes"]}, loop]}, "variant": "canary"}
    ]
    flag = {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on", "metadata": {"mulkko.public": True}}
    policy["flags"] = {"dear": {**flag, "targeting": {"if": [loop, "on"]}}, "plain": flag}
    stage = set_stage(policy=policy, plugin={"ofrep": {"prefix": "/ofrep/v1"}})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    before = stage.metric("budget_exhausted")
    for dear, variant in [("no", "canary"), ("yes", "stable")]:
        assert stage.echo("/checkout", user(1), ("x-dear", dear)).header("x-mulkko-checkout-v2") == variant
    assert stage.metric("budget_exhausted") - before == 1
    reasons = {labels["reason"]: value for name, labels, value in stage.metrics() if name == "requests"}
    assert reasons["DEFAULT"] == 1
    with stage.connect() as connection:
        response = connection.send("POST", "/ofrep/v1/evaluate/flags", body=b"{}")
    found = {flag["key"]: flag.get("errorCode", flag.get("value")) for flag in json.loads(response.body)["flags"]}
    assert found == {"dear": "GENERAL", "plain": True}
    assert stage.metric("budget_exhausted") - before == 2
