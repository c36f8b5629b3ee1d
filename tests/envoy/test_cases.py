"""The decision cases of `tests/cases/*.json`, which the engine's own tests run natively and as wasm, through Envoy."""

import json
from pathlib import Path

import pytest
from documents import source
from explain import decisions, explain_pass

CASES = sorted((Path(__file__).parent.parent / "cases").glob("*.json"))


@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_cases(set_stage, file):
    document = json.loads(file.read_text())
    if "at" in document:
        pytest.skip("it is about another instant than now")
    policy = {**document["policy"], "revision": document["policy"].get("revision", 0) + 1}
    stage = set_stage(policy=policy, plugin={"source": source(), "clusters": ["*"], **document.get("plugin", {})})
    stage.wait_for_metric("policy_revision", policy["revision"])
    wrong = []
    with stage.connection_per_worker() as connections:
        for i, case in enumerate(document["cases"]):
            found = run(connections[i % len(connections)], case["request"])
            expected = case["expect"]
            if found["decisions"] != expected["decisions"]:
                wrong.append((case["name"], "decisions", expected["decisions"], found["decisions"]))
            for name, value in expected.get("upstream", {}).items():
                if found["upstream"].get(name) != value:
                    wrong.append((case["name"], name, value, found["upstream"].get(name)))
    assert not wrong, "\n".join(
        f"{name}: {what}: expected {expected}, found {found}" for name, what, expected, found in wrong
    )


def run(connection, request):
    """Sends a case's request with an explain-only pass: what was decided, and the headers that arrived upstream."""
    headers = [*map(tuple, request["headers"]), explain_pass(), ("x-echo", "1")]
    response = connection.send(request.get("method", "GET"), request["path"], headers)
    upstream = response.echo.starting("") if response.upstream else {}
    return {"decisions": decisions(response), "upstream": upstream}
