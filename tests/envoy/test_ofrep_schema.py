"""Whatever it is sent, the proxy answers as the specification of OFREP says."""

import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
import schemathesis
from documents import OFREP, user, with_flags
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
from stage import TOP, in_force

SUITES = Path(os.environ.get("MULKKO_SUITES", "../shared/suites"))
SPECIFICATION = SUITES / "ofrep/openapi.patched.json"
TESTKIT = SUITES / "flagd/testkit-flags.json"
OWN_FLAGS = Path(__file__).parent / "clients/flags.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
CONTROL_CHARACTERS = "".join(map(chr, [*range(32), 127]))
# For each of the two operations, the statuses that the requests must have brought about.
STATUSES = {"/ofrep/v1/evaluate/flags/{key}": {200, 400, 404}, "/ofrep/v1/evaluate/flags": {200, 304, 400}}

# What Hypothesis keeps on disk goes where builds go.
configuration.set_hypothesis_home_dir(TOP / "target/hypothesis")


@pytest.fixture
def flags():
    """The flags of flagd's own tests, or ours where those are absent."""
    return json.loads((TESTKIT if TESTKIT.exists() else OWN_FLAGS).read_text())


@pytest.fixture
def specification(set_stage, flags):
    """The specification, for requests to a proxy that has the flags. Half of those for one flag name one of them."""
    if not SPECIFICATION.exists():
        pytest.skip(f"suite absent, skipped: {SPECIFICATION}")
    stage = set_stage(policy=with_flags(flags), plugin=OFREP)
    stage.wait_for_all_workers(in_force(1), headers=[user(0)])
    specification = schemathesis.openapi.from_dict(json.loads(SPECIFICATION.read_text()))
    specification.config.update(base_url=f"http://127.0.0.1:{stage.port}")
    # Envoy refuses these by itself, in its own words.
    specification.config.generation.update(allow_x00=False, exclude_header_characters=CONTROL_CHARACTERS)
    # What failed is shown as it was sent: there are no secrets here.
    specification.config.output.sanitization.update(enabled=False)

    @specification.hook
    def flatmap_path_parameters(_, parameters):
        return st.one_of(st.just(parameters), st.sampled_from([{"key": quote(key)} for key in flags["flags"]]))

    return specification


@pytest.mark.parametrize("path", STATUSES)
def test_every_answer_is_one_that_the_specification_has(specification, path):
    operation = specification[path]["POST"]
    statuses = set()

    # Requests as the specification has them, and others.
    @seed(1)
    @settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode]))
    def check(case):
        response = case.call_and_validate(session=session, checks=CHECKS)
        statuses.add(response.status_code)
        if etag := response.headers.get("etag"):
            case.headers["If-None-Match"] = etag[0]
            statuses.add(case.call_and_validate(session=session, checks=CHECKS).status_code)

    with requests.Session() as session:
        check()
    assert statuses >= STATUSES[path]
