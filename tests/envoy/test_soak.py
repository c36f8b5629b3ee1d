"""One Envoy under load, pushes and a config cluster that flaps: no request fails, and its memory stays where it is."""

import itertools
import re
import statistics
import time
from pathlib import Path

import pytest
from config_server import Answer, policy_answer
from documents import canary, large_canary, source, user
from shadows import SECONDARY, add_secondary, shadowed
from stage import in_force, load_policy, marked, wait_until

# How long a load lasts, whose connections then are opened anew.
ROUND_S = 10
FLAGS = load_policy("flags")
# What the config cluster answers between two policies.
MOODS = [
    Answer(status=500, body=b"oops"),
    Answer(hang=True),
    Answer(body=b"<html>", etag='"html"', content_type="text/html"),
    Answer(body=b'{"rollouts": [', etag='"cut"'),
    Answer(body=b'{"rollouts": [', content_length=1_000),
    policy_answer(canary(140, revision=10**6)),
]


def document(revision):
    """A policy with all that the plugin keeps something for: a guard, a shadow that is compared, flags.

    Every tenth is large, and every fourth has a guarded rollout that no other has.
    """
    policy = large_canary(20, revision) if revision % 10 == 0 else canary(20, revision)
    [launch] = shadowed(percent=20, mode="compare", compare=SECONDARY)["rollouts"]
    policy["rollouts"][0].update(guard={"warmup": "0s"}, shadow=launch["shadow"])
    if revision % 4 == 0:
        [own] = canary(50)["rollouts"]
        policy["rollouts"].append({**own, "name": f"own-{revision}", "guard": {"window": "100ms"}})
    policy.update({name: FLAGS[name] for name in ("flags", "$evaluators")}, flagKey="user")
    return marked(policy, revision)


def add_secondary_of_the_stage(bootstrap):
    """Another copy of the stable version: the stage's own."""
    add_secondary(bootstrap)
    bootstrap.document["static_resources"]["clusters"][-1]["load_assignment"]["cluster_name"] = "checkout-v1"


def resident_mb(stage):
    """The memory of Envoy that is resident."""
    status = Path(f"/proc/{stage.envoy.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1_000


@pytest.mark.parametrize("seconds", [20, pytest.param(600, marks=[pytest.mark.long, pytest.mark.soak])])
def test_memory_stays_where_it_is(set_stage, serve, seconds):
    config = serve(document(1))
    plugin = {"source": source(timeout="500ms"), "ofrep": {"prefix": "/ofrep/v1"}}
    stage = set_stage(config_port=config.port, plugin=plugin, edit=add_secondary_of_the_stage)
    stage.wait_for_all_workers(in_force(1), headers=[user(0)])
    vms = stage.stats("wasm.envoy.wasm.runtime.v8.created")
    # The same ten thousand again and again.
    users = itertools.cycle(range(10_000))
    revisions, moods = itertools.count(2), itertools.cycle(MOODS)
    end = time.monotonic() + seconds
    resident, count = [], 0
    while time.monotonic() < end:
        with stage.load(lambda: ("/checkout/order", [user(next(users))]), per_second=300) as load:
            round_end = time.monotonic() + ROUND_S
            while time.monotonic() < round_end:
                config.answer = next(moods)
                refused = len(config.requests)
                wait_for_requests(config, refused + 2)
                revision = next(revisions)
                config.answer = policy_answer(document(revision))
                stage.wait_for_all_workers(in_force(revision), headers=[user(0)], seconds=30)
                resident.append(resident_mb(stage))
        assert not load.failed
        count += len(load.responses)
    quarter = len(resident) // 4
    second, last = (statistics.median(resident[start : start + quarter]) for start in (quarter, len(resident) - quarter))
    print(f"{count} requests, {revision - 1} policies in {seconds} s; resident: {resident[0]:.0f} MB at first, ", end="")
    print(f"{second:.0f} MB in the second quarter, {last:.0f} MB in the last, {max(resident):.0f} MB at most")
    assert stage.stats("wasm.envoy.wasm.runtime.v8.created") == vms, "no VM had to be made anew"
    assert stage.metric("hostcall_failures") == 0
    assert "panicked" not in stage.log()
    # And there was something to keep.
    assert stage.metric("shadow_requests", outcome="different") > 0, "each order has a time and an id of its own"
    assert stage.metric("guard_requests", variant="canary") > 0
    # Between the middles of these quarters lies half of the requests. In the first seconds what is kept still fills up.
    grown_bytes = (last - second) * 1_000_000 / (count / 2)
    assert grown_bytes < (200 if seconds > 60 else 3_000), f"{grown_bytes:.0f} bytes a request"
    assert count > 50 * seconds, "the load went on"


def wait_for_requests(config, count):
    """Waits until the config cluster has been asked so often."""
    wait_until(lambda: len(config.requests) >= count, "another try", 30)
