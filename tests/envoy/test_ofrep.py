"""Flags asked for over OFREP: what one resolves to, and all of them."""

import pytest
from arithmetic import fractional
from ofrep import (
    ALL,
    HALVES,
    IN_KOREA,
    Number,
    ask,
    assert_failed,
    by_key,
    configuration,
    flag,
    path_of,
    resolved,
    unharmed,
    written,
)
from stage import Stage

NUMBERS = "1 1.0 -0 -0.0 0.10 1e3 1E+3 12e-1 9007199254740993 0.1000000000000000055511151231".split()
KEYS = [
    "plain",
    "shop/checkout/fast-lane",
    "a b",
    "a+b",
    "100%",
    "%41",
    "물꼬",
    "é",
    "a?b",
    "a#b",
    'a"b',
    "a;b=c,d",
    "...",
]
SHAPE = {"title": '물꼬 "1"\n', "size": {"of": [Number("1.0"), {"x": Number("1e3")}, True, None, []]}, "none": {}}
# A step and more for each of the context's items times 400.
LOOPS = {"map": [{"var": "items"}, {"map": [list(range(400)), {"var": ""}]}]}

FLAGS = {
    "static": flag(defaultVariant="on"),
    "text": flag(variants={"hi": '안녕 "you" \\ \n', "empty": ""}, defaultVariant="hi"),
    "empty": flag(variants={"hi": "hi", "nothing": ""}, defaultVariant="nothing"),
    "object": flag(variants={"shape": SHAPE, "empty": {}}, defaultVariant="shape"),
    "korea": flag({"if": [IN_KOREA, "on", "off"]}),
    "korea-alone": flag({"if": [IN_KOREA, "on"]}),
    "by-boolean": flag(IN_KOREA, variants={"true": "yes", "false": "no"}, defaultVariant="false"),
    "nested": flag({"if": [{"==": [{"var": "app.versions.1"}, "2.0"]}, "on"]}),
    "halves": flag(HALVES),
    "halves-elsewhere": flag({"if": [IN_KOREA, "on", HALVES]}),
    "halves-by-mail": flag({"fractional": [{"var": "email"}, ["on", 50], ["off", 50]]}),
    "key-asked-for": flag({"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on"]}),
    "disabled": flag(IN_KOREA, state="DISABLED", defaultVariant="on"),
    "no-default": flag({"if": [IN_KOREA, "on"]}, defaultVariant=...),
    "null-default": flag({"if": [IN_KOREA, "on"]}, defaultVariant=None),
    "static-null-default": flag(defaultVariant=None),
    "unknown-ref": flag({"if": [{"$ref": "nobody"}, "on"]}),
    "unknown-ref-abroad": flag({"if": [IN_KOREA, "on", {"$ref": "nobody"}]}),
    "missing-variant": flag({"if": [IN_KOREA, "on", "blue"]}),
    "loops": flag({"if": [LOOPS, "on"]}),
    **{f"number {number}": flag(variants={"it": Number(number)}, defaultVariant="it") for number in NUMBERS},
    **{f"numbers/{key}": flag(variants={key: key}, defaultVariant=key) for key in KEYS},
}
FLAGS["static"]["metadata"] = {"owner": "cart", "weight": Number("1.0"), "beta": False}
METADATA = {"team": "shop", "owner": "all", "ratio": Number("0.10"), "version": Number("1e3"), "on": True}
POLICY = {"metadata": METADATA, "flags": FLAGS}

NOBODY = {}
ANN = {"targetingKey": "ann", "email": "ann@example.com"}
KOREAN = {"region": "kr"}


@pytest.fixture(scope="module")
def mesh():
    """A proxy of the mesh that has the flags above."""
    with Stage(plugin=configuration(POLICY)) as stage, unharmed(stage):
        yield stage


def halves(flag_key, targeting_key):
    """What a flag with the targeting `HALVES` resolves to."""
    variant = fractional(flag_key + targeting_key, [("on", 50), ("off", 50)])
    return variant == "on", variant, "TARGETING_MATCH"


RESOLVED = [
    ("static", NOBODY, True, "on", "STATIC"),
    ("text", NOBODY, '안녕 "you" \\ \n', "hi", "STATIC"),
    ("empty", NOBODY, "", "nothing", "STATIC"),
    ("object", NOBODY, SHAPE, "shape", "STATIC"),
    ("korea", KOREAN, True, "on", "TARGETING_MATCH"),
    ("korea", NOBODY, False, "off", "TARGETING_MATCH"),
    ("korea-alone", KOREAN, True, "on", "TARGETING_MATCH"),
    ("korea-alone", NOBODY, False, "off", "DEFAULT"),
    ("by-boolean", KOREAN, "yes", "true", "TARGETING_MATCH"),
    ("by-boolean", NOBODY, "no", "false", "TARGETING_MATCH"),
    ("nested", {"app": {"versions": ["1.0", "2.0"]}}, True, "on", "TARGETING_MATCH"),
    ("nested", {"app": 1}, False, "off", "DEFAULT"),
    ("halves", ANN, *halves("halves", "ann")),
    ("halves", {"targetingKey": "물꼬"}, *halves("halves", "물꼬")),
    ("halves-elsewhere", KOREAN, True, "on", "TARGETING_MATCH"),
    ("halves-elsewhere", ANN, *halves("halves-elsewhere", "ann")),
    ("halves-by-mail", {"email": "ann@example.com"}, *halves("", "ann@example.com")),
    ("key-asked-for", ANN, True, "on", "TARGETING_MATCH"),
    ("key-asked-for", NOBODY, False, "off", "DEFAULT"),
    ("disabled", KOREAN, ..., "", "DISABLED"),
    ("no-default", KOREAN, True, "on", "TARGETING_MATCH"),
    ("no-default", NOBODY, ..., "", "DEFAULT"),
    ("null-default", NOBODY, ..., "", "DEFAULT"),
    ("static-null-default", NOBODY, ..., "", "DEFAULT"),
    ("unknown-ref-abroad", KOREAN, True, "on", "TARGETING_MATCH"),
    ("missing-variant", KOREAN, True, "on", "TARGETING_MATCH"),
    ("loops", {"items": [0] * 10}, True, "on", "TARGETING_MATCH"),
    ("loops", NOBODY, False, "off", "DEFAULT"),
    *((f"number {number}", NOBODY, Number(number), "it", "STATIC") for number in NUMBERS),
    *((f"numbers/{key}", NOBODY, key, key, "STATIC") for key in KEYS),
]
FAILED = [
    ("unknown-ref", NOBODY, "PARSE_ERROR"),
    ("unknown-ref-abroad", NOBODY, "PARSE_ERROR"),
    ("missing-variant", NOBODY, "GENERAL"),
    ("loops", {"items": [0] * 1000}, "GENERAL"),
    ("halves", NOBODY, "TARGETING_KEY_MISSING"),
    ("halves-elsewhere", {"region": "us"}, "TARGETING_KEY_MISSING"),
]


def test_a_flag_resolves_as_flagd_has_it(mesh):
    wrong = []
    for key, context, *expected in RESOLVED:
        response = ask(mesh, key, context)
        answer = written(response)
        found = [answer.get(name, ...) for name in ("value", "variant", "reason")]
        if response.status != 200 or answer["key"] != key or found != expected or "errorCode" in answer:
            wrong.append(f"{key}, {context}: expected {expected}, found {response.status} {answer}")
    assert not wrong, "\n".join(wrong)


def test_a_flag_that_fails_says_why(mesh):
    for key, context, code in FAILED:
        assert_failed(ask(mesh, key, context), 400, code, key)
    for key in ("no-such-flag", "numbers/", "STATIC", "number", ""):
        assert_failed(ask(mesh, key, ANN), 404, "FLAG_NOT_FOUND", key)


def test_all_flags_are_answered_as_each_one_is(mesh):
    for context in NOBODY, ANN, KOREAN, {"items": [0] * 1000, "targetingKey": "bob"}:
        answers = by_key(ask(mesh, None, context))
        assert list(answers) == list(FLAGS)
        for key, answer in answers.items():
            assert answer == written(ask(mesh, key, context)), (key, context)


def test_numbers_are_told_as_the_document_writes_them(mesh):
    # Read from the bytes: a reader of JSON would hide the difference.
    for number in NUMBERS:
        assert f'"value":{number},'.encode() in ask(mesh, f"number {number}").body.replace(b" ", b"")
    body = ask(mesh, "object").body
    assert b"[1.0," in body.replace(b" ", b"") and b'"x":1e3' in body.replace(b" ", b"")


def test_metadata_is_told_with_the_flag_which_goes_before_the_document(mesh):
    own = {"owner": "cart", "weight": Number("1.0"), "beta": False}
    assert written(ask(mesh, "static"))["metadata"] == {**METADATA, **own}
    assert written(ask(mesh, "korea"))["metadata"] == METADATA
    assert written(ask(mesh))["metadata"] == METADATA


def test_without_metadata_none_is_told(set_stage):
    stage = set_stage(plugin=configuration({"flags": {"static": flag()}}))
    assert ask(stage, "static").json == {"key": "static", "value": False, "variant": "off", "reason": "STATIC"}
    assert ask(stage).json == {"flags": [ask(stage, "static").json]}


def test_a_slash_in_a_key_may_be_escaped(set_stage, mesh):
    # envoy.yaml has Envoy unescape the slash, and send the client there.
    with mesh.connect() as connection:
        redirect = connection.send("POST", f"{ALL}/shop%2Fx", body=b"{}")
    assert (redirect.status, redirect.header("location")) == (307, f"{ALL}/shop/x")

    def keep_slashes(bootstrap):
        bootstrap.connection_manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"

    keys = ["shop/x", "shop\\x", "/", "a//b", "a/../b", "물/꼬", "100%2F"]
    flags = {key: flag(variants={key: key}, defaultVariant=key) for key in keys}
    stage = set_stage(plugin=configuration({"flags": flags}), edit=keep_slashes)
    for key in keys:
        for escape in ("%{:02X}", "%{:02x}"):
            escaped = "".join(escape.format(byte) for byte in key.encode())
            if "/../" in key:
                # Envoy takes escaped dots for dots.
                escaped = escaped.replace("%2e", ".").replace("%2E", ".")
            with stage.connect() as connection:
                response = connection.send("POST", f"{ALL}/{escaped}")
            assert resolved(response) == (key, key, "STATIC"), escaped


def test_a_query_is_not_part_of_the_key(mesh):
    with mesh.connect() as connection:
        assert resolved(connection.send("POST", f"{ALL}/static?flagConfigEtag=1")) == (True, "on", "STATIC")
        assert by_key(connection.send("POST", f"{ALL}?flagConfigEtag=1&x=/y")).keys() == FLAGS.keys()


def test_before_there_is_a_policy_the_proxy_says_that_it_cannot_tell(set_stage):
    stage = set_stage(plugin={"ofrep": {"prefix": "/ofrep/v1"}, "trust": "mesh"})
    for key in None, "static":
        response = ask(stage, key, ANN)
        assert response.status == 500 and response.upstream is None
        assert written(response)["errorDetails"]


def test_answers_are_counted_by_their_status(set_stage):
    stage = set_stage(plugin=configuration(POLICY))
    etag = ask(stage).header("etag")
    for key, times, headers, body in [
        ("static", 3, [], b""),
        ("static", 2, [], b"x"),
        ("none", 4, [], b""),
        ("static", 5, [], b" " * 65_537),
        (None, 6, [("if-none-match", etag)], b""),
    ]:
        for _ in range(times):
            ask(stage, key, None, *headers, body=body)
    with stage.connect() as connection:
        connection.send("GET", path_of("static"))
    counted = {labels["outcome"]: value for name, labels, value in stage.metrics() if name == "ofrep_requests"}
    assert counted == {"200": 4, "400": 2, "404": 4, "413": 5, "304": 6, "405": 1}
    assert stage.metric("requests") == stage.metric("flag_evaluations") == 0, "no request was decided"
