"""Bodies that ask for flags: no context, contexts, what is none, and what means harm."""

import pytest
from ofrep import HALVES, IN_KOREA, ask, assert_failed, body_of, configuration, flag, resolved, unharmed, written
from stage import Stage

ANN = {"targetingKey": "ann"}
KOREAN = {"region": "kr"}

FLAGS = {
    "static": flag(defaultVariant="on"),
    "korea": flag({"if": [IN_KOREA, "on", "off"]}),
    "halves": flag(HALVES),
    "key": flag({"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on", "off"]}),
    "items": flag({"if": [{"map": [{"var": "items"}, {"var": ""}]}, "on", "off"]}),
    "members": flag(
        {"if": [{"var": "m1.a.a.a"}, "on", {"var": "__proto__.region"}, "on", {"var": "a.b"}, "on", "off"]}
    ),
}


@pytest.fixture(scope="module")
def mesh():
    """A proxy of the mesh that has the flags above."""
    with Stage(plugin=configuration({"flags": FLAGS})) as stage, unharmed(stage):
        yield stage


EMPTY = [b"", b"{}", b'{"context":{}}', b'\r\n {\t"context" :\n{ } } ', b'{"other":[1],"context":{}}']
NOT_A_CONTEXT = [
    *(b"x", b"{", b"}", b"[]", b"1", b'"context"', b"true", b"null", b'[{"context":{}}]', b"{}{}", b"{} x"),
    *(b'{"context":[]}', b'{"context":[["region","kr"]]}', b'{"context":"x"}', b'{"context":1}', b'{"context":false}'),
    *(b'{"context":{}', b'{"context":{},}', b"{'context':{}}", b'{"context":{"a":01}}', b'{"context":{"a":NaN}}'),
    *(b"\x00", b'{"context":{"a":"\x00"}}', b'{"context":{"a":"\n"}}', b'{"context":{"a":"\xff"}}', b"{}\x00"),
    '{"context":{}}'.encode("utf-16"),
]  # fmt: skip


def test_no_context_is_an_empty_one(mesh):
    expected = ask(mesh, body=EMPTY[0]).body
    for body in EMPTY:
        assert resolved(ask(mesh, "static", body=body)) == (True, "on", "STATIC"), body
        assert ask(mesh, body=body).body == expected, body


def test_what_is_no_context_is_refused(mesh):
    for body in NOT_A_CONTEXT:
        assert_failed(ask(mesh, "static", body=body), 400, "INVALID_CONTEXT", "static")
        assert_failed(ask(mesh, body=body), 400, "INVALID_CONTEXT")


def test_of_members_that_stand_twice_the_last_counts(mesh):
    # As with most readers of JSON; what matters is that all of an evaluation sees the same one.
    for body, region, key in [
        (b'{"context":{"region":"us","targetingKey":"bob","region":"kr","targetingKey":"ann"}}', "kr", "ann"),
        (b'{"context":{"region":"kr","targetingKey":"ann","region":"us","targetingKey":"bob"}}', "us", "bob"),
        (b'{"context":{"region":"us","targetingKey":"bob"},"context":{"region":"kr","targetingKey":"ann"}}', "kr", "ann"),
        (b'{"context":[],"context":{"region":"kr","targeting\\u004bey":"ann"}}', "kr", "ann"),
    ]:  # fmt: skip
        expected = {"region": region, "targetingKey": key}
        assert ask(mesh, body=body).body == ask(mesh, None, expected).body, body


HARMFUL = {
    "10,000 arrays": b'{"context":{"items":' + b"[" * 10_000 + b"]" * 10_000 + b"}}",
    "10,000 objects": b'{"context":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
    "10,000 arrays that never end": b'{"context":{"items":' + b"[" * 60_000,
    "10,000 arrays beside the context": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b',"context":{}}',
    "a lone surrogate": rb'{"context":{"region":"\ud800","targetingKey":"\udc00"}}',
    "a surrogate in a name": rb'{"context":{"\ud800x":1}}',
    "an escaped NUL": rb'{"context":{"region":"\u0000","targetingKey":"\u0000"}}',
    "a number too large": b'{"context":{"items":1e999,"region":-1e999,"targetingKey":1e-999}}',
    "a number of 60,000 digits": b'{"context":{"items":' + b"9" * 60_000 + b"}}",
    "a key that is no text": b'{"context":{"targetingKey":{"a":[1]}}}',
    "a key that is a number": b'{"context":{"targetingKey":1.50}}',
    "a key of 60,000 bytes": b'{"context":{"targetingKey":"' + b"k" * 60_000 + b'"}}',
    "6,000 times the same member": b'{"context":{' + b'"region":1,' * 5_900 + b'"region":"kr"}}',
    "many members": b'{"context":{' + b",".join(b'"m%d":0' % i for i in range(6_000)) + b"}}",
    "a byte order mark": b"\xef\xbb\xbf" + b'{"context":{}}',
    "names of the language": b'{"context":{"__proto__":{"region":"kr"},"constructor":1,"":1,".":1,"a.b":1}}',
}


@pytest.mark.parametrize("what", HARMFUL)
def test_bodies_that_mean_harm_are_answered_or_refused(mesh, what):
    assert len(HARMFUL[what]) <= 65_536
    for key in (None, *FLAGS):
        response = ask(mesh, key, body=HARMFUL[what])
        assert response.status in (200, 400), response
        assert written(response)
    assert resolved(ask(mesh, "korea", KOREAN)) == (True, "on", "TARGETING_MATCH")


def test_a_body_may_be_so_large_and_no_larger(mesh):
    for key in ("korea", None, "no-such-flag"):
        body = body_of(KOREAN)
        allowed = ask(mesh, key, body=body + b" " * (65_536 - len(body)))
        assert allowed.body == ask(mesh, key, KOREAN).body
        refused = ask(mesh, key, body=body + b" " * (65_537 - len(body)))
        assert refused.status == 413
        assert written(refused)["errorDetails"]
