"""Whose word counts when flags are asked for: the request's, the body's, or that of an id which the proxy draws."""

import json
import re

import pytest
from arithmetic import fractional
from ofrep import (
    ALL,
    HALVES,
    PUBLIC,
    ask,
    assert_failed,
    configuration,
    flag,
    resolved,
    unharmed,
    variants,
    written,
)
from stage import Stage

NAMES = ("ann", "bob", "nobody")
WHERE = {"kr": "kr", "us": "us", "nowhere": "nowhere"}
SEEN = {
    "request.method": "POST",
    "request.host": "shop.example.com",
    "request.path": ALL,
    "request.headers.x-real": "real",
    "request.headers.x-absent": None,
    "request.query.q": "real",
    "request.cookies.c": "real",
    "client.ip": "127.0.0.1",
    "node.id": "edge-1",
    "node.region": None,
    "$flagd.flagKey": "$flagd.flagKey",
    "request.other": None,
    "client.other": None,
    "node.other": None,
}
# Everything that a body could say in their place.
MEMBERS = ["method", "host", "path", "ip", "id", "region", "other", "flagKey", "timestamp"]
FORGED = {name: "forged" for name in MEMBERS} | {
    "headers": {"x-real": "forged", "x-absent": "forged"},
    "query": {"q": "forged"},
    "cookies": {"c": "forged"},
}
LIES = {name: FORGED for name in ("request", "client", "node", "$flagd")} | {name: "forged" for name in SEEN}


def told(name, truth):
    """A flag that tells whether `var` gives the truth, a lie, or something else."""
    variants = {"truth": "truth", "lie": "lie", "neither": "neither"}
    targeting = {"if": [{"===": [{"var": name}, truth]}, "truth", {"==": [{"var": name}, "forged"]}, "lie", "neither"]}
    return flag(targeting, variants=variants, defaultVariant="neither", metadata=PUBLIC)


POLICY = {
    "keys": {"user": {"from": [{"header": "x-user-id"}]}},
    "flagKey": "user",
    "attributes": {"region": [{"header": "x-region"}]},
    "flags": {
        "region": flag({"var": ["region", "nowhere"]}, variants=WHERE, defaultVariant="nowhere", metadata=PUBLIC),
        "plan": flag({"if": [{"==": [{"var": "plan"}, "gold"]}, "on", "off"]}, metadata=PUBLIC),
        "who": flag(
            {"var": ["targetingKey", "nobody"]},
            variants={name: name for name in NAMES},
            defaultVariant="nobody",
            metadata=PUBLIC,
        ),
        "halves": flag(HALVES, metadata=PUBLIC),
        "closed": flag(),
        "clock": flag({"if": [{">": [{"var": "$flagd.timestamp"}, 1_700_000_000]}, "on", "off"]}, metadata=PUBLIC),
        **{name: told(name, truth) for name, truth in SEEN.items()},
        **{name: told(name, None) for name in ("request", "client", "node")},
    },
}


@pytest.fixture(scope="module")
def outside():
    """A proxy at the edge that knows users and regions."""
    with Stage(plugin=configuration(POLICY, "edge")) as stage, unharmed(stage):
        yield stage


@pytest.fixture(scope="module")
def mesh():
    """A proxy of the mesh that knows users and regions."""
    with Stage(plugin=configuration(POLICY, "mesh")) as stage, unharmed(stage):
        yield stage


def test_at_the_edge_the_request_is_believed_first_and_in_the_mesh_the_body(outside, mesh):
    for request, body, at_the_edge, in_the_mesh in [
        ("kr", "us", "kr", "us"),
        ("kr", None, "kr", "kr"),
        (None, "us", "us", "us"),
        (None, None, "nowhere", "nowhere"),
        ("", "us", "us", "us"),
    ]:
        headers = [] if request is None else [("x-region", request)]
        context = {} if body is None else {"region": body}
        for stage, expected in (outside, at_the_edge), (mesh, in_the_mesh):
            assert variants(ask(stage, None, context, *headers))["region"] == expected, (request, body)
            assert resolved(ask(stage, "region", context, *headers))[1] == expected, (request, body)


def test_the_targeting_key_is_believed_likewise_where_it_is_read_and_where_it_is_hashed(outside, mesh):
    for request, body, at_the_edge, in_the_mesh in [
        ("ann", "bob", "ann", "bob"),
        ("bob", "ann", "bob", "ann"),
        ("ann", None, "ann", "ann"),
        (None, "bob", "bob", "bob"),
        ("", "bob", "bob", "bob"),
        (None, None, "nobody", "nobody"),
    ]:
        headers = [] if request is None else [("x-user-id", request)]
        context = {} if body is None else {"targetingKey": body}
        for stage, name in (outside, at_the_edge), (mesh, in_the_mesh):
            answer = variants(ask(stage, None, context, *headers))
            assert answer["who"] == name, (request, body)
            expected = None if name == "nobody" else fractional(f"halves{name}", [("on", 50), ("off", 50)])
            assert answer["halves"] == expected, (request, body)


def test_at_the_edge_a_value_that_is_no_text_is_the_requests_all_the_same(outside):
    # In conditions it is null; as a key its bytes are hashed; and the body has no say in either.
    headers = [("x-user-id", b"\xff"), ("x-region", b"\xff")]
    answer = variants(ask(outside, None, {"targetingKey": "ann", "region": "us"}, *headers))
    assert answer["halves"] == fractional(b"halves\xff", [("on", 50), ("off", 50)])
    assert (answer["who"], answer["region"]) == ("nobody", "nowhere")


def test_many_users_are_hashed_by_the_key_that_is_believed(outside, mesh):
    for number in range(40):
        headers, context = ("x-user-id", f"user-{number}"), {"targetingKey": f"other-{number}"}
        for stage, key in (outside, f"user-{number}"), (mesh, f"other-{number}"):
            expected = fractional(f"halves{key}", [("on", 50), ("off", 50)])
            assert resolved(ask(stage, "halves", context, headers)) == (expected == "on", expected, "TARGETING_MATCH")


def test_what_only_the_body_knows_counts_everywhere(outside, mesh):
    for stage in outside, mesh:
        assert resolved(ask(stage, "plan", {"plan": "gold"}))[1] == "on"
        assert resolved(ask(stage, "plan", {}))[1] == "off"


def test_in_the_mesh_all_flags_are_there(mesh):
    for key in "region", "closed":
        assert ask(mesh, key).status == 200


def test_no_body_says_what_the_request_is(outside, mesh):
    real = [("x-real", "real"), ("cookie", "c=real")]
    for stage in outside, mesh:
        for context in {}, LIES, {name: LIES for name in ("request", "client", "node", "$flagd", "context", "")}:
            with stage.connect() as connection:
                body = json.dumps({"context": context, **LIES}).encode()
                answer = variants(connection.send("POST", f"{ALL}?q=real", real, body))
            found = {name: variant for name, variant in answer.items() if name in (*SEEN, "request", "client", "node")}
            assert found == dict.fromkeys(found, "truth") and len(found) == len(SEEN) + 3, (stage, context)
            assert answer["clock"] == "on"


def test_escapes_hide_no_lie(outside, mesh):
    for stage in outside, mesh:
        lies = rb'"\u0072equest":{"method":"forged"},"\u0024flagd":{"flagKey":"forged"},"request":{"method":"forged"}'
        answer = variants(ask(stage, body=b'{"context":{' + lies + b"}}"))
        assert answer["request.method"] == answer["$flagd.flagKey"] == "truth"


# Ids that are drawn

HALF = [("on", 50), ("off", 50)]
MINTING = {
    "keys": {"device": {"from": [{"cookie": "mulkko_id"}], "mint": {"cookie": "mulkko_id", "maxAge": "365d"}}},
    "flagKey": "device",
    "flags": {
        "one": flag(HALVES, metadata={**PUBLIC, "mulkko.export": True}),
        "two": flag(HALVES, metadata={**PUBLIC, "mulkko.export": True}),
        "key": flag({"if": [{"var": "targetingKey"}, "on", "off"]}, metadata=PUBLIC),
        "static": flag(metadata=PUBLIC),
    },
}


@pytest.fixture(scope="module")
def minting():
    """A proxy at the edge that draws ids."""
    with Stage(plugin=configuration(MINTING, "edge")) as stage, unharmed(stage):
        yield stage


def drawn(response):
    """The id that an answer has the client keep, if any."""
    cookies = [value for name, value in response.headers if name == "set-cookie"]
    assert len(cookies) < 2, cookies
    if not cookies:
        return None
    assert "max-age=31536000" in cookies[0].lower()
    return re.match(r"mulkko_id=([^;]+)", cookies[0])[1]


def test_an_id_that_is_drawn_for_an_answer_counts_for_the_next_requests(minting):
    seen = set()
    for number in range(40):
        key = (None, "one", "two")[number % 3]
        first = ask(minting, key, {} if number % 2 else None)
        identity = drawn(first)
        expected = {name: fractional(name + identity, HALF) for name in ("one", "two")}
        answer = variants(first) if key is None else {key: written(first)["variant"]}
        assert expected.items() >= {name: answer[name] for name in answer if name in expected}.items()
        cookie = ("cookie", f"a=b; mulkko_id={identity}")
        again = ask(minting, None, None, cookie)
        assert drawn(again) is None
        assert variants(again) == {**expected, "key": "on", "static": "off"}
        members = [name if variant == "on" else f"{name}=?0" for name, variant in expected.items()]
        assert minting.echo("/", cookie).header("x-mulkko-flags") == ", ".join(members)
        seen |= set(expected.values())
    assert seen == {"on", "off"}


def test_an_id_is_drawn_only_where_one_is_needed(minting):
    for key in "static", "key", "no-such-flag":
        assert drawn(ask(minting, key, {})) is None, "var draws nothing"
    assert resolved(ask(minting, "key", {}))[1] == "off"
    # Who says a key needs no other.
    answer = ask(minting, None, {"targetingKey": "ann"})
    assert drawn(answer) is None
    assert variants(answer)["one"] == fractional("oneann", HALF)
    # The id that the request has goes before the body's.
    answer = ask(minting, None, {"targetingKey": "ann"}, ("cookie", "mulkko_id=bob"))
    assert drawn(answer) is None
    assert variants(answer)["one"] == fractional("onebob", HALF)


def test_in_the_mesh_no_id_is_drawn(set_stage):
    stage = set_stage(plugin=configuration(MINTING, "mesh"))
    answer = ask(stage, "one", {})
    assert_failed(answer, 400, "TARGETING_KEY_MISSING", "one")
    assert drawn(answer) is None
    assert variants(ask(stage)) == {"one": None, "two": None, "key": "off", "static": "off"}
