"""Policies that the tests push."""


def policy(revision, percent=5, name="shop", size=0):
    """A canary, made `size` bytes larger."""
    document = {
        "name": name,
        "revision": revision,
        "metadata": {"filler": "x" * size},
        "rollouts": [{
            "name": "checkout-v2",
            "key": "request",
            "variants": {"stable": {}, "canary": {"cluster": "checkout-v2"}},
            "default": "stable",
            "strategy": {"canary": {"variant": "canary", "percent": percent}},
        }],
    }  # fmt: skip
    if not size:
        del document["metadata"]
    return document
