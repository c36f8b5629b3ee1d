"""Policies and plugin configurations that the tests put together."""

import copy
from datetime import datetime, timedelta, timezone

from stage import load_policy


def source(**members):
    """A source that asks five times a second, with other members as given."""
    return {
        "cluster": "config",
        "authority": "config.internal",
        "path": "/policies/shop.json",
        "poll": "200ms",
        "timeout": "1s",
        **members,
    }


def canary(percent, revision=1):
    """`policies/canary-by-hand.json` with another percentage: `checkout-v2` for the first `percent` of the users."""
    policy = load_policy("canary-by-hand")
    policy["rollouts"][0]["strategy"]["canary"]["percent"] = percent
    return marked(policy, revision)


def marked(policy, revision):
    """The policy with this revision, which every variant of it tells the upstream in `x-mark`."""
    policy = copy.deepcopy(policy)
    policy["revision"] = revision
    for rollout in policy["rollouts"]:
        for variant in rollout["variants"].values():
            variant.setdefault("headers", {})["x-mark"] = str(revision)
    return policy


def in_force(revision):
    """For `Stage.wait_for_all_workers`: whether the policy that was `marked` with this revision has decided."""
    return lambda echo: echo.header("x-mark") == str(revision)


def instant(seconds):
    """The instant so many seconds from now, as RFC 3339 has it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def user(number):
    """The header that makes a request a user's."""
    return ("x-user-id", f"user-{number}")
