"""Who fetches: a lease that any root context takes over, whoever holds it."""

import time

import pytest
from arithmetic import fnv1a64
from documents import canary, source
from stage import WASM, in_force

LEASE = WASM.parent / "examples/lease.wasm"


def lease_key(source, name="shop"):
    """Where the lease of a source lies in shared data."""
    hashed = b"".join(source[part].encode() + b"\0" for part in ("cluster", "authority", "path")) + b"\0"
    return f"mulkko/1/{name}/{fnv1a64(hashed):016x}/lease"


@pytest.mark.parametrize(
    ("ahead_ms", "held_s"),
    [pytest.param(3_000, 2, id="fresh"), pytest.param(365 * 86_400_000, 0, id="ending in a year")],
)
def test_a_lease_whose_holder_does_not_exist_is_taken_over(set_stage, serve, ahead_ms, held_s):
    config = serve(canary(100))
    left_behind = f"{lease_key(source())} {ahead_ms}"
    started = time.monotonic()
    stage = set_stage(
        config_port=config.port,
        edit=lambda bootstrap: bootstrap.add_wasm_filter("lease", LEASE, left_behind),
    )
    stage.wait_for_all_workers(in_force(1), seconds=10)
    # As long as it seems to be held, nobody else fetches: otherwise the test would show nothing.
    assert config.requests[0].at - started >= held_s
