"""A new policy: taken whole on every worker, without a failed request, or refused whole."""

import itertools
import json
import re

import pytest
from client import Load
from documents import canary, large_canary, source, user
from stage import POLICIES, Stage, in_force, load_policy, wait_until

EXAMPLES = sorted(file.stem for file in POLICIES.glob("*.json"))
REVISIONS = itertools.count(7)


def two_rollouts(revision):
    """A policy with two rollouts on one path, which tell their revision in a header each."""
    policy = canary(50, revision)
    second = json.loads(json.dumps(policy["rollouts"][0]))
    second["name"] = "payment"
    for name, rollout in [("x-one", policy["rollouts"][0]), ("x-two", second)]:
        for variant in rollout["variants"].values():
            variant["headers"] = {name: str(revision)}
    policy["rollouts"].append(second)
    return policy


@pytest.mark.parametrize("updates", [6, pytest.param(120, marks=pytest.mark.long)])
def test_updates_under_load_fail_no_request_and_none_sees_a_mix(set_stage, updates):
    stage = set_stage(policy=two_rollouts(1))
    stage.wait_for_all_workers(lambda echo: echo.header("x-one") == "1")
    with Load(stage.port, lambda: ("/checkout", [user(1), ("x-echo", "1")])) as load:
        for revision in range(2, updates + 2):
            stage.push(two_rollouts(revision))
            stage.wait_for_all_workers(lambda echo, now=str(revision): echo.header("x-two") == now)
    assert not load.failed
    seen = {(answer.echo.header("x-one"), answer.echo.header("x-two")) for answer in load.responses}
    assert seen == {(str(revision), str(revision)) for revision in range(1, updates + 2)}


@pytest.fixture(scope="module")
def of_any_cluster():
    """An Envoy whose plugin allows every cluster; each test pushes its policy."""
    with Stage(plugin={"clusters": ["*"], "source": source()}) as stage:
        yield stage


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_taken(of_any_cluster, name):
    stage, revision = of_any_cluster, next(REVISIONS)
    stage.push({**load_policy(name), "revision": revision})
    stage.wait_for_metric("policy_revision", revision, policy="shop")
    assert stage.metric("policy_refused") == 0
    assert stage.get("/checkout", user(1)).status == 200


def test_a_refused_policy_changes_nothing_and_says_where_it_is_wrong(set_stage):
    stage = set_stage(policy=canary(100))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert stage.metric("policy_refused", policy="shop") == 0

    stage.push(canary(140, revision=2))
    stage.wait_for_metric("policy_refused", 1, policy="shop")
    refusal = "rollouts[0].strategy.canary.percent: expected 0 to 100, found 140"
    wait_until(lambda: refusal in stage.log(), "the reason in the log")
    assert stage.metric("policy_revision", policy="shop") == 1
    stage.wait_for_all_workers(lambda echo: echo.request["upstream"] == "checkout-v2", headers=[user(1)])

    stage.push(canary(0, revision=3))
    stage.wait_for_all_workers(in_force(3), headers=[user(1)])
    stage.wait_for_metric("policy_refused", 0, policy="shop")


def test_the_refusal_of_one_document_is_logged_once(set_stage):
    stage = set_stage(policy=canary(140))
    stage.wait_for_metric("policy_refused", 1)
    polls = stage.metric("fetches")
    wait_until(lambda: stage.metric("fetches") >= polls + 5, "five more polls")
    assert stage.log().count("expected 0 to 100, found 140") == 1


def test_an_old_revision_comes_back_only_under_a_higher_one(set_stage):
    stage = set_stage(policy=canary(100, revision=5))
    stage.wait_for_all_workers(in_force(5), headers=[user(1)])
    stage.push(canary(0, revision=4))
    stage.wait_for_metric("policy_refused", 1)
    assert stage.get("/checkout", user(1)).upstream == "checkout-v2"
    stage.push(canary(0, revision=5))
    stage.wait_for_all_workers(lambda echo: echo.request["upstream"] == "checkout-v1", headers=[user(1)])


def test_patterns_that_would_eat_the_memory_are_refused(set_stage):
    stage = set_stage(policy=canary(100))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    bomb = {f"c-{i}": {"or": [{"matches": ["x", "[a-z]{999}"]}] * 50} for i in range(800)}
    stage.push({**canary(0, revision=2), "cohorts": bomb})
    stage.wait_for_metric("policy_refused", 1)
    assert "KiB of compiled patterns" in stage.log()
    assert stage.get("/checkout", user(1)).upstream == "checkout-v2"


def test_a_large_policy_fails_no_request(set_stage):
    stage = set_stage(policy=canary(0))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    with Load(stage.port, lambda: ("/checkout", [user(1)]), connections=4) as load:
        assert stage.push(large_canary(100, 2)) > 90_000
        stage.wait_for_all_workers(in_force(2), headers=[user(1)])
    assert not load.failed


def test_a_text_in_place_of_the_plugin_configuration_is_refused_and_requests_pass(set_stage):
    no_poll = json.dumps({"source": source(poll="never")})
    texts = ("{", "not json", '{"unknown": 1}', '{"source": {"cluster": "config"}}', no_poll)

    def edit(bootstrap):
        for text in texts[1:]:
            bootstrap.add_listener(text, text)

    stage = set_stage(plugin=texts[0], edit=edit)
    for listener in ("edge", *texts[1:]):
        with stage.connect(listener) as connection:
            answer = connection.get("/checkout", ("x-echo", "1"), ("x-mulkko-checkout-v2", "canary"))
        assert answer.status == 200
        assert answer.echo.starting("x-mulkko-") == {}, "it acts as at the edge"
    assert stage.metric("policy_refused", policy="default") == 1
    refusals = set(re.findall("plugin configuration refused: .*", stage.log()))
    assert len(refusals) == len(texts), refusals
