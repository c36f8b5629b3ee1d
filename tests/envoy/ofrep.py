"""Asks for flags as clients of OFREP do, and puts together the flags that they ask for."""

import contextlib
import json
import re
from dataclasses import dataclass
from urllib.parse import quote

PREFIX = "/ofrep/v1"
ALL = f"{PREFIX}/evaluate/flags"
ORIGIN = "https://shop.example.com"
PUBLIC = {"mulkko.public": True}

IN_KOREA = {"==": [{"var": "region"}, "kr"]}
HALVES = {"fractional": [["on", 50], ["off", 50]]}


@dataclass(frozen=True)
class Number:
    """A number as it is written: `configuration` writes it so, `written` reads it so."""

    text: str


def flag(targeting=None, **members):
    """A flag's definition: a boolean, off by default. `...` leaves a member out."""
    members = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": targeting,
        **members,
    }
    if targeting is None:
        del members["targeting"]
    return {name: value for name, value in members.items() if value is not ...}


def configuration(policy, trust="mesh", **ofrep):
    """A plugin configuration with the policy inline: in force before the first request, on every worker."""
    passes = [{"env": "MULKKO_PASS_KEY"}]
    plugin = {
        "name": "shop",
        "trust": trust,
        "passKeys": passes,
        "ofrep": {"prefix": PREFIX, **ofrep},
        "policy": policy,
    }
    text = json.dumps(plugin, default=lambda number: f"number:{number.text}")
    return re.sub(r'"number:([^"]+)"', r"\1", text)


def path_of(key):
    """Where a flag is asked for, or all of them (None)."""
    return ALL if key is None else f"{ALL}/{quote(key, safe='/+')}"


def body_of(context):
    """The body that says a context; nothing for None."""
    return b"" if context is None else json.dumps({"context": context}).encode()


def ask(stage, key=None, context=None, *headers, body=None):
    """Asks for a flag, or for all of them, on a connection of its own; `body` stands in place of that of a context."""
    with stage.connect() as connection:
        return connection.send("POST", path_of(key), headers, body_of(context) if body is None else body)


def written(response):
    """An answer whose numbers are as they are written."""
    assert response.header("content-type") == "application/json", response
    return json.loads(response.body, parse_int=Number, parse_float=Number)


def resolved(response):
    """Value, variant and reason of a flag that was asked for; the value is `...` where there is none."""
    assert response.status == 200, response
    answer = written(response)
    return answer.get("value", ...), answer["variant"], answer["reason"]


def by_key(response):
    """The flags of an answer for all, by their keys."""
    assert response.status == 200, response
    flags = written(response)["flags"]
    answers = {item["key"]: item for item in flags}
    assert len(answers) == len(flags), "no flag stands twice"
    return answers


def variants(response):
    """The variants of an answer for all, by the flags' keys; None for a flag that failed."""
    return {key: item.get("variant") for key, item in by_key(response).items()}


def assert_failed(response, status, code, key=None):
    """The answer is an error of this kind, about the flag `key` or about none, and says more."""
    assert response.status == status, response
    answer = written(response)
    assert answer.get("errorCode") == code and answer.get("key") == key, answer
    assert answer["errorDetails"] and isinstance(answer["errorDetails"], str), answer
    assert not answer.keys() & {"value", "variant", "reason"}, answer


def upstream_requests(stage):
    """How many requests have gone upstream."""
    return sum(stage.stats(r"^cluster\.checkout-v\d\.upstream_rq_total$").values())


@contextlib.contextmanager
def unharmed(stage):
    """Whatever the block does to Envoy, it goes on well: no plugin is made anew, no host call fails."""
    vms = stage.stats("wasm.envoy.wasm.runtime.v8.created")
    yield stage
    assert stage.stats("wasm.envoy.wasm.runtime.v8.created") == vms, "no VM had to be made anew"
    assert stage.metric("hostcall_failures") == 0
    for word in ("panicked", "Function: proxy_", "wasm trap", "unreachable"):
        assert word not in stage.log()
