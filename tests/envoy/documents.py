"""Policies and plugin configurations that the tests put together."""

import json

from stage import load_policy, marked

# What makes the plugin answer flags where clients of OpenFeature ask for them.
OFREP = {"ofrep": {"prefix": "/ofrep/v1"}, "trust": "mesh"}


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


def guarded(percent, revision=1, key="user", **guard):
    """`canary` under a guard that judges from the first request on, with other members as given."""
    policy = canary(percent, revision)
    policy["rollouts"][0].update(key=key, guard={"warmup": "0s", **guard})
    return policy


def large_canary(percent, revision, size=100_000):
    """`canary` in a policy of some `size` bytes, the rest of which is about other paths."""
    policy = canary(percent, revision)
    template = policy["rollouts"][0]
    policy["rollouts"] += [
        {**template, "name": f"other-{i}", "matches": [{"path": {"value": f"/other/{i}"}}]}
        for i in range(size // len(json.dumps(template)))
    ]
    return policy


def with_flags(document, revision=1):
    """`canary(0)`, which shows that it is in force, with what a flagd document says.

    Metadata of its own would be told with each flag: it has none.
    """
    return {**canary(0, revision), "metadata": {}, **document}


def user(number):
    """The header that makes a request a user's."""
    return ("x-user-id", f"user-{number}")
