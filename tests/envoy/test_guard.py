"""The guard: a canary that fails is rolled back, and one that is no worse than the default is not."""

import re
import time

import pytest
from arithmetic import in_first
from client import Load
from documents import guarded, user
from explain import decisions, explain_pass
from guards import (
    HEALTHY,
    SECONDS,
    crowd,
    is_rolled_back,
    judged,
    roll_back,
    roll_back_for_errors,
    roll_back_for_latency,
    users_of,
    wait_for_judged,
    wait_for_verdict,
)
from services import Uneven, send_all_to, serving
from stage import in_force, instant, load_policy, marked, wait_until

RUNS = [0, *(pytest.param(run, marks=pytest.mark.long) for run in range(1, 21))]

# What the log says of a rollback: one line, with the figures in plain words.
LINE = re.compile(
    r"shop: checkout-v2: canary is rolled back: "
    r"canary (?:failed|was slow)(?: in| for)? (\d+)(?: keys in| of) (\d+)(?: requests)?, "
    r"stable \d+(?: keys in| of) \d+(?: requests)?; "
    r"a healthy canary would show this once in [\d,]+ rollouts"
)


def set_guarded_stage(set_stage, policy, **arguments):
    """A stage whose workers all have the policy."""
    stage = set_stage(policy=policy, **arguments)
    stage.wait_for_all_workers(in_force(1))
    return stage


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("key", "workers"), [("request", 2), ("user", 2), ("user", 4)])
def test_a_canary_that_fails_is_rolled_back(set_stage, record_property, key, workers, run):
    stage = set_guarded_stage(set_stage, guarded(5, key=key), workers=workers)
    found = roll_back_for_errors(stage, run)
    print(f"errors, key {key}, {workers} workers: {found}")
    record_property("rollback", str(found))
    # Far above what it takes, far below what it would take without evidence.
    assert found.requests < 400
    assert_rolled_back(stage)


@pytest.mark.parametrize("run", RUNS)
def test_a_canary_that_takes_twice_as_long_is_rolled_back(set_stage, record_property, run):
    stage = set_guarded_stage(set_stage, guarded(5))
    found = roll_back_for_latency(stage, run)
    print(f"latency: {found}")
    record_property("rollback", str(found))
    assert found.requests < 600
    assert_rolled_back(stage)


def assert_rolled_back(stage):
    """The log, the reason and the metrics tell of a rollback."""
    lines = [line for line in stage.log().splitlines() if "is rolled back" in line]
    assert len(lines) == 1, "one line for each process"
    assert LINE.search(lines[0]), lines[0]
    assert "[warning]" in lines[0]
    # Where the key is the request, one in twenty is told.
    users = users_of("canary", 5)
    wait_until(
        lambda: decisions(stage.get("/checkout", next(users), explain_pass()))["checkout-v2"] == ["stable", "ROLLED_BACK"],
        "the reason",
        20,
    )
    assert stage.metric("requests", rollout="checkout-v2", variant="stable", reason="ROLLED_BACK") > 0
    assert stage.metric("guard_breached", variant="canary") == 1
    # The default `alpha`, for all comparisons of a rollout.
    assert stage.metric("guard_p_millionths", variant="canary") <= 1_000
    assert stage.metric("hostcall_failures") == 0


@pytest.mark.parametrize(("key", "header"), [("user", "x-user-id"), ("request", "x-request-id")])
def test_of_two_variants_beside_the_default_only_the_one_that_fails_is_rolled_back(set_stage, key, header):
    policy = guarded(0, key=key)
    rollout = policy["rollouts"][0]
    # As the default it is answered by `checkout-v1`.
    rollout["variants"]["other"] = {"headers": {"x-mark": "1"}}
    shares = {"canary": 20, "other": 20, "stable": 60}
    rollout["strategy"] = {"ab": {"split": [{"variant": it, "percent": percent} for it, percent in shares.items()]}}
    stage = set_guarded_stage(set_stage, policy)
    for upstream in stage.upstreams:
        stage.behave(upstream, **HEALTHY)
    users = crowd()

    def request():
        path, headers = users()
        return path, [*headers, ("x-echo", "1")]

    def expected(echo):
        """Whom the split gives the other one has it still."""
        is_others = in_first(40, "checkout-v2", echo.header(header)) and not in_first(20, "checkout-v2", echo.header(header))
        return "other" if is_others else "stable"

    with stage.load(request, per_second=200) as load:
        wait_for_judged(stage, 300)
        roll_back(stage, load, stage.behave("checkout-v2", fault="503", ratio=0.2))
        seen = len(load.responses)
        wait_for_judged(stage, 200, variant="other")
    late = [answer.echo for answer in load.responses[seen:]]
    assert [echo.header("x-mulkko-checkout-v2") for echo in late] == [expected(echo) for echo in late]
    assert not is_rolled_back(stage, "other")
    assert stage.log().count("is rolled back") == 1
    # The default's requests are compared with both, and counted once.
    decided = stage.metric("requests", variant="stable", reason="SPLIT")
    wait_until(lambda: judged(stage, variant="stable") == decided, f"{decided:.0f} requests of the default")


def test_identical_variants_with_errors_are_not_rolled_back(set_stage):
    stage = set_guarded_stage(set_stage, guarded(20))
    for upstream in stage.upstreams:
        stage.behave(upstream, fault="503", ratio=0.01)
    with stage.load(crowd()) as load:
        wait_for_judged(stage, 4_000)
    assert not load.errors
    assert judged(stage, "guard_bad_requests", variant="stable") > 10
    assert not is_rolled_back(stage)


@pytest.mark.parametrize("key", ["user", pytest.param("request", marks=pytest.mark.long)])
def test_identical_variants_that_are_sometimes_slow_are_not_rolled_back(set_stage, key):
    with serving(Uneven, "uneven") as port:
        stage = set_guarded_stage(
            set_stage, guarded(20, key=key), edit=lambda bootstrap: send_all_to(bootstrap, "uneven", port)
        )
        slow = lambda **labels: judged(stage, "guard_bad_requests", **labels)
        with stage.load(crowd(), per_second=400, per_worker=8) as load:
            wait_for_judged(stage, 4_000)
            # That takes 1,000 responses of the default on a worker, and then some.
            wait_until(lambda: slow(test="p99", variant="stable") >= 5, "the 99th percentile to be judged", SECONDS)
            # How many there are by then is chance.
            evident = lambda: judged(stage, "guard_events", test="p90") > 50
            wait_until(evident, "what was slow to become evidence", SECONDS)
        assert not load.failed
        assert slow(test="p90", variant="stable") > 50
        assert slow(test="p90", variant="canary") > 10
        assert not is_rolled_back(stage)


@pytest.mark.parametrize("key", ["user", pytest.param("request", marks=pytest.mark.long)])
def test_a_shared_outage_rolls_nothing_back(set_stage, key):
    stage = set_guarded_stage(set_stage, guarded(20, key=key))
    with stage.load(crowd(), per_second=200) as load:
        wait_for_judged(stage, 300)
        for upstream in stage.upstreams:
            stage.behave(upstream, fault="503", ratio=0.3)
        # Three times as much as it takes where the default does well.
        failed = lambda: judged(stage, "guard_bad_requests", variant="canary")
        wait_until(lambda: failed() > 60, "the outage to be judged", SECONDS)
    assert not load.errors
    assert not is_rolled_back(stage)


def test_a_user_who_hammers_a_failing_page_counts_once(set_stage):
    stage = set_guarded_stage(set_stage, guarded(5))
    unlucky = next(users_of("canary", 5))
    hammer = lambda: ("/checkout", [unlucky, ("x-fault", "503")])
    with stage.load(crowd(), per_second=200) as load, Load(stage.port, hammer, per_second=100) as hammering:
        wait_until(lambda: judged(stage, variant="canary") > 500, "the canary's requests", SECONDS)
    assert not load.failed
    assert len(hammering.failed) > 300
    assert judged(stage, "guard_bad_requests", variant="canary") == 1
    assert not is_rolled_back(stage)


def test_a_blue_green_switch_that_fails_goes_back(set_stage):
    policy = load_policy("blue-green")
    rollout = policy["rollouts"][0]
    rollout["strategy"]["blueGreen"]["at"] = instant(-60)
    rollout["guard"] = {"warmup": "0s", "errors": {"floor": 0.01}}
    stage = set_guarded_stage(set_stage, marked(policy, 1))
    with stage.load(crowd(), per_second=200) as load:
        wait_for_judged(stage, 100, variant="green")
        assert {answer.upstream for answer in load.responses} == {"checkout-v2"}
        stage.behave("checkout-v2", fault="503", ratio=0.2)
        wait_until(lambda: stage.metric("guard_rolled_back", variant="green") == 1, "the rollback", SECONDS)
        stage.wait_for_all_workers(lambda echo: echo.request["upstream"] == "checkout-v1")
        in_force_at = time.time()
        seen = len(load.responses)
        wait_until(lambda: len(load.responses) > seen + 200, "requests after the verdict", 20)
    assert {answer.upstream for answer in load.responses if answer.sent > in_force_at} == {"checkout-v1"}
    assert decisions(stage.get("/checkout", user(1), explain_pass())) == {"checkout": ["blue", "ROLLED_BACK"]}


def test_a_guard_with_nothing_to_compare_is_idle(set_stage):
    stage = set_guarded_stage(set_stage, guarded(0))
    for revision, (percent, idle) in enumerate([(0, 1), (5, 0), (100, 1), (0, 1), (50, 0)], start=2):
        stage.push(guarded(percent, revision))
        stage.wait_for_all_workers(in_force(revision))
        stage.wait_for_metric("guard_idle", idle, rollout="checkout-v2")
