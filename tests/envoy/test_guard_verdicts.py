"""Verdicts: what they outlive, what they lapse with, and who is told of them."""

import contextlib
import itertools
import re
import struct

import pytest
from arithmetic import fnv1a64, in_first
from config_server import policy_answer
from documents import canary, guarded, source, user
from explain import decisions, explain_pass
from guards import SECONDS, condemn, crowd, is_rolled_back, judged, standing, users_of, wait_for_judged
from stage import EXAMPLES, in_force, wait_until

CREATED = "wasm.envoy.wasm.runtime.v8.created"
DRAINING = r"listener_manager.total_(listeners|filter_chains)_draining$"
LAPSED = "the verdict on canary has lapsed"


def quick(percent, revision=1, **guard):
    """A guard that judges ten times a second."""
    return guarded(percent, revision, window="100ms", **guard)


@pytest.fixture
def users():
    """Users who have not been sent before, of the canary and of the default at 50 %."""
    return users_of("canary", 50), users_of("stable", 50)


def gets(variant):
    """For `wait_for_all_workers`: whether a user gets a variant."""
    return lambda echo: echo.header("x-mulkko-checkout-v2") == variant


def test_a_verdict_outlives_policies_and_plugin_updates(set_stage, serve, users):
    config = serve(quick(50))
    stage = set_stage(config_port=config.port, dynamic=True)
    stage.wait_for_all_workers(in_force(1))
    wait_until(lambda: "if-none-match" in config.requests[-1].headers, "another poll")
    assert "x-mulkko-rolled-back" not in config.requests[-1].headers
    condemn(stage, *users)
    told = lambda: config.requests[-1].headers.get("x-mulkko-rolled-back")
    wait_until(lambda: told() == "checkout-v2/canary", "the config cluster to be told")

    with stage.load(lambda: ("/checkout", [user(3), ("x-echo", "1")]), per_second=200, per_worker=2) as load:
        config.answer = policy_answer(quick(60, revision=2))
        stage.wait_for_all_workers(in_force(2), headers=[user(3)])
        # A guard may change, as long as it rolls back.
        config.answer = policy_answer(quick(100, revision=3, alpha=0.01))
        stage.wait_for_all_workers(in_force(3), headers=[user(3)])
        for change in (same_plugin, slower_polls, same_plugin):
            assert stage.change_listener(change)
            wait_until(lambda: not any(stage.stats(DRAINING).values()), "the end of what was replaced")
            stage.wait_for_all_workers(in_force(3), headers=[user(3)])
    assert in_first(50, "checkout-v2", "user-3"), "the user would get the canary"
    # Connections that outlast what was replaced are closed, by Envoy.
    assert {answer.status for answer in load.responses} == {200}
    assert {answer.upstream for answer in load.responses} == {"checkout-v1"}
    assert stage.metric("guard_rolled_back", variant="canary") == 1
    assert stage.log().count("is rolled back") == 1
    seen = len(config.requests)
    wait_until(lambda: len(config.requests) > seen, "another poll")
    assert told() == "checkout-v2/canary"
    assert LAPSED not in stage.log()


def same_plugin(bootstrap):
    """A change of the listener that has nothing to do with the plugin."""
    bootstrap.connection_manager["server_name"] = bootstrap.connection_manager.get("server_name", "edge") + "-"


def slower_polls(bootstrap):
    """Another plugin configuration."""
    bootstrap.plugin = {**bootstrap.plugin, "source": source(poll="300ms")}


def test_a_verdict_outlives_the_reload_of_every_worker(set_stage, users):
    def mortal(bootstrap):
        bootstrap.wasm["vm_config"]["code"]["local"]["filename"] = str(EXAMPLES / "mortal.wasm")

    stage = set_stage(policy=quick(50), edit=mortal)
    stage.wait_for_all_workers(in_force(1))
    condemn(stage, *users)
    before = stage.stats(CREATED)[CREATED]
    with stage.connection_per_worker() as connections:
        for number, connection in enumerate(connections, start=1):
            with contextlib.suppress(ConnectionError):
                assert connection.get("/checkout", user(3), ("x-large", "v" * 55_000)).status == 503
            # The worker makes itself a new VM for a later request.
            with stage.load(lambda: ("/checkout", [user(3)]), per_second=50, per_worker=2) as load:
                wait_until(lambda now=before + number: stage.stats(CREATED)[CREATED] >= now, "a new VM")
                stage.wait_for_all_workers(gets("stable"), headers=[user(3)])
            assert {answer.upstream for answer in load.responses} <= {"checkout-v1", None}
    stage.wait_for_all_workers(gets("stable"), headers=[user(3)])
    assert decisions(stage.get("/checkout", user(3), explain_pass())) == {"checkout-v2": ["stable", "ROLLED_BACK"]}
    assert stage.metric("guard_rolled_back", variant="canary") == 1
    assert stage.log().count("is rolled back") == 1


def other(policy, **members):
    """The policy with other members of its rollout."""
    policy["rollouts"][0].update(members)
    return policy


NEXT = {
    "no guard": canary(50, revision=2),
    "a guard that reports": quick(50, revision=2, onBreach="report"),
    "another seed": other(quick(100, revision=2), seed="afresh"),
    "a guard of others": other(
        quick(50, revision=2),
        strategy={"ab": {"split": [{"variant": "third", "percent": 50}, {"variant": "stable", "percent": 50}]}},
        variants={"stable": {}, "third": {"headers": {"x-mark": "2"}}, "canary": {"cluster": "checkout-v2"}},
    ),
}


@pytest.mark.parametrize("what", NEXT)
def test_a_verdict_lapses_with_its_guard_or_its_seed(set_stage, serve, users, what):
    config = serve(quick(50))
    stage = set_stage(config_port=config.port)
    stage.wait_for_all_workers(in_force(1))
    condemn(stage, *users)
    config.answer = policy_answer(NEXT[what])
    stage.wait_for_all_workers(
        lambda echo: echo.header("x-mulkko-checkout-v2") not in (None, "stable"), headers=[next(users[0])]
    )
    stage.wait_for_metric("guard_rolled_back", 0, variant="canary")
    wait_until(lambda: "x-mulkko-rolled-back" not in config.requests[-1].headers, "the config cluster to be told")
    assert stage.log().count(LAPSED) == 1
    # A verdict that has lapsed does not come back with the guard: that begins anew.
    config.answer = policy_answer(quick(100, revision=3))
    stage.wait_for_all_workers(in_force(3), headers=[user(3)])
    assert stage.get("/checkout", user(3)).upstream == "checkout-v2"
    assert not is_rolled_back(stage)


def test_a_guard_that_lapses_leaves_no_alarm(set_stage, users):
    stage = set_stage(policy=quick(50))
    stage.wait_for_all_workers(in_force(1))
    condemn(stage, *users)
    stage.wait_for_metric("guard_breached", 1, variant="canary")
    stage.push(canary(50, revision=2))
    stage.wait_for_metric("guard_rolled_back", 0, variant="canary")
    stage.wait_for_metric("guard_breached", 0, variant="canary")


def test_users_who_failed_before_count_again_when_the_guard_comes_back(set_stage, users):
    stage = set_stage(policy=quick(50))
    stage.wait_for_all_workers(in_force(1))
    few = [list(itertools.islice(them, 40)) for them in users]
    condemn(stage, *map(itertools.cycle, few))
    stage.push(canary(50, revision=2))
    stage.wait_for_metric("guard_rolled_back", 0, variant="canary")
    stage.push(quick(50, revision=3))
    stage.wait_for_all_workers(in_force(3))
    assert not is_rolled_back(stage)
    condemn(stage, *map(itertools.cycle, few))


def test_a_canary_that_is_rolled_back_is_judged_anew_under_another_seed(set_stage, users):
    stage = set_stage(policy=quick(50))
    stage.wait_for_all_workers(in_force(1))
    condemn(stage, *users)
    stage.push(other(quick(50, revision=2), seed="afresh"))
    stage.wait_for_all_workers(in_force(2))
    condemn(stage, users_of("canary", 50, "afresh"), users_of("stable", 50, "afresh"))
    assert stage.log().count("is rolled back") == 2


def test_a_guard_that_reports_rolls_nothing_back(set_stage, users):
    stage = set_stage(policy=quick(50, onBreach="report"))
    stage.wait_for_all_workers(in_force(1))

    def fail():
        with stage.connect() as connection:
            for _ in range(5):
                assert connection.get("/checkout", next(users[0]), ("x-fault", "503")).upstream == "checkout-v2"
                connection.get("/checkout", next(users[1]))
        return stage.metric("guard_breached", variant="canary") == 1

    wait_until(fail, "a breach", SECONDS)
    fail()
    lines = [line for line in stage.log().splitlines() if "[warning]" in line and "canary" in line]
    assert len(lines) == 1
    assert "checkout-v2: canary should be rolled back: canary failed" in lines[0]
    assert stage.metric("guard_rolled_back") == 0
    stage.wait_for_all_workers(gets("canary"), headers=[next(users[0])])
    assert standing(stage.get("/checkout", explain_pass()))["state"] == "breached"


def test_who_asks_with_a_pass_is_told_how_the_guard_stands_and_nobody_else(set_stage, users):
    stage = set_stage(policy=quick(50))
    stage.wait_for_all_workers(in_force(1))
    with stage.connect() as connection:
        for _ in range(3):
            connection.get("/checkout", next(users[0]), ("x-fault", "503"))
            connection.get("/checkout", next(users[1]))
    wait_until(lambda: judged(stage, "guard_bad_requests", variant="canary") == 3, "three failures")
    forged = ("x-respond-with", "x-mulkko-guard: forged")
    assert stage.get("/checkout", next(users[1])).header("x-mulkko-guard") is None
    for headers in ([explain_pass()], [explain_pass(), forged], [explain_pass(), next(users[1])]):
        answer = stage.get("/checkout", *headers)
        assert len([name for name, _ in answer.headers if name == "x-mulkko-guard"]) == 1
        shown = standing(answer)
        assert (shown["state"], shown["failed"]) == ("watching", "3"), shown
        assert set(shown) == {"state", "errors", "latency", "p", "failed", "of", "default-failed", "default-of"}
        assert 0 < float(shown["p"]) <= 1
        assert re.fullmatch(r'checkout-v2=\("canary"(;[a-z-]+=[a-z0-9.-]+)+\)', answer.header("x-mulkko-guard"))
    # Nothing is guarded there.
    assert stage.get("/elsewhere", explain_pass(), forged).header("x-mulkko-guard") is None


SEED = struct.pack("<Q", fnv1a64(b"checkout-v2:"))
PLACE = f"mulkko/1/shop/guard/checkout-v2/{fnv1a64(b'checkout-v2:'):016x}"
VARIANT = struct.pack("<Q", fnv1a64(b"canary"))
NAN, INFINITE = struct.pack("<d", float("nan")), struct.pack("<d", float("inf"))


def case(state, number):
    """A case of the right size."""
    return VARIANT + struct.pack("<Q", state) + number * 51


def verdict(**members):
    """A verdict with other members."""
    verdict = {"rollout": "checkout-v2", "seed": 4711, "variant": "canary", "revision": 2**64 - 1, **members}
    return str([verdict]).replace("'", '"').encode()


RUBBISH = {
    "garbage": dict.fromkeys(("evidence", "keys-0", "keys-1", "keys-2", "verdicts"), b"garbage"),
    "heads alone": {"evidence": SEED, "keys-0": SEED, "verdicts": b"[]"},
    "numbers that are none": {"evidence": SEED + case(2, NAN), "verdicts": verdict(seed="none")},
    "infinite numbers": {"evidence": SEED + case(0, INFINITE), "verdicts": verdict(rollout="none")},
    "the highest numbers": {"evidence": SEED + case(0, b"\xff" * 8), "verdicts": verdict(seed=2**64 - 1)},
    "a state that is none": {"evidence": SEED + case(3, bytes(8)), "verdicts": verdict(variant="none")},
    "cases without end": {"evidence": SEED + case(0, bytes(8)) * 101, "verdicts": b"[" * 100_000},
    "all keys": {"keys-0": SEED + b"\xff" * 1024, "verdicts": b'{"rollout": 7}'},
}


@pytest.mark.parametrize("what", RUBBISH)
def test_rubbish_in_shared_data_rolls_nothing_back_and_blinds_no_guard(set_stage, users, what):
    places = {name: "mulkko/1/shop/verdicts" if name == "verdicts" else f"{PLACE}/{name}" for name in RUBBISH[what]}
    lines = "\n".join(f"{places[name]} hex {value.hex()}" for name, value in RUBBISH[what].items())
    stage = set_stage(
        policy=quick(50),
        edit=lambda bootstrap: bootstrap.add_wasm_filter("squatter", EXAMPLES / "squatter.wasm", lines),
    )
    stage.wait_for_all_workers(in_force(1))
    vms = stage.stats(CREATED)
    with stage.load(crowd()) as load:
        wait_for_judged(stage, 500)
    assert not load.failed
    assert not is_rolled_back(stage)
    condemn(stage, *users)
    assert stage.stats(CREATED) == vms, "no VM had to be made anew"
    assert stage.metric("hostcall_failures") == 0
