"""Puts guards to the test: crowds and failures, and how a guard stands."""

import itertools
import re
import time
from dataclasses import dataclass

from arithmetic import in_first
from documents import user
from explain import explain_pass
from stage import wait_until

# Enough for a machine that is busy with other things: a rollback takes some seconds.
SECONDS = 60
# What a healthy service has: 0.1 % errors.
HEALTHY = {"fault": "503", "ratio": 0.001}

CASE = re.compile(r'"([a-z0-9-]+)"((?:;[a-z-]+=[a-z0-9.-]+)*)')


def crowd(seed=0):
    """For a `Load`: each request is another user's."""
    numbers = itertools.count(seed * 1_000_000)
    return lambda: ("/checkout", [user(next(numbers))])


def users_of(variant, percent, seed="checkout-v2"):
    """The users whom the split gives the canary, or the default (`stable`), without end; as headers."""
    is_canary = variant == "canary"
    return (user(i) for i in itertools.count() if in_first(percent, seed, f"user-{i}") == is_canary)


def standing(response, variant="canary"):
    """How the guard of `checkout-v2` stands, as a response says that was asked with an `explain` pass."""
    cases = dict(CASE.findall(response.header("x-mulkko-guard") or ""))
    return dict(re.findall(r";([a-z-]+)=([a-z0-9.-]+)", cases.get(variant, "")))


def judged(stage, metric="guard_requests", test="errors", **labels):
    """How many requests were judged."""
    return stage.metric(metric, test=test, **labels)


def wait_for_judged(stage, count, seconds=SECONDS, **labels):
    """Waits until so many requests more have been judged."""
    count += judged(stage, **labels)
    wait_until(lambda: judged(stage, **labels) >= count, f"{count} judged requests", seconds)


def wait_for_verdict(stage, seconds=SECONDS, variant="canary"):
    """Waits until a variant is rolled back on all workers."""
    wait_until(lambda: stage.metric("guard_rolled_back", variant=variant) == 1, "a rollback", seconds)
    with stage.connection_per_worker() as connections:
        for worker, connection in enumerate(connections):
            wait_until(
                lambda connection=connection: standing(ask(connection), variant).get("state") == "rolled-back",
                f"the verdict on worker {worker}",
            )


def ask(connection):
    """Asks how guards stand; as nobody, so that it does not count where users do."""
    return connection.get("/checkout", explain_pass())


def is_rolled_back(stage, variant="canary"):
    """Whether a variant is rolled back, as the gauge or any worker says."""
    with stage.connection_per_worker() as connections:
        states = {standing(ask(connection), variant)["state"] for connection in connections}
    return stage.metric("guard_rolled_back", variant=variant) != 0 or "rolled-back" in states


def condemn(stage, canary, stable):
    """Has users of a canary fail, and others do well, until it is rolled back on all workers. It takes some twenty."""

    def fail():
        for _ in range(5):
            with stage.connect() as connection:
                connection.get("/checkout", next(canary), ("x-fault", "503"))
                connection.get("/checkout", next(stable))
        return stage.metric("guard_rolled_back", variant="canary") == 1

    wait_until(fail, "a rollback", SECONDS)
    wait_for_verdict(stage)


@dataclass(frozen=True)
class Rollback:
    """What it took from the onset of a failure until the verdict was in force on all workers."""

    requests: int
    failed: int
    seconds: float

    def __str__(self):
        return f"{self.requests} canary requests, {self.failed} failed, {self.seconds:.1f} s"


def roll_back(stage, load, onset):
    """Waits for the verdict, and until some hundreds of requests after it have shown that the canary gets none."""
    wait_for_verdict(stage)
    in_force = time.time()
    seen = len(load.responses)
    wait_until(lambda: len(load.responses) >= seen + 400, "requests after the verdict", SECONDS)
    canary = [answer for answer in load.responses if answer.upstream == "checkout-v2" and answer.sent >= onset]
    late = [answer for answer in canary if answer.sent > in_force]
    assert not late, f"{len(late)} requests went to the canary after the verdict was in force on all workers"
    assert not load.errors
    return Rollback(len(canary), sum(answer.status >= 500 for answer in canary), in_force - onset)


def roll_back_for_errors(stage, seed):
    """A canary at 5 % that begins to fail a fifth of its requests: other users and others of them with another seed."""
    for upstream in stage.upstreams:
        stage.behave(upstream, **HEALTHY, seed=seed)
    with stage.load(crowd(seed), per_second=200) as load:
        wait_for_judged(stage, 300)
        return roll_back(stage, load, stage.behave("checkout-v2", fault="503", ratio=0.2, seed=seed))


def roll_back_for_latency(stage, seed):
    """A canary at 5 % that begins to take twice as long, after 1,000 responses of the default."""
    for upstream in stage.upstreams:
        stage.behave(upstream, delay_ms=20)
    # Each worker knows what it has seen itself: 1,000 on each, quickly.
    users = crowd(seed)
    with stage.load(users, per_worker=8):
        wait_for_judged(stage, 1_200 * stage.workers, variant="stable")
    with stage.load(users, per_second=200) as load:
        wait_for_judged(stage, 200)
        return roll_back(stage, load, stage.behave("checkout-v2", delay_ms=40))
