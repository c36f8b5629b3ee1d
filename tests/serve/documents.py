"""Policies that the tests push."""


# What one item of a policy may have, with some to spare; and a flag.
PART = 200_000
OFF = {"state": "DISABLED", "variants": {"on": True}, "defaultVariant": "on"}


def policy(revision, percent=5, name="shop", size=0):
    """A canary, made `size` bytes larger."""
    document = {
        "name": name,
        "revision": revision,
        "rollouts": [{
            "name": "checkout-v2",
            "key": "request",
            "variants": {"stable": {}, "canary": {"cluster": "checkout-v2"}},
            "default": "stable",
            "strategy": {"canary": {"variant": "canary", "percent": percent}},
        }],
    }  # fmt: skip
    if size:
        parts = [min(PART, size - at) for at in range(0, size, PART)]
        document["flags"] = {f"filler-{i}": {**OFF, "metadata": {"filler": "x" * part}} for i, part in enumerate(parts)}
    return document
