"""Flags that every request carries upstream, in the form of RFC 9651; and what rollouts and OFREP make of the same flags."""

import json
import subprocess

import pytest
from arithmetic import fractional
from client import get_all, send_all
from documents import user
from explain import decisions, explain_pass
from ofrep import (
    ALL,
    HALVES,
    IN_KOREA,
    Number,
    ask,
    configuration,
    flag,
    unharmed,
    variants,
)
from stage import TOP, Stage, load_policy

EXPORT = {"mulkko.export": True}

# What a value looks like in a dictionary of RFC 9651; a byte sequence is the value's JSON in base64.
FORMS = {
    "yes": (True, "yes"),
    "no": (False, "no=?0"),
    "integer": (Number("42"), "integer=42"),
    "negative": (Number("-7"), "negative=-7"),
    "largest": (Number("999999999999999"), "largest=999999999999999"),
    "too-large": (Number("1000000000000000"), "too-large=:MTAwMDAwMDAwMDAwMDAwMA==:"),
    "decimal": (Number("1.5"), "decimal=1.5"),
    "rounded": (Number("0.10"), "rounded=0.1"),
    "thousand": (Number("1e3"), "thousand=1000"),
    "whole": (Number("1.0"), "whole=1.0"),
    "finest": (Number("-0.125"), "finest=-0.125"),
    "too-fine": (Number("0.0001"), "too-fine=:MC4wMDAx:"),
    "too-long": (Number("1234567890123.5"), "too-long=:MTIzNDU2Nzg5MDEyMy41:"),
    "text": ("v2", 'text="v2"'),
    "nothing": ("", 'nothing=""'),
    "quoted": ('a "b" \\c', r'quoted="a \"b\" \\c"'),
    "korean": ("물꼬", 'korean=%"%eb%ac%bc%ea%bc%ac"'),
    "lines": ("a\n%", 'lines=%"a%0a%25"'),
    "object": ({"a": [Number("1.0"), None]}, "object=:eyJhIjpbMS4wLG51bGxdfQ==:"),
    "*star_1-.*": (True, "*star_1-.*"),
}
USERS = {"keys": {"user": {"from": [{"header": "x-user-id"}]}}, "flagKey": "user"}
REGIONS = {"attributes": {"region": [{"header": "x-region"}]}}


def exported(targeting=None, name=True, **members):
    """A flag that is exported, under a name of its own perhaps."""
    return flag(targeting, metadata={"mulkko.export": name}, **members)


def members(echo):
    """The members of `x-mulkko-flags` as it arrived upstream."""
    header = echo.header("x-mulkko-flags")
    return [] if header is None else header.split(", ")


def policy():
    """Flags of every form, some without a value, and rollouts that depend on flags."""
    forms = {
        key: exported(variants={"it": value, "other": value}, defaultVariant="it") for key, (value, _) in FORMS.items()
    }
    valueless = {
        "disabled": exported(state="DISABLED"),
        "no-default": exported(defaultVariant=None),
        "unknown-ref": exported({"$ref": "nobody"}),
        "missing-variant": exported({"if": [True, "blue"]}),
        "not-exported": flag(),
        "said-not-to-be-exported": exported(name=False),
    }
    targeted = {
        "New Cart!": exported({"if": [IN_KOREA, "on", "off"]}, name="new-cart"),
        "halves": exported(HALVES),
        "hidden": flag({"if": [IN_KOREA, "on", "off"]}),
        "weight": flag(
            variants={"none": 0, "some": 3}, targeting={"if": [IN_KOREA, "some", "none"]}, defaultVariant=None
        ),
    }
    rollout = load_policy("canary-by-hand")["rollouts"][0]
    rollout["strategy"]["canary"]["percent"] = 100
    rollout.pop("force", None)
    rollouts = [
        {**rollout, "name": "by-boolean", "when": {"flag": "hidden"}},
        {**rollout, "name": "by-export", "when": {"!": {"flag": "New Cart!"}}},
        {**rollout, "name": "by-number", "when": {">=": [{"flag": "weight"}, 3]}},
        {**rollout, "name": "by-nothing", "when": {"flag": "disabled"}},
    ]
    return {**USERS, **REGIONS, "rollouts": rollouts, "flags": {**forms, **valueless, **targeted}}


@pytest.fixture(scope="module")
def edge():
    """A proxy at the edge with the flags above, and with passes."""
    with Stage(plugin=configuration(policy(), "edge")) as stage, unharmed(stage):
        yield stage


def test_every_request_carries_the_exported_flags_that_have_a_value(edge):
    forms = [form for _, form in FORMS.values()]
    for path in "/", "/checkout", "/elsewhere?x=1", "/ofrep/v2":
        # Without a key `fractional` is null, as flagd has it: the default.
        assert members(edge.echo(path)) == [*forms, "new-cart=?0", "halves=?0"], path
    echo = edge.echo("/", user(1), ("x-region", "kr"))
    variant = fractional("halvesuser-1", [("on", 50), ("off", 50)])
    assert members(echo) == [*forms, "new-cart", "halves" if variant == "on" else "halves=?0"]
    with edge.connect() as connection:
        response = connection.send("POST", "/", [("x-echo", "1"), ("x-region", "kr")], b"body")
    assert members(response.echo) == [*forms, "new-cart", "halves=?0"]


def test_what_a_client_says_of_flags_does_not_arrive(edge, set_stage):
    expected = members(edge.echo("/"))
    for forged in [
        [("x-mulkko-flags", "new-cart")],
        [("x-mulkko-flags", "a=1"), ("X-Mulkko-Flags", "new-cart"), ("x-mulkko-flags", "")],
        [("x-mulkko-flags", b"\xff")],
    ]:
        assert members(edge.echo("/", *forged)) == expected
    # Nor where no flag is exported.
    stage = set_stage(plugin=configuration({"flags": {"static": flag()}}, "edge"))
    assert stage.echo("/", ("x-mulkko-flags", "new-cart")).values("x-mulkko-flags") == []


def test_where_no_flag_has_a_value_there_is_no_header(set_stage):
    flags = {
        "halves": exported(HALVES, defaultVariant=None),
        "disabled": exported(state="DISABLED"),
        "cart": exported({"if": [IN_KOREA, "on"]}, defaultVariant=None),
    }
    stage = set_stage(plugin=configuration({**REGIONS, "flags": flags}, "mesh"))
    assert stage.echo("/").values("x-mulkko-flags") == []
    assert stage.echo("/", ("x-mulkko-flags", "halves")).values("x-mulkko-flags") == []
    assert stage.echo("/", ("x-region", "kr")).values("x-mulkko-flags") == ["cart"]
    # A later hop tells its own flags, once.
    echo = stage.echo("/", ("x-region", "kr"), ("x-mulkko-flags", "cart=?0"), ("x-mulkko-flags", "other"))
    assert echo.values("x-mulkko-flags") == ["cart"]


def test_a_rollout_may_depend_on_a_flag(edge):
    for region, expected in [
        ("kr", {"by-boolean": "canary", "by-export": "stable", "by-number": "canary", "by-nothing": "stable"}),
        ("us", {"by-boolean": "stable", "by-export": "canary", "by-number": "stable", "by-nothing": "stable"}),
    ]:
        response = edge.get("/checkout", user(1), ("x-region", region), ("x-echo", "1"), explain_pass())
        found = decisions(response)
        assert {name: variant for name, (variant, _) in found.items()} == expected
        reasons = {"canary": "STATIC", "stable": "DEFAULT"}
        assert all(reason == reasons[variant] for variant, reason in found.values())
        assert response.echo.header("x-mulkko-by-boolean") == expected["by-boolean"]


def test_exported_flags_are_counted_and_others_are_not(set_stage):
    flags = {
        "cart": exported({"if": [IN_KOREA, "on"]}, name="other-name"),
        "disabled": exported(state="DISABLED"),
        "broken": exported({"if": [IN_KOREA, "blue", {"$ref": "nobody"}]}),
        "Bücher; a=.=b": exported(name="books", variants={'sch"ön': 1}, defaultVariant='sch"ön'),
        "hidden": flag(),
    }
    stage = set_stage(plugin=configuration({**REGIONS, "flags": flags}, "edge"))
    for _ in range(3):
        stage.get("/", ("x-region", "kr"))
    for _ in range(2):
        stage.get("/")
    for _ in range(4):
        ask(stage, None, {"region": "kr"})
    counted = {
        (labels["flag"], labels.get("variant"), labels["reason"]): value
        for name, labels, value in stage.metrics()
        if name == "flag_evaluations"
    }
    books = {key: value for key, value in counted.items() if key[0].startswith("B")}
    assert list(books.values()) == [5], "whatever a flag is called, it is counted, under a name that is one label"
    assert counted == {
        **books,
        ("cart", "on", "TARGETING_MATCH"): 3,
        ("cart", "off", "DEFAULT"): 2,
        ("disabled", None, "DISABLED"): 5,
        ("broken", None, "GENERAL"): 3,
        ("broken", None, "PARSE_ERROR"): 2,
    }


# One flag, asked for in every way

SHARES = [("red", 20), ("green", 30), ("blue", 50)]
COLOURS = {"red": "r", "green": "g", "blue": "b"}
USER_COUNT = 10_000
EVALUATE = TOP / "target/debug/examples/evaluate"


def natively(document, names):
    """The variants of all flags for each user, by the engine as it is compiled for this machine."""
    cases = [
        {"id": [name, key], "document": document, "flag": key, "context": {"targetingKey": name}}
        for name in names
        for key in document["flags"]
    ]
    lines = "\n".join(map(json.dumps, cases))
    done = subprocess.run([EVALUATE], input=lines, capture_output=True, text=True, check=True, timeout=300)
    found = {name: {} for name in names}
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        name, key = answer["id"]
        found[name][key] = answer["variant"]
    return found


@pytest.mark.parametrize("trust", ["edge", "mesh"])
def test_ten_thousand_users_get_one_variant_however_it_is_asked_for(set_stage, trust):
    shares = {"fractional": [list(share) for share in SHARES]}
    metadata = {**EXPORT, "mulkko.public": True}
    members_of = {"variants": COLOURS, "defaultVariant": "red", "metadata": metadata}
    flags = {
        "halves": flag(HALVES, metadata=metadata),
        "colour": flag(shares, **members_of),
        "mail": flag({"fractional": [{"cat": [{"var": "targetingKey"}, "@x"]}, *shares["fractional"]]}, **members_of),
    }
    stage = set_stage(plugin=configuration({**USERS, "flags": flags}, trust))
    names = [f"user-{number}" if number % 10 else f"손님-{number}" for number in range(USER_COUNT)]
    expected = {
        name: {
            "halves": fractional(f"halves{name}", [("on", 50), ("off", 50)]),
            "colour": fractional(f"colour{name}", SHARES),
            "mail": fractional(f"{name}@x", SHARES),
        }
        for name in names
    }

    upstream = get_all(stage.port, [("/", [("x-user-id", name), ("x-echo", "1")]) for name in names])
    for name, response in zip(names, upstream, strict=True):
        variant = expected[name]
        halves = "halves" if variant["halves"] == "on" else "halves=?0"
        texts = [f'{key}="{COLOURS[variant[key]]}"' for key in ("colour", "mail")]
        assert members(response.echo) == [halves, *texts], name

    # At the edge the request says the key, in the mesh the body; and the other says another.
    def request(name):
        known, said = (name, "other") if trust == "edge" else ("other", name)
        return "POST", ALL, [("x-user-id", known)], json.dumps({"context": {"targetingKey": said}}).encode()

    for name, response in zip(names, send_all(stage.port, map(request, names)), strict=True):
        assert variants(response) == expected[name], name
    assert natively({"flags": flags}, names) == expected
    shared = [sum(variant["colour"] == colour for variant in expected.values()) / USER_COUNT for colour, _ in SHARES]
    assert [round(share, 1) for share in shared] == [0.2, 0.3, 0.5]
