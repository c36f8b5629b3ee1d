"""The decision cases of `tests/cases/*.json`, which the engine's own tests run natively and as wasm, through Envoy."""

import json
from pathlib import Path

import pytest
from explain import decisions, explain_pass
from passes import make_pass
from stage import PASS_KEY, Stage

FILES = sorted((Path(__file__).parent.parent / "cases").glob("*.json"))
DOCUMENTS = {file.stem: json.loads(file.read_text()) for file in FILES}
# What a real proxy cannot be told: another instant than now, and what only another host or configuration has.
ELSEWHERE = {"at", "properties", "rolledBack"}
NODE = {"id": "edge-1"}


def is_here(document):
    """Whether the file is about a proxy like the stage's, now."""
    return not ELSEWHERE & document.keys() and document.get("node", NODE) == NODE


HERE = {name: document for name, document in DOCUMENTS.items() if is_here(document)}


@pytest.fixture(scope="module")
def stage():
    """An Envoy with a listener for each file."""

    def edit(bootstrap):
        for name, document in HERE.items():
            plugin = {"name": name, "passKeys": [{"env": "MULKKO_PASS_KEY"}], **document.get("plugin", {})}
            # Inline and without a source: in force before the first request, on every worker.
            bootstrap.add_listener(name, {**plugin, "policy": document["policy"]})

    with Stage(edit=edit) as stage:
        yield stage


@pytest.mark.parametrize("name", HERE)
def test_cases(stage, name):
    document, wrong = HERE[name], []
    with stage.connection_per_worker(name) as connections:
        for i, case in enumerate(document["cases"]):
            wrong += differences(case, connections[i % len(connections)])
    assert not wrong, f"{len(wrong)} differences in {len(document['cases'])} cases:\n" + "\n".join(wrong)


def differences(case, connection):
    """Sends a case's request, and gives a line for each thing that came out differently."""
    request, expected = case["request"], case["expect"]
    passes = [sign(claims) for claims in case.get("passes", [])]
    headers = [*map(tuple, request["headers"]), pass_header(passes), ("x-echo", "1")]
    response = connection.send(request["method"], request["path"], headers)
    if response.upstream is None:
        return [f"{case['name']}: Envoy answered {response.status} itself: {response.body.decode()}"]
    found = [[rollout, *decision] for rollout, decision in decisions(response).items()]
    compared = [("decisions", expected["decisions"], found)]
    for name, value in expected.get("upstream", {}).items():
        compared.append((name, *arrived(name, value, response)))
    return [f"{case['name']}: {what}: expected {want}, found {got}" for what, want, got in compared if want != got]


def sign(claims):
    """A pass with these claims; `exp` may be one of them."""
    return make_pass(PASS_KEY, **{"seconds": 3600, **claims})


def pass_header(passes):
    """The passes, and after them one that asks why."""
    return "x-mulkko-pass", ", ".join([*passes, explain_pass()[1]])


def arrived(name, value, response):
    """What was expected of a header, and what has arrived upstream; repeated ones are joined by `,`.

    The stage's route takes `x-mulkko-cluster` off: there the upstream itself tells.
    """
    if name == "x-mulkko-cluster":
        return value or "checkout-v1", response.upstream
    values = response.echo.values(name)
    return value, ",".join(values) if values else None
