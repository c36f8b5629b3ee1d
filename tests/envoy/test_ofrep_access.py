"""Who may ask for flags: the bearer token, and the origins whose scripts may."""

import re

import pytest
from ofrep import (
    ALL,
    HALVES,
    ORIGIN,
    PUBLIC,
    ask,
    assert_failed,
    by_key,
    configuration,
    flag,
    path_of,
    resolved,
    unharmed,
    upstream_requests,
)
from stage import Stage

TOKEN_VARIABLE = "MULKKO_TEST_TOKEN"
TOKEN = "correct-horse"
BEARER = ("authorization", f"Bearer {TOKEN}")
OTHER_ORIGINS = [
    *("https://evil.example.com", "http://shop.example.com", "https://shop.example.com:8443", "shop.example.com"),
    *("https://shop.example.com.evil.example.com", "https://evil-shop.example.com", "https://shop.example.com/"),
    *("null", "*", "", f"{ORIGIN}, {ORIGIN}"),
]  # fmt: skip

FLAGS = {
    "open": flag(metadata=PUBLIC),
    "open-halves": flag(HALVES, metadata=PUBLIC),
    "closed": flag(),
    "said-to-be-closed": flag(metadata={"mulkko.public": False}),
}


def told_token(bootstrap):
    """Lets the plugin read the token's variable."""
    bootstrap.wasm["vm_config"]["environment_variables"]["host_env_keys"].append(TOKEN_VARIABLE)


@pytest.fixture(scope="module")
def environment():
    """Sets environment variables until the module's tests have run."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def edge():
    """A proxy at the edge that asks for no token."""
    with Stage(plugin=configuration({"flags": FLAGS}, "edge")) as stage, unharmed(stage):
        yield stage


@pytest.fixture(scope="module")
def guarded(environment):
    """A proxy at the edge that asks for a token, and lets scripts of `ORIGIN` ask."""
    environment.setenv(TOKEN_VARIABLE, TOKEN)
    ofrep = {"bearer": {"env": TOKEN_VARIABLE}, "allowOrigins": ["https://app.example.com", ORIGIN], "maxBodyBytes": 99}
    plugin = configuration({"flags": FLAGS}, "edge", **ofrep)
    with Stage(plugin=plugin, edit=told_token) as stage, unharmed(stage):
        yield stage
        assert upstream_requests(stage) == 0


# The token


def test_without_a_token_at_the_edge_only_public_flags_are_there(edge):
    assert list(by_key(ask(edge))) == ["open", "open-halves"]
    assert resolved(ask(edge, "open")) == (False, "off", "STATIC")
    for key in "closed", "said-to-be-closed", "no-such-flag":
        assert_failed(ask(edge, key), 404, "FLAG_NOT_FOUND", key)
    # Nothing tells a flag that is not public from one that does not exist.
    hidden, absent = (ask(edge, key).body.replace(key.encode(), b"KEY") for key in ("closed", "nobody"))
    assert hidden == absent
    # A token that nobody asked for opens nothing.
    assert list(by_key(ask(edge, None, None, BEARER))) == ["open", "open-halves"]


def assert_unauthorized(response):
    """The answer to who has no token: without a body."""
    assert (response.status, response.body) == (401, b""), response
    assert response.header("content-type") is None
    assert response.header("www-authenticate").startswith("Bearer")


WRONG_TOKENS = [
    *([], [("authorization", "")], [("authorization", "Bearer")], [("authorization", "Bearer ")]),
    *([("authorization", TOKEN)], [("authorization", f"Basic {TOKEN}")], [("authorization", f"Bearer{TOKEN}")]),
    *([("authorization", f"Bearer {TOKEN}x")], [("authorization", f"Bearer {TOKEN[:-1]}")]),
    *([("authorization", f"Bearer {TOKEN.upper()}")], [("authorization", f"Bearer x{TOKEN}")]),
    *([("authorization", f"Bearer {TOKEN}, {TOKEN}")], [("authorization", b"Bearer \xff\xfe")]),
    *([("x-api-key", TOKEN)], [("cookie", f"authorization=Bearer {TOKEN}")], [("x-authorization", f"Bearer {TOKEN}")]),
]  # fmt: skip


def test_who_has_no_token_is_told_nothing(guarded):
    for headers in WRONG_TOKENS:
        for key in None, "open", "closed", "no-such-flag":
            assert_unauthorized(ask(guarded, key, {}, *headers))
            assert_unauthorized(ask(guarded, key, None, *headers, body=b"x"))
    with guarded.connect() as connection:
        for method, path in [
            ("POST", "/ofrep/v1/other"),
            ("POST", "/ofrep/v1"),
            ("GET", ALL),
            ("PUT", path_of("open")),
        ]:
            assert_unauthorized(connection.send(method, f"{path}?access_token={TOKEN}"))


def test_who_has_no_token_need_not_send_a_body(guarded):
    with guarded.connect() as connection:
        connection.write("POST", ALL, [("content-length", "10")])
        assert_unauthorized(connection.read())


def test_who_has_the_token_sees_all_flags_at_the_edge_too(guarded):
    for scheme in "Bearer", "bearer", "BEARER", "bEaReR":
        assert list(by_key(ask(guarded, None, None, ("authorization", f"{scheme} {TOKEN}")))) == list(FLAGS)
    assert resolved(ask(guarded, "closed", None, BEARER)) == (False, "off", "STATIC")
    assert_failed(ask(guarded, "no-such-flag", None, BEARER), 404, "FLAG_NOT_FOUND", "no-such-flag")


@pytest.mark.parametrize("value", [None, ""], ids=["absent", "empty"])
def test_while_the_token_is_missing_nobody_is_told_anything(set_stage, monkeypatch, value):
    if value is not None:
        monkeypatch.setenv(TOKEN_VARIABLE, value)
    else:
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    plugin = configuration({"flags": FLAGS}, "mesh", bearer={"env": TOKEN_VARIABLE}, allowOrigins=[ORIGIN])
    stage = set_stage(plugin=plugin, edit=told_token)
    for headers in [*WRONG_TOKENS, [BEARER]]:
        for key in None, "open":
            assert_unauthorized(ask(stage, key, None, *headers))
    assert preflight(stage, ORIGIN).header("access-control-allow-origin") == ORIGIN
    assert stage.metric("ofrep_requests", outcome="401") == 2 * len(WRONG_TOKENS) + 2


# Scripts in browsers


def preflight(stage, origin, path=ALL, asked="authorization,content-type,if-none-match"):
    """The answer to the question that a browser asks before it lets a script ask for flags."""
    headers = [("origin", origin), ("access-control-request-method", "POST")]
    with stage.connect() as connection:
        return connection.send("OPTIONS", path, [*headers, ("access-control-request-headers", asked)])


def assert_open_to(origin, response):
    """A script of the origin may read the answer, its ETag too, and send cookies."""
    assert response.header("access-control-allow-origin") == origin, response
    assert response.header("access-control-allow-credentials") == "true"
    assert "origin" in response.header("vary").lower()


def assert_closed(response):
    """No script of another origin may read the answer, and no cache may mix it up."""
    assert not [name for name, _ in response.headers if name.startswith("access-control-")], response
    assert "origin" in response.header("vary").lower()


def words(value):
    """The words of a header that is a list, in lower case."""
    return set(re.split(r"\s*,\s*", value.lower()))


def test_a_preflight_opens_the_door_to_allowed_origins_without_a_token(guarded):
    for origin in ORIGIN, "https://app.example.com":
        for path in ALL, path_of("closed"), path_of("no/such flag"):
            response = preflight(guarded, origin, path)
            assert response.status in (200, 204) and response.body == b""
            assert_open_to(origin, response)
            assert "post" in words(response.header("access-control-allow-methods"))
            allowed = words(response.header("access-control-allow-headers"))
            assert allowed >= {"authorization", "content-type", "if-none-match"}, "with credentials * would not do"
    for origin in OTHER_ORIGINS:
        assert_closed(preflight(guarded, origin))


def test_a_preflight_hands_back_nothing_but_names_of_headers(guarded):
    for asked in 'x"y', "a b", "a,\tb c", "(x)", "é", "x" * 4096 + "\x80":
        response = preflight(guarded, ORIGIN, asked=asked.encode("latin-1"))
        assert_open_to(ORIGIN, response)
        for name in words(response.header("access-control-allow-headers") or "x"):
            assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+", name), name


def test_scripts_of_allowed_origins_read_every_answer_and_others_none(guarded):
    etag = ask(guarded, None, None, BEARER).header("etag")
    asked = {
        200: ("POST", ALL, [BEARER], b"{}"),
        304: ("POST", ALL, [BEARER, ("if-none-match", etag)], b""),
        400: ("POST", path_of("open-halves"), [BEARER], b"{}"),
        401: ("POST", ALL, [], b"{}"),
        404: ("POST", path_of("no-such-flag"), [BEARER], b"{}"),
        405: ("PUT", ALL, [BEARER], b"{}"),
        413: ("POST", ALL, [BEARER], b" " * 100),
    }
    for status, (method, path, headers, body) in asked.items():
        for origin in [ORIGIN, None, *OTHER_ORIGINS]:
            with guarded.connect() as connection:
                origins = [] if origin is None else [("origin", origin)]
                response = connection.send(method, path, [*headers, *origins], body)
            assert response.status == status, (status, response)
            if origin == ORIGIN:
                assert_open_to(ORIGIN, response)
                assert "etag" in words(response.header("access-control-expose-headers"))
            else:
                assert_closed(response)


def test_where_no_origin_is_allowed_scripts_read_nothing(edge):
    for response in preflight(edge, ORIGIN), ask(edge, "open", None, ("origin", ORIGIN)):
        assert not [name for name, _ in response.headers if name.startswith("access-control-")], response
