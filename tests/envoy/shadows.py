"""Puts shadows to the test: three versions of a shop, and what is known of their differences."""

import contextlib
import copy
import json
import random
import time

from documents import canary
from explain import explain_pass
from services import Noting, Shop, serving
from stage import in_force, wait_until

# The stable version, the new one, and another copy of the stable one.
VERSIONS = ("checkout-v1", "checkout-v2", "checkout-v1b")
SECONDARY = {"secondary": {"cluster": "checkout-v1b", "percent": 100}}
JSON = ("content-type", "application/json")


def shadowed(revision=1, percent=100, **shadow):
    """A dark launch: nobody gets the new version, but a share of the requests have a copy there; not of who only asks
    which policy is in force.
    """
    policy = canary(0, revision)
    when = {"!": [{"var": "request.headers.x-echo"}]}
    policy["rollouts"][0]["shadow"] = {"cluster": "checkout-v2", "percent": percent, "when": when, **shadow}
    return policy


def compared(revision=1, compare=SECONDARY, **shadow):
    """The same, where the answers are compared."""
    return shadowed(revision, **{"mode": "compare", "compare": compare, **shadow})


def add_secondary(bootstrap):
    """Another copy of the stable version."""
    clusters = bootstrap.document["static_resources"]["clusters"]
    cluster = copy.deepcopy(next(cluster for cluster in clusters if cluster["name"] == "checkout-v1"))
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = "checkout-v1b"
    clusters.append(cluster)


@contextlib.contextmanager
def versions(respond):
    """Serves the three versions, which answer by `respond(version, number)`; gives their ports by name."""
    with contextlib.ExitStack() as cleanup:
        Shop.responses.update({name: lambda number, name=name: respond(name, number) for name in VERSIONS})
        Noting.arrived.clear()
        yield {name: cleanup.enter_context(serving(Shop, name)) for name in VERSIONS}


def order(number, noise=True):
    """What every version answers: JSON with what differs each time, and what does not."""
    body = {"order": number, "items": [{"sku": f"sku-{i}", "price": 10 * i} for i in range(3)], "total": 30, "paid": True}
    if noise:
        body |= {"now": time.time(), "trace": {"id": random.getrandbits(64)}}
    return 200, [JSON, ("cache-control", "no-store")], body


def encoded(status, headers, body):
    """A response as a shop gives it."""
    return status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()


def report(stage, rollout="checkout-v2"):
    """What is known of a shadow."""
    response = stage.get(f"/.mulkko/shadow/{rollout}", explain_pass())
    assert response.status == 200, response
    return response.json


def wait_for_report(stage, count, seconds=20, **whose):
    """Waits until so many requests were compared, and gives the document."""
    return wait_until(lambda: (it := report(stage, **whose))["compared"] >= count and it, f"{count} comparisons", seconds)


def launch_another(stage, launches, **shadow):
    """Pushes a dark launch that has another name than those before it, so that it begins anew, and gives its name.

    `launches` counts the stage's.
    """
    number = next(launches)
    policy = compared(number, **shadow)
    policy["rollouts"][0]["name"] = name = f"checkout-{number}"
    stage.push(policy)
    stage.wait_for_all_workers(in_force(number))
    return name


def differing(document):
    """The fields that are reported: names by kind."""
    return {(field["kind"], field["name"]) for field in document["fields"] if field["differs"]}
