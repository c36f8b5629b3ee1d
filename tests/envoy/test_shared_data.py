"""Shared data, where every plugin with the same vm_id can write: who fetches, and what is published."""

import time

import pytest
from arithmetic import fnv1a64
from documents import canary, source, user
from stage import EXAMPLES, in_force

SQUATTER = EXAMPLES / "squatter.wasm"


def entry(kind, name="shop"):
    """Where the lease, the stamp or the policy of the tests' source lies."""
    hashed = b"".join(source()[part].encode() + b"\0" for part in ("cluster", "authority", "path")) + b"\0"
    return f"mulkko/1/{name}/{fnv1a64(hashed):016x}/{kind}"


def squat(*lines):
    """For `set_stage(edit=...)`: a plugin that has written these lines before mulkko starts."""
    return lambda bootstrap: bootstrap.add_wasm_filter("squatter", SQUATTER, "\n".join(lines))


@pytest.mark.parametrize(
    ("ahead_ms", "held_s"),
    [pytest.param(3_000, 2, id="fresh"), pytest.param(365 * 86_400_000, 0, id="ending in a year")],
)
def test_a_lease_whose_holder_does_not_exist_is_taken_over(set_stage, serve, ahead_ms, held_s):
    config = serve(canary(100))
    started = time.monotonic()
    stage = set_stage(config_port=config.port, edit=squat(f"{entry('lease')} lease {ahead_ms}"))
    stage.wait_for_all_workers(in_force(1), seconds=10)
    # As long as it seems to be held, nobody else fetches: otherwise the test would show nothing.
    assert config.requests[0].at - started >= held_s


# The last eight bytes are the revision: a higher one than any policy has.
FUTURE = "~" * 16
# A stamp, an ETag of no bytes, and a document that is refused.
REFUSED = FUTURE + "\0\0" + '{"rollouts": 7}'


@pytest.mark.parametrize(
    ("stamp", "policy", "logged"),
    [
        pytest.param("garbage", "garbage", "", id="garbage"),
        pytest.param(FUTURE, "", "", id="a stamp without a policy"),
        pytest.param(FUTURE, "garbage", "", id="a stamp with garbage"),
        pytest.param(FUTURE, REFUSED, "published policy refused: rollouts: expected an array", id="a bad policy"),
    ],
)
def test_what_others_write_stops_no_policy(set_stage, stamp, policy, logged):
    lines = f"{entry('lease')} text garbage", f"{entry('stamp')} text {stamp}", f"{entry('policy')} text {policy}"
    stage = set_stage(policy=canary(100), edit=squat(*lines))
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert logged in stage.log()
    stage.push(canary(0, revision=2))
    stage.wait_for_all_workers(in_force(2), headers=[user(1)])
