"""A variant whose cluster Envoy does not have: its users get the default, until the cluster is there."""

import copy
import time

import pytest
from arithmetic import in_first
from documents import canary, user
from passes import make_pass
from stage import PASS_KEY, in_force, wait_until

GONE = "checkout-v3"
# Who gets the default anyway, and who does not.
STABLE, CANARY = (user(next(i for i in range(100) if in_first(50, "checkout-v2", f"user-{i}") == is_canary)) for is_canary in (False, True))


def sent_to(cluster, revision=1):
    """Half of the users get a version in this cluster."""
    policy = canary(50, revision)
    policy["rollouts"][0]["variants"]["canary"]["cluster"] = cluster
    return policy


def tried(stage):
    """How many requests have found no cluster."""
    return stage.metric("cluster_missing", rollout="checkout-v2", variant="canary")


def outcomes(stage, users=40):
    """The statuses and the upstreams of some users' requests, over all workers."""
    found = []
    with stage.connection_per_worker() as connections:
        for connection in connections:
            found += [connection.get("/checkout", user(number)) for number in range(users)]
    return {(response.status, response.upstream) for response in found}


def test_users_of_a_missing_cluster_get_the_default_on_all_workers(set_stage):
    stage = set_stage(policy=sent_to(GONE), workers=2)
    stage.wait_for_all_workers(in_force(1), headers=[STABLE])
    wait_until(lambda: outcomes(stage) == {(200, "checkout-v1")}, "the default everywhere")
    assert tried(stage) >= 1
    assert f"checkout-v2: variant canary has the cluster {GONE}, which this proxy lacks: its users get stable" in stage.log()
    assert stage.log().count("which this proxy lacks") == 1
    # Why, and who passes all the same.
    explained = stage.get("/checkout", CANARY, ("x-mulkko-pass", make_pass(PASS_KEY, explain=True)))
    assert explained.header("x-mulkko-explain").startswith('checkout-v2="stable";reason=DEFAULT;bucket=')
    passing = ("x-mulkko-pass", make_pass(PASS_KEY, rollout="checkout-v2", variant="canary"))
    assert stage.get("/checkout", CANARY, passing).status == 503
    # Another policy begins anew.
    stage.push(sent_to("checkout-v2", 2))
    stage.wait_for_all_workers(in_force(2), headers=[STABLE])
    assert outcomes(stage) == {(200, "checkout-v1"), (200, "checkout-v2")}


def test_the_plugin_may_be_told_to_let_them_fail(set_stage):
    stage = set_stage(policy=sent_to(GONE), plugin={"missingCluster": "fail"})
    stage.wait_for_all_workers(in_force(1), headers=[STABLE])
    for _ in range(2):
        assert outcomes(stage) == {(200, "checkout-v1"), (503, None)}
    assert tried(stage) == 0


def test_a_request_that_goes_astray_switches_nothing_off(set_stage):
    """Another route asks another header for the cluster, which names none."""

    def edit(bootstrap):
        [host] = bootstrap.connection_manager["route_config"]["virtual_hosts"]
        astray = copy.deepcopy(host["routes"][0])
        astray["match"] = {"prefix": "/", "headers": [{"name": "x-astray", "present_match": True}]}
        astray["route"] = {"cluster_header": "x-astray"}
        host["routes"].insert(0, astray)

    stage = set_stage(policy=sent_to("checkout-v2"), edit=edit)
    stage.wait_for_all_workers(in_force(1), headers=[STABLE])
    assert outcomes(stage) == {(200, "checkout-v1"), (200, "checkout-v2")}
    for number in range(40):
        assert stage.get("/checkout", user(number), ("x-astray", GONE)).status == 503
    assert outcomes(stage) == {(200, "checkout-v1"), (200, "checkout-v2")}
    assert tried(stage) == 0


@pytest.mark.long
def test_one_request_tries_every_half_minute(set_stage):
    stage = set_stage(policy=sent_to(GONE), workers=2)
    stage.wait_for_all_workers(in_force(1), headers=[STABLE])
    wait_until(lambda: outcomes(stage) == {(200, "checkout-v1")}, "the default everywhere")
    before, begin = tried(stage), time.monotonic()
    wait_until(lambda: not outcomes(stage) == {(200, "checkout-v1")} or tried(stage) > before, "a request that tries", 60)
    assert tried(stage) == before + 1
    assert time.monotonic() - begin > 25
    wait_until(lambda: outcomes(stage) == {(200, "checkout-v1")}, "the default again")
    assert tried(stage) == before + 1
