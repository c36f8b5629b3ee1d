"""Whatever it is sent, the server answers as its own OpenAPI document says."""

import json

import pytest
import schemathesis
from documents import policy
from hypothesis import HealthCheck, configuration, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from stage import TOP

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
# For each operation, the statuses that the requests must have brought about.
STATUSES = {
    ("/v1/policies", "GET"): {200},
    ("/v1/policies/{name}", "GET"): {200, 304, 400, 404},
    ("/v1/policies/{name}", "PUT"): {201, 400, 401, 412, 422, 428},
    ("/v1/policies/{name}/versions", "GET"): {200, 400, 404},
    ("/v1/policies/{name}/versions/{revision}", "GET"): {200, 400, 404},
    ("/v1/policies/{name}/audit", "GET"): {200, 400, 401, 404},
    ("/v1/proxies", "GET"): {200, 400},
    ("/metrics", "GET"): {200},
    ("/healthz", "GET"): {204},
}
CONTROL_CHARACTERS = "".join(map(chr, [*range(32), 127]))

configuration.set_hypothesis_home_dir(TOP / "target/hypothesis")


@pytest.fixture
def client(serve, connect):
    """A client of a server that has a policy, and a proxy."""
    with connect(serve(options=["--longest-wait", "10ms"])) as client:
        assert client.push(policy(1)).status_code == 201
        client.policy(x_mulkko_node="edge-1", x_mulkko_revision="1")
        yield client


def test_the_document_has_every_path(client):
    document = client.get("/v1/openapi.json").json()
    found = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert found == set(STATUSES)
    assert document["info"]["title"] == "mulkko serve"


@pytest.mark.parametrize("path, method", STATUSES)
def test_every_answer_is_one_that_the_document_has(client, path, method):
    specification = schemathesis.openapi.from_dict(client.get("/v1/openapi.json").json())
    specification.config.update(base_url=client.server.url)
    specification.config.generation.update(allow_x00=False, exclude_header_characters=CONTROL_CHARACTERS)
    specification.config.output.sanitization.update(enabled=False)

    @specification.hook
    def flatmap_path_parameters(_, parameters):
        known = {"name": "shop", "revision": 1}
        return st.one_of(st.just(parameters), st.just({name: known[name] for name in parameters or {}}))

    operation = specification[path][method]
    statuses, revision = set(), [1]

    @seed(1)
    @settings(max_examples=150, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode]),
        token=st.sampled_from([client.token, client.token, "nobody's"]),
        replaced=st.sampled_from([None, "*", '"other"']),
    )
    def check(case, token, replaced):
        case.headers["Authorization"] = f"Bearer {token}"
        if method == "PUT" and replaced:
            revision[0] += 1
            case.body, case.media_type = policy(revision[0]), "application/json"
            case.headers["If-Match"] = replaced
            case.headers.pop("If-None-Match", None)
        answer = case.call_and_validate(checks=CHECKS)
        statuses.add(answer.status_code)
        if method == "GET" and (etag := answer.headers.get("etag")):
            case.headers["If-None-Match"] = etag[0]
            statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    check()
    assert statuses >= STATUSES[path, method], json.dumps(sorted(statuses))
