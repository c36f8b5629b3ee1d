"""What counts for a guard, and what of it is an error: one request after the other, each with the figures after it."""

import contextlib
import copy
import socket

from documents import guarded
from guards import judged, users_of
from http2 import Http2
from passes import make_pass
from stage import PASS_KEY, in_force, wait_until

GRPC = [("content-type", "application/grpc")]


def policy():
    """Half of the users get the canary; a window is short, and no verdict puts an end to it."""
    policy = guarded(50, window="100ms", onBreach="report")
    rollout = policy["rollouts"][0]
    rollout["matches"] = [{"path": {"value": "/"}}]
    rollout["force"] = [{"when": {"==": [{"var": "request.headers.x-staff"}, "yes"]}, "variant": "canary"}]
    return policy


def with_bad_routes(port):
    """Routes to where connections are refused, and to where nobody has much time; trailers from upstream."""

    def edit(bootstrap):
        clusters = bootstrap.document["static_resources"]["clusters"]
        usual = next(cluster for cluster in clusters if cluster["name"] == "checkout-v2")
        refusing = copy.deepcopy(usual)
        refusing["name"] = refusing["load_assignment"]["cluster_name"] = "refusing"
        clusters.append(refusing)
        bootstrap.set_port("refusing", port)
        protocol = {"explicit_http_config": {"http_protocol_options": {"enable_trailers": True}}}
        type_url = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        usual["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": type_url, **protocol}
        }
        routes = bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"]
        for name, route in [("refused", {"cluster": "refusing"}), ("brief", {"cluster": "checkout-v2", "timeout": "0.2s"})]:
            header = {"name": "x-route", "string_match": {"exact": name}}
            routes.insert(0, {"match": {"prefix": "/", "headers": [header]}, "route": route})

    return edit


@contextlib.contextmanager
def refusing_port():
    """A port at which connections are refused for as long as the `with` block lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# What is sent, as whom, and how many requests and errors more are counted.
REQUESTS = {
    "a good answer": ([], 1, 0),
    "an error": ([("x-fault", "503")], 1, 1),
    "another error": ([("x-fault", "599")], 1, 1),
    "the client's error": ([("x-fault", "404")], 1, 0),
    "no connection": ([("x-route", "refused")], 1, 1),
    "a reset": ([("x-fault", "close")], 1, 1),
    "a reset in mid-body": ([("x-fault", "break-off")], 1, 1),
    "no answer in time": ([("x-route", "brief"), ("x-fault", "hang")], 1, 1),
    "not all of an answer in time": ([("x-route", "brief"), ("x-fault", "stall")], 1, 1),
    "status of gRPC's without gRPC": ([("x-respond-with", "grpc-status: 14")], 1, 0),
    "forced by the policy": ([("x-staff", "yes"), ("x-fault", "503")], 0, 0),
    "forced by a pass": (
        [("x-mulkko-pass", make_pass(PASS_KEY, rollout="checkout-v2", variant="canary")), ("x-fault", "503")],
        0,
        0,
    ),
    "decided by an earlier hop": ([("baggage", "mulkko.checkout-v2=canary"), ("x-fault", "503")], 0, 0),
    "somebody without key": ([("x-user-id", ""), ("x-fault", "503")], 0, 0),
}

# The same of gRPC's.
CALLS = {
    "well": ([("x-respond-with", "grpc-status: 0")], 1, 0),
    "unavailable": ([("x-respond-with", "grpc-status: 14")], 1, 1),
    "not found": ([("x-respond-with", "grpc-status: 5")], 1, 0),
    "well, in a trailer": ([("x-trailer", "grpc-status: 0")], 1, 0),
    "internal, in a trailer": ([("x-trailer", "grpc-status: 13")], 1, 1),
    "no connection": ([("x-route", "refused")], 1, 1),
    "an error of HTTP's": ([("x-fault", "503")], 1, 1),
}


def counted(stage):
    """How many requests and errors were counted, of both variants."""
    return judged(stage), judged(stage, "guard_bad_requests")


class Ledger:
    """What should have been counted so far. Whoever is counted is a user who never was before."""

    def __init__(self, stage):
        self.stage = stage
        self.requests, self.errors = 0, 0
        self.canary, self.stable = users_of("canary", 50), users_of("stable", 50)
        # A worker counts from the canary's first request on.
        with stage.connection_per_worker() as connections:
            for connection in connections:
                connection.get("/checkout", next(self.canary))
        self.book("the first requests", stage.workers, 0)

    def book(self, what, requests, errors):
        """Sends a request that counts, on a worker on which nothing is under way, and compares."""
        self.requests += requests
        self.errors += errors
        expected = self.requests, self.errors
        found = lambda: counted(self.stage)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: found() == expected, what)
        assert found() == expected, what


def test_what_counts_and_what_is_an_error(set_stage):
    with refusing_port() as port:
        stage = set_stage(policy=policy(), edit=with_bad_routes(port), plugin={"trust": "mesh"})
        stage.wait_for_all_workers(in_force(1))
        ledger = Ledger(stage)
        for what, (headers, requests, errors) in REQUESTS.items():
            names = [name for name, _ in headers]
            headers = headers if "x-user-id" in names else [next(ledger.canary), *headers]
            with stage.connect() as connection:
                # What is broken off leaves no connection.
                with contextlib.suppress(ConnectionError):
                    connection.get("/checkout", *headers)
                    # What is sent after it on one connection is counted after it.
                    assert connection.get("/checkout", next(ledger.stable)).status == 200
                    requests += 1
            ledger.book(what, requests, errors)
        for what, (headers, requests, errors) in CALLS.items():
            with Http2(stage.port) as connection:
                connection.ask("POST", "/shop.Checkout/Pay", [next(ledger.canary), *GRPC, *headers], b"\0" * 5)
            ledger.book(f"gRPC: {what}", requests, errors)


def test_flags_that_the_plugin_answers_do_not_count(set_stage):
    stage = set_stage(policy=policy(), plugin={"trust": "mesh"})
    stage.wait_for_all_workers(in_force(1))
    ledger = Ledger(stage)
    with stage.connect() as connection:
        for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/none"):
            answer = connection.send("POST", path, [next(ledger.canary)], b'{"context": {"targetingKey": "user-1"}}')
            assert answer.upstream is None
        connection.get("/checkout", next(ledger.stable))
    ledger.book("flags", 1, 0)


def test_clients_that_leave_say_nothing_of_errors(set_stage):
    stage = set_stage(policy=policy())
    stage.wait_for_all_workers(in_force(1))
    ledger = Ledger(stage)

    def leave(fault, path):
        """Leaves in the middle of a request, and waits until Envoy has noticed."""
        with stage.connect() as connection:
            connection.write("GET", path, [next(ledger.canary), ("x-fault", fault)])
            if fault == "stall":
                connection.socket.recv(1)
            else:
                active = "cluster.checkout-v2.upstream_rq_active"
                wait_until(lambda: stage.stats(f"{active}$") == {active: 1}, "the upstream")
        left = lambda: [line["flags"] for line in stage.access_log() if line["path"] == path]
        wait_until(left, "the access log")
        assert left() == ["DC"]

    leave("hang", "/checkout/before-the-answer")
    with stage.connection_per_worker() as connections:
        for connection in connections:
            connection.get("/checkout", next(ledger.stable))
    ledger.book("before the answer", 2, 0)
    leave("stall", "/checkout/in-mid-answer")
    ledger.book("in mid-answer", 1, 0)
