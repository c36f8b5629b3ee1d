"""Who gets what: every key exactly where the arithmetic puts it, on every worker, after every restart."""

import json
import os
import time
from pathlib import Path

import pytest
from arithmetic import bucket, in_first, threshold
from client import Load, get_all
from documents import canary, user
from explain import buckets, explain_pass
from stage import in_force, instant, load_policy, marked

KEYS = range(3000)
PERCENTS = ("0.25", "1", "5", "25", "50")


def upstreams(stage, path="/checkout"):
    """Which upstream answers each of the users."""
    responses = get_all(stage.port, [(path, [user(key)]) for key in KEYS])
    assert {response.status for response in responses} == {200}
    return [response.upstream for response in responses]


def headers(stage, path, *names):
    """Which of some headers arrive upstream for each of the users: a tuple for each."""
    responses = get_all(stage.port, [(path, [user(key), ("x-echo", "1")]) for key in KEYS])
    return [tuple(response.echo.header(name) for name in names) for response in responses]


def test_the_arithmetic_here_is_that_of_the_vectors():
    suites = Path(os.environ.get("MULKKO_SUITES", "../shared/suites"))
    assert bucket("checkout-v2", "user-1") == 1432957083
    if not (suites / "bucket-vectors.json").exists():
        pytest.skip("the suites are absent")
    for vector in json.loads((suites / "bucket-vectors.json").read_text())["vectors"]:
        assert bucket(vector["seed"], vector["key"]) == vector["bucket"], vector


def test_every_key_is_where_the_arithmetic_puts_it_and_a_growing_canary_loses_nobody(set_stage):
    stage = set_stage(policy=canary(0))
    seen = set()
    for revision, percent in enumerate(PERCENTS, start=2):
        stage.push(canary(float(percent), revision))
        stage.wait_for_all_workers(in_force(revision), headers=[user(0)])
        before = stage.metric("requests", rollout="checkout-v2", variant="canary", reason="SPLIT")
        answered = upstreams(stage)
        expected = ["checkout-v2" if in_first(percent, "checkout-v2", f"user-{key}") else "checkout-v1" for key in KEYS]
        assert answered == expected, percent
        counted = stage.metric("requests", rollout="checkout-v2", variant="canary", reason="SPLIT") - before
        assert counted == expected.count("checkout-v2"), percent
        now = {key for key, upstream in zip(KEYS, answered) if upstream == "checkout-v2"}
        assert seen <= now, f"lost at {percent} %: {seen - now}"
        seen = now
    assert len(seen) > len(KEYS) * 0.45


@pytest.mark.parametrize(("hours_ago", "percent"), [(0.5, "1"), (1.5, "25"), (2.5, "5")])
def test_a_canary_goes_by_the_clock(set_stage, hours_ago, percent):
    policy = canary(0)
    steps = [{"percent": 1, "hold": "1h"}, {"percent": 25, "hold": "60m"}, {"percent": 5}]
    strategy = {"variant": "canary", "start": instant(-hours_ago * 3600), "steps": steps}
    policy["rollouts"][0]["strategy"]["canary"] = strategy
    stage = set_stage(policy=policy)
    stage.wait_for_all_workers(in_force(1), headers=[user(0)])
    expected = ["checkout-v2" if in_first(percent, "checkout-v2", f"user-{key}") else "checkout-v1" for key in KEYS]
    assert upstreams(stage) == expected


def test_a_user_keeps_the_variant_across_workers_and_restarts(set_stage):
    stage = set_stage(policy=canary(25))
    users = range(100)

    def answers():
        stage.wait_for_all_workers(in_force(1), headers=[user(0)])
        with stage.connection_per_worker() as connections:
            return [[connection.get("/checkout", user(key)).upstream for key in users] for connection in connections]

    one, other = answers()
    assert one == other
    stage.stop_envoy()
    stage.start_envoy()
    assert answers() == [one, one]


def test_variants_of_an_ab_own_consecutive_ranges_in_document_order(set_stage):
    policy = marked(load_policy("ab"), 1)
    policy["rollouts"][0]["strategy"]["ab"].update(start=instant(-3600), end=instant(3600))
    stage = set_stage(policy=policy)
    stage.wait_for_all_workers(in_force(1), path="/product", headers=[user(0)])

    def expected(key):
        place = bucket("buy-button", f"user-{key}")
        return "large" if place < threshold(20) else "sticky" if place < threshold(50) else "plain"

    assert headers(stage, "/product", "x-mulkko-buy-button") == [(expected(key),) for key in KEYS]


def test_layers_keep_experiments_apart_and_the_holdout_out_of_both(set_stage):
    stage = set_stage(policy=marked(load_policy("layers-and-holdout"), 1))
    stage.wait_for_all_workers(in_force(1), path="/product", headers=[user(0)])

    def expected(key):
        name = f"user-{key}"
        if in_first(2, "q4", name):
            return None, None
        if in_first(50, "product-page", name):
            return "big" if in_first(50, "photo-size", name) else None, None
        return None, "on" if in_first(10, "reviews-first", name) else None

    answered = headers(stage, "/product", "x-photo-size", "x-reviews-first")
    assert answered == [expected(key) for key in KEYS]
    assert {photo is None for photo, _ in answered} == {review is None for _, review in answered} == {True, False}
    counted = sum(
        stage.metric("requests", rollout="photo-size", reason=reason) for reason in ("HOLDOUT", "LAYER", "SPLIT")
    )
    assert counted >= len(KEYS)


def test_a_seed_replaces_the_name_in_the_hash_and_the_bucket_is_explained(set_stage):
    policy = canary(50)
    policy["rollouts"][0]["seed"] = "another"
    stage = set_stage(policy=policy)
    stage.wait_for_all_workers(in_force(1), headers=[user(0)])
    for key in range(50):
        response = stage.get("/checkout", user(key), explain_pass())
        assert buckets(response) == {"checkout-v2": bucket("another", f"user-{key}")}


def test_a_proxy_moves_in_its_batch(set_stage):
    batches = 4
    batch = bucket("inventory", "edge-1") * batches >> 32
    for since, variant in [(batch - 0.5, "current"), (batch + 0.5, "next")]:
        policy = marked(load_policy("rolling"), 1)
        start = instant(-since * 3600)
        policy["rollouts"][0]["strategy"]["rolling"].update(start=start, batches=batches, every="1h")
        stage = set_stage(policy=policy)
        stage.wait_for_all_workers(in_force(1), path="/inventory")
        assert stage.echo("/inventory").header("x-mulkko-inventory") == variant


def test_blue_green_flips_at_its_instant_on_all_workers(set_stage):
    policy = marked(load_policy("blue-green"), 1)
    stage = set_stage(policy=policy)
    flip = time.time() + 2
    policy["rollouts"][0]["strategy"]["blueGreen"]["at"] = instant(flip - time.time())
    stage.push(marked(policy, 2))
    stage.wait_for_all_workers(in_force(2))
    with Load(stage.port, lambda: ("/checkout", [])) as load:
        with stage.connection_per_worker() as connections:
            answers = []
            while time.time() < flip + 0.5:
                answers += [connection.get("/checkout") for connection in connections]
    assert not load.failed
    # The instant is written in milliseconds.
    for answer in answers + load.responses:
        if answer.received < flip - 0.001:
            assert answer.upstream == "checkout-v1"
        if answer.sent > flip + 0.001:
            assert answer.upstream == "checkout-v2"
    assert {answer.upstream for answer in answers} == {"checkout-v1", "checkout-v2"}


def test_a_visitor_without_an_id_is_given_one_and_keeps_the_variant(set_stage):
    stage = set_stage(policy=marked(load_policy("mint"), 1))
    stage.wait_for_all_workers(in_force(1), path="/")
    ids = set()
    for _ in range(20):
        first = stage.get("/", ("x-echo", "1"), ("cookie", "theme=dark"))
        cookie, *attributes = first.header("set-cookie").split("; ")
        assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= set(attributes)
        assert "Max-Age=31536000" in attributes
        assert "Secure" not in attributes, "the request came by http"
        name, value = cookie.split("=", 1)
        assert name == "mulkko_id"
        variant = first.echo.header("x-mulkko-front-page")
        assert variant == ("new" if in_first(50, "front-page", value) else "old"), "the new id decides at once"
        assert sorted(first.echo.header("cookie").split("; ")) == sorted(["theme=dark", cookie])
        again = stage.get("/", ("x-echo", "1"), ("cookie", f"theme=dark; {cookie}"))
        assert again.header("set-cookie") is None
        assert again.echo.header("x-mulkko-front-page") == variant
        ids.add(value)
    assert len(ids) == 20
