"""OpenFeature's own clients ask the proxy, and hear what flagd's own evaluators say of the same flags and contexts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from documents import OFREP, user, with_flags
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from stage import in_force, wait_until

CLIENTS = Path(__file__).parent / "clients"
NODE = Path(sys.executable).with_name("node")
FLAGS = json.loads((CLIENTS / "flags.json").read_text())

ALICE = {"targetingKey": "alice", "email": "alice@example.com", "country": "kr", "age": 100, "device": "tv-7"}
BOB = {"targetingKey": "bob"}
CONTEXTS = [
    {},
    ALICE,
    BOB,
    {**BOB, "country": "kr"},
    {"country": "aq", "app": {"version": "2.1.0-rc.1"}},
    {"targetingKey": "dave", "country": "bv", "app": {"version": "2.1.0"}, "age": 99.5},
    {"targetingKey": "carol", "email": "carol@example.org", "app": {"version": "0.9"}, "age": 100.0, "device": None},
    *({"targetingKey": f"user-{number}", "country": "de", "age": number} for number in range(30)),
]

# Beyond ASCII flagd's evaluators disagree in `fractional` v2: that in JavaScript hashes half of each character's code,
# that in Go, and mulkko, UTF-8.
KOREAN = {"targetingKey": "물꼬", "country": "kr"}

# Flags whose `fractional` hashes the targeting key. OFREP has an error for a context without one, where flagd's
# evaluators go on with the default variant.
BUCKETED = {"new-cart", "button"}

TYPES = {bool: "boolean", str: "string", int: "integer", float: "float", dict: "object"}
# What the caller falls back on, by the type that it asks for.
CODE_DEFAULTS = {"boolean": True, "string": "fallback", "integer": -1, "float": -1.5, "object": {"fallback": True}}


def ask(key, kind):
    """A case: a caller that asks for a flag as a type, with the default that stands in its code."""
    return {"key": key, "type": kind, "default": CODE_DEFAULTS[kind]}


def ask_for_all(document):
    """A case for each flag of a document, by the type of its values."""
    flags = document["flags"].items()
    return [ask(key, TYPES[type(next(iter(flag["variants"].values())))]) for key, flag in flags]


CASES = [*ask_for_all(FLAGS), ask("dark-mode", "string"), ask("no-such-flag", "boolean")]


# What flagd says


def flagd_says(document, contexts, cases):
    """The details of each case in each context, by flagd's JavaScript evaluator: `fractional` v2, as flagd has it."""
    return run_node("flagd.mjs", document=document, contexts=contexts, cases=cases)


def flagd_says_v3(document, contexts, cases):
    """The same by flagd's Python evaluator: `fractional` v3."""
    core = FlagdCore()
    core.set_flags(document)
    return resolve_all(lambda case: getattr(core, f"resolve_{case['type']}_value"), contexts, cases)


def run_node(script, **members):
    """Runs one of the scripts to its end, and gives what it writes."""
    command = [NODE, CLIENTS / script]
    done = subprocess.run(command, input=json.dumps(members), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def resolve_all(method, contexts, cases):
    """The details of each case in each context, `method(case)` being what a Python library offers for it."""

    def resolve(context, case):
        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        context = EvaluationContext(context.get("targetingKey"), attributes)
        return details_of(method(case)(case["key"], case["default"], context))

    return [[resolve(context, case) for case in cases] for context in contexts]


def details_of(evaluation):
    """The details of a Python library's evaluation as the scripts write theirs: what is None is not there."""
    members = {
        "value": evaluation.value,
        "variant": evaluation.variant,
        "reason": evaluation.reason and evaluation.reason.value,
        "errorCode": evaluation.error_code and evaluation.error_code.value,
        "metadata": dict(evaluation.flag_metadata),
    }
    return {name: value for name, value in members.items() if value is not None}


def is_up_to_the_caller(details):
    """Whether flagd finds no value, and no error either: the flag is disabled, or has no default."""
    return "variant" not in details and details["reason"] in ("DEFAULT", "DISABLED")


def test_the_cases_reach_all_that_flagd_can_say():
    answers = flagd_says(FLAGS, CONTEXTS, CASES)
    said = [details for answer in answers for details in answer]
    assert {details["reason"] for details in said} == {"STATIC", "TARGETING_MATCH", "DEFAULT", "DISABLED", "ERROR"}
    assert {details["reason"] for details in said if is_up_to_the_caller(details)} == {"DEFAULT", "DISABLED"}
    errors = {details.get("errorCode") for details in said}
    assert errors == {None, "FLAG_NOT_FOUND", "TYPE_MISMATCH", "PARSE_ERROR", "GENERAL"}
    for key in ("new-cart", "greeting", "page-size", "opacity", "theme", "button", "banner", "shop/checkout/fast-lane"):
        place = [case["key"] for case in CASES].index(key)
        assert {answer[place]["variant"] for answer in answers} == FLAGS["flags"][key]["variants"].keys(), key


# What the clients hear


@pytest.fixture
def answering(set_stage):
    """Sets a stage where the proxy answers for the flags of a document: `answering(document)`."""

    def enter(document):
        stage = set_stage(policy=with_flags(document), plugin=OFREP)
        wait_for_policy(stage, 1)
        return stage

    return enter


def wait_for_policy(stage, revision):
    """Waits until a revision is in force on every worker."""
    stage.wait_for_all_workers(in_force(revision), headers=[user(0)])


def url(stage):
    """What clients are told: they add `/ofrep/v1` themselves."""
    return f"http://127.0.0.1:{stage.port}"


def python_client_hears(stage, contexts, cases):
    """The details of each case in each context, by OpenFeature's Python client, which asks for one flag at a time."""
    api.set_provider_and_wait(OFREPProvider(url(stage)))
    client = api.get_client()
    try:
        return resolve_all(lambda case: getattr(client, f"get_{case['type']}_details"), contexts, cases)
    finally:
        api.shutdown()


def assert_heard(heard, said, contexts, cases, up_to_the_caller):
    """What a client heard is what flagd said.

    Where there is no value, `up_to_the_caller` makes of what flagd said what this client tells its caller.
    """

    def expected(details, context, case):
        if case["key"] in BUCKETED and "targetingKey" not in context and details["reason"] == "DEFAULT":
            return {"value": case["default"], "reason": "ERROR", "errorCode": "TARGETING_KEY_MISSING"}
        return up_to_the_caller(details) if is_up_to_the_caller(details) else details

    wrong = []
    for context, wanted, answer in zip(contexts, said, heard, strict=True):
        for case, want, found in zip(cases, wanted, answer, strict=True):
            want, found = comparable(expected(want, context, case)), comparable(found)
            if want != found:
                wrong.append(f"{case['key']} as {case['type']} for {context}: expected {want}, found {found}")
    total = len(contexts) * len(cases)
    assert not wrong, f"{len(wrong)} differences in {total} evaluations:\n" + "\n".join(wrong)


def comparable(details):
    """Details, with metadata only where there is a variant: of those of errors each client makes something else."""
    return {name: value for name, value in details.items() if name != "metadata" or details.get("variant")}


def with_an_empty_variant(details):
    """The caller's default with flagd's reason. The variant is always on the wire: there it is an empty text."""
    return {**details, "variant": ""}


def as_an_error(details):
    """The caller's default, but as an error: this client's provider takes no answer without a value."""
    return {"value": details["value"], "reason": "ERROR", "errorCode": "GENERAL"}


def test_the_python_client_hears_what_flagd_says(answering):
    stage = answering(FLAGS)
    heard = python_client_hears(stage, CONTEXTS, CASES)
    assert_heard(heard, flagd_says(FLAGS, CONTEXTS, CASES), CONTEXTS, CASES, with_an_empty_variant)


def test_the_client_for_node_hears_what_flagd_says(answering):
    stage = answering(FLAGS)
    heard = run_node("server.mjs", url=url(stage), contexts=CONTEXTS, cases=CASES)
    assert_heard(heard, flagd_says(FLAGS, CONTEXTS, CASES), CONTEXTS, CASES, as_an_error)


def test_a_policy_may_bucket_as_flagd_does_in_v3(answering):
    document = {**FLAGS, "flags": {key: FLAGS["flags"][key] for key in ("new-cart", "button", "banner")}}
    shares = [[f"share-{number}", number] for number in range(1, 9)]
    document["flags"]["any-value"] = {
        "state": "ENABLED",
        "variants": {name: number for name, number in shares},
        "defaultVariant": "share-1",
        "targeting": {"fractional": [{"var": "value"}, *shares]},
    }
    values = [0, -0.0, 1, 1.0, 1.5, -7, 2**53, 1e300, True, False, None, "", "1", "물꼬", {"b": 1, "a": [2.0, None]}]
    contexts = [*CONTEXTS, KOREAN, *({"value": value} for value in values)]
    cases = ask_for_all(document)
    said = flagd_says_v3(document, contexts, cases)
    assert said != flagd_says(document, contexts, cases), "the cases must tell v3 from v2"
    heard = python_client_hears(answering({**document, "fractional": "v3"}), contexts, cases)
    assert_heard(heard, said, contexts, cases, with_an_empty_variant)


# The client that asks for all flags at once, and keeps them


class Page:
    """OpenFeature's client for browsers, in a process that lives as long as the `with` block; see `clients/web.mjs`."""

    def __init__(self, stage, context, poll_interval_ms=0):
        self.options = {"url": url(stage), "context": context, "pollInterval": poll_interval_ms}
        self.process = None

    def __enter__(self):
        command = [NODE, CLIENTS / "web.mjs"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._tell("open", **self.options)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def set_context(self, context):
        """Changes the context, and waits until its flags are there."""
        self._tell("setContext", context=context)

    def resolve(self, cases):
        """The details of each case, in the context that was set last."""
        return self._tell("resolve", cases=cases)

    def requests(self):
        """The requests since this was last asked, with their responses."""
        return self._tell("requests")

    def changes(self):
        """What the client has said to have changed: a list of keys for each time."""
        return self._tell("changes")

    def _tell(self, command, **members):
        print(json.dumps({"command": command, **members}), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"the page ended with {self.process.wait()}"
        return json.loads(answer)


def brighter(document):
    """The document, with dark mode on for everybody."""
    flags = document["flags"]
    return {**document, "flags": {**flags, "dark-mode": {**flags["dark-mode"], "defaultVariant": "on"}}}


def test_the_client_for_browsers_hears_what_flagd_says(answering):
    with Page(answering(FLAGS), CONTEXTS[0]) as page:
        heard = [page.resolve(CASES)]
        for context in CONTEXTS[1:]:
            page.set_context(context)
            heard.append(page.resolve(CASES))
    assert_heard(heard, flagd_says(FLAGS, CONTEXTS, CASES), CONTEXTS, CASES, with_an_empty_variant)


def test_the_client_for_browsers_is_sent_flags_only_when_they_have_changed(answering):
    stage = answering(FLAGS)
    document = FLAGS

    def check(context, sent, status):
        """The page has made one request, with the ETag `sent`, and now knows the flags; gives the ETag it was told."""
        [request] = page.requests()
        response = request["response"]
        etag = response["headers"]["etag"]
        assert (request["method"], request["path"]) == ("POST", "/ofrep/v1/evaluate/flags")
        assert (request["headers"].get("if-none-match"), response["status"]) == (sent, status)
        if status == 304:
            assert (etag, response["body"]) == (sent, "")
        else:
            assert etag != sent
            assert response["headers"]["content-type"] == "application/json"
        said = flagd_says(document, [context], CASES)
        assert_heard([page.resolve(CASES)], said, [context], CASES, with_an_empty_variant)
        return etag

    with Page(stage, BOB) as page:
        first = check(BOB, None, 200)
        page.set_context(BOB)
        check(BOB, first, 304)

        # The client goes on sending the ETag that it has: it must stand for the context too, not only for the policy.
        korean = {**BOB, "country": "kr"}
        page.set_context(korean)
        second = check(korean, first, 200)
        page.set_context(korean)
        check(korean, second, 304)

        # For another targeting key it forgets the ETag.
        page.set_context(ALICE)
        third = check(ALICE, None, 200)

        document = brighter(FLAGS)
        stage.push(with_flags(document, 2))
        wait_for_policy(stage, 2)
        page.set_context(ALICE)
        fourth = check(ALICE, third, 200)
        page.set_context(ALICE)
        check(ALICE, fourth, 304)


def test_the_client_for_browsers_sees_a_new_policy_at_its_next_poll(answering):
    stage = answering(FLAGS)
    with Page(stage, BOB, poll_interval_ms=50) as page:
        wait_until(lambda: 304 in [item["response"]["status"] for item in page.requests()], "a poll without news")
        assert page.changes() == []
        stage.push(with_flags(brighter(FLAGS), 2))
        changes = wait_until(page.changes, "a poll with news")
        assert changes[0] == ["dark-mode"]
        wait_for_policy(stage, 2)
        wait_until(lambda: page.resolve([ask("dark-mode", "boolean")])[0]["value"], "dark mode")
