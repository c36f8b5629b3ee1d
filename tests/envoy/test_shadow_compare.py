"""Shadows whose answers are compared, in Envoy."""

import contextlib
import gzip
import itertools
import json
import re

import pytest
from documents import source
from services import Noting
from shadows import (
    SECONDARY,
    add_secondary,
    compared,
    differing,
    encoded,
    launch_another,
    order,
    report,
    versions,
    wait_for_report,
)
from stage import Stage, in_force, wait_until


@pytest.fixture
def compare(set_stage):
    """Sets a stage with three versions that answer by `respond(version, number)`, under a policy that compares them."""
    with contextlib.ExitStack() as cleanup:

        def enter(respond, policy=None, edit=None, **arguments):
            def both(bootstrap):
                add_secondary(bootstrap)
                if edit:
                    edit(bootstrap)

            ports = cleanup.enter_context(versions(lambda version, number: encoded(*respond(version, number))))
            stage = set_stage(policy=policy or compared(), endpoints=ports, edit=both, **arguments)
            stage.wait_for_all_workers(in_force(1))
            return stage

        yield enter


def ask(stage, numbers, method="GET"):
    """Asks for orders, one after another; each must be answered by the stable version."""
    with stage.connect() as connection:
        for number in numbers:
            response = connection.send(method, f"/checkout?{number}")
            assert response.upstream == "checkout-v1"


def changed(change):
    """The new version makes `change` of every twentieth order: `change(status, headers, body)`."""

    def respond(version, number):
        response = order(number)
        return change(*response) if version == "checkout-v2" and number % 20 == 7 else response

    return respond


def without(body, name):
    return {key: value for key, value in body.items() if key != name}


CHANGES = {
    "a changed field": (lambda status, headers, body: (status, headers, body | {"total": 31}), {("json", "/total")}),
    "another type": (lambda status, headers, body: (status, headers, body | {"total": "30"}), {("json", "/total")}),
    "a missing field": (lambda status, headers, body: (status, headers, without(body, "paid")), {("json", "/paid")}),
    "a field too many": (lambda status, headers, body: (status, headers, body | {"tax": 1}), {("json", "/tax")}),
    "an item": (
        lambda status, headers, body: (status, headers, body | {"items": [*body["items"][:2], {"sku": "x", "price": 20}]}),
        {("json", "/items/2/sku")},
    ),
    "a changed status": (lambda status, headers, body: (500, headers, body), {("status", "status")}),
    "a changed header": (
        lambda status, headers, body: (status, [headers[0], ("cache-control", "public")], body),
        {("header", "cache-control")},
    ),
    "no JSON": (lambda status, headers, body: (status, headers, b"{"), {("body", "body")}),
    "a reordered object": (lambda status, headers, body: (status, headers, dict(reversed(body.items()))), set()),
}


@pytest.fixture(scope="module")
def launch():
    """A stage, and what launches one version after another there, each with a change; that gives the launch's name."""
    change, launches = None, itertools.count(1)
    with versions(lambda version, number: encoded(*changed(change)(version, number))) as ports:
        with Stage(endpoints=ports, edit=add_secondary, plugin={"source": source()}) as stage:

            def enter(next_change):
                nonlocal change
                change = next_change
                return launch_another(stage, launches)

            yield stage, enter


@pytest.mark.parametrize("name", CHANGES)
def test_what_one_request_in_twenty_shows_is_found_and_named(launch, name):
    change, expected = CHANGES[name]
    stage, begin = launch
    rollout = begin(change)
    ask(stage, range(1, 201))
    document = wait_for_report(stage, 200, rollout=rollout)
    assert differing(document) == expected, json.dumps(document, indent=1)
    assert document["noise"] == "cancelled"
    for kind, named in expected:
        field = next(field for field in document["fields"] if (field["kind"], field["name"]) == (kind, named))
        assert field["different"] == field["onlyShadow"] == 10
        assert re.search(f'{rollout}: .*{kind} "{named}" differs', stage.log())


def test_noise_is_not_reported(compare):
    stage = compare(lambda version, number: order(number), policy=compared(maxInFlight=1_000))
    with stage.load(lambda: ("/checkout?1", []), per_second=400):
        document = wait_for_report(stage, 5_000, 120)
    assert differing(document) == set()
    noisy = {field["name"]: field for field in document["fields"]}
    assert set(noisy) == {"/now", "/trace/id"}
    # A busy machine may leave a request without its other copy: then there is nothing to tell noise by.
    alone = stage.metric("shadow_dropped", reason="secondary")
    for field in noisy.values():
        assert 0 <= field["different"] - field["both"] <= alone
    print(json.dumps(document, indent=1))


def test_without_a_secondary_rates_are_told_for_what_they_are(compare):
    stage = compare(changed(CHANGES["a changed field"][0]), policy=compared(compare={}))
    ask(stage, range(1, 201))
    document = wait_for_report(stage, 200)
    assert differing(document) == {("json", "/total"), ("json", "/now"), ("json", "/trace/id")}
    assert (document["noise"], document["secondary"]) == ("not cancelled", None)


def test_what_is_ignored_is_not_compared(compare):
    policy = compared(compare={"ignorePaths": ["/now", "/trace"], "headers": ["x-none"]})
    stage = compare(lambda version, number: order(number), policy=policy)
    ask(stage, range(1, 51))
    document = wait_for_report(stage, 50)
    assert (document["equal"], document["fields"]) == (50, [])


def test_an_encoded_answer_is_compared_but_for_its_body(compare):
    def respond(version, number):
        status, headers, body = order(number)
        if version == "checkout-v1":
            return status, [*headers, ("content-encoding", "gzip")], gzip.compress(json.dumps(body).encode())
        return (503 if version == "checkout-v2" else status), headers, body

    stage = compare(respond)
    ask(stage, range(1, 51))
    document = wait_for_report(stage, 50)
    assert differing(document) == {("status", "status")}
    assert document["bodiesNotCompared"] == 50


def encoding(bootstrap):
    """Has Envoy encode for users what services answer plainly."""
    gzip_library = {"@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"}
    compressor = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor",
        "response_direction_config": {"remove_accept_encoding_header": True},
        "compressor_library": {"name": "gzip", "typed_config": gzip_library},
    }
    bootstrap.filters.insert(0, {"name": "envoy.filters.http.compressor", "typed_config": compressor})


def test_what_envoy_encodes_for_users_is_compared(compare):
    stage = compare(changed(CHANGES["a changed field"][0]), edit=encoding)
    Noting.arrived.clear()
    with stage.connect() as connection:
        for number in range(1, 201):
            response = connection.get(f"/checkout?{number}", ("accept-encoding", "gzip"))
            assert response.header("content-encoding") == "gzip"
            assert json.loads(gzip.decompress(response.body))["order"] == number
    document = wait_for_report(stage, 200)
    assert differing(document) == {("json", "/total")}
    assert document["bodiesNotCompared"] == 0
    assert all(request.header("accept-encoding") is None for request in Noting.arrived["checkout-v1"])


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_a_body_are_compared(compare, method, status):
    def respond(version, number):
        headers = [("cache-control", "public" if version == "checkout-v2" else "no-store")]
        return status, headers, b"" if status != 200 else b"1234"

    stage = compare(respond)
    ask(stage, range(1, 51), method)
    document = wait_for_report(stage, 50)
    assert differing(document) == {("header", "cache-control")}
    assert document["bodiesNotCompared"] == 0
