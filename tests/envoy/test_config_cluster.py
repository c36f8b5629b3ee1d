"""The config cluster in every mood: requests are served on, the last good policy stays, the counters tell."""

import json
import time

import pytest
from client import Load
from config_server import Answer, ConfigServer, policy_answer
from documents import canary, source, user
from stage import Stage, free_port, in_force, marked, wait_until

HTML = b"<!doctype html><title>Welcome to nginx!</title>"
WHOLE = json.dumps(canary(0, revision=99)).encode()

# What the config cluster answers instead of the next policy; and whether that is a document (refused, with the gauge
# up) or a failed fetch.
MOODS = {
    "500": (Answer(status=500, body=b"oops"), False),
    "500 with a policy": (Answer(status=500, body=WHOLE, etag='"a"'), False),
    "404": (Answer(status=404, body=HTML, content_type="text/html"), False),
    "302": (Answer(status=302), False),
    "HTML": (Answer(body=HTML, etag='"html"', content_type="text/html"), True),
    "nothing": (Answer(body=b"", etag='"empty"'), True),
    "truncated JSON": (Answer(body=WHOLE[:-40], etag='"cut"'), True),
    "a body that breaks off": (Answer(body=WHOLE[:-40], etag='"b"', content_length=len(WHOLE)), False),
    "9 MiB": (Answer(body=WHOLE + b" " * (9 << 20), etag='"huge"'), True),
    "an older revision": (policy_answer(canary(0, revision=4)), True),
    "not UTF-8": (Answer(body=WHOLE.replace(b"shop", b"sh\xffp"), etag='"bytes"'), True),
    "another version of the format": (policy_answer({**canary(0, revision=99), "apiVersion": "mulkko/v2"}), True),
    "never": (Answer(hang=True), False),
}


def wait_for_a_failed_fetch(stage, before=0):
    """Waits until more fetches than before have been counted as failed."""
    wait_until(lambda: stage.metric("fetches", outcome="failed") > before, "a fetch counted as failed")


@pytest.fixture(scope="module")
def moody():
    """A config cluster, and an Envoy that asks it: the moods follow one another, each from good to good."""
    with ConfigServer(policy_answer(canary(100, revision=5))) as config:
        with Stage(config_port=config.port, plugin={"source": source(timeout="500ms")}) as stage:
            stage.wait_for_metric("policy_revision", 5)
            yield config, stage


@pytest.mark.parametrize("mood", MOODS)
def test_the_last_good_policy_stays_whatever_is_answered(moody, mood):
    answer, is_document = MOODS[mood]
    config, stage = moody
    revision = int(stage.metric("policy_revision"))
    stage.wait_for_all_workers(in_force(revision), headers=[user(1)])
    failed = stage.metric("fetches", outcome="failed")

    with Load(stage.port, lambda: ("/checkout", [user(1), ("x-echo", "1")]), connections=4) as load:
        config.answer = answer
        asked = len(config.requests)
        if is_document:
            stage.wait_for_metric("policy_refused", 1)
        else:
            wait_for_a_failed_fetch(stage, failed)
        wait_until(lambda: len(config.requests) > asked + 1, "another try", 5)
        assert stage.metric("policy_revision") == revision
        assert stage.metric("policy_refused") == is_document

        # And back to good: what was wrong has left nothing behind.
        config.answer = policy_answer(canary(100, revision=revision + 1))
        stage.wait_for_all_workers(in_force(revision + 1), headers=[user(1)], seconds=10)
        stage.wait_for_metric("policy_refused", 0)
    assert not load.failed
    assert {response.echo.header("x-mark") for response in load.responses} <= {str(revision), str(revision + 1)}


def test_down_at_start_requests_pass_until_it_comes_up(set_stage, serve):
    port = free_port()
    stage = set_stage(config_port=port)
    assert stage.get("/checkout", user(1)).upstream == "checkout-v1"
    wait_for_a_failed_fetch(stage)
    assert stage.metric("policy_revision") == 0
    serve(canary(100), port=port)
    stage.wait_for_all_workers(in_force(1), headers=[user(1)], seconds=10)


def test_the_inline_policy_rules_until_the_first_fetch_and_is_a_floor(set_stage, serve):
    config = serve(Answer(status=503))
    stage = set_stage(config_port=config.port, plugin={"source": source(), "policy": canary(100, revision=3)})
    stage.wait_for_all_workers(in_force(3), headers=[user(1)])
    config.answer = policy_answer(canary(0, revision=2))
    stage.wait_for_metric("policy_refused", 1)
    assert stage.get("/checkout", user(1)).upstream == "checkout-v2"
    config.answer = policy_answer(canary(0, revision=3))
    stage.wait_for_all_workers(lambda echo: echo.request["upstream"] == "checkout-v1", headers=[user(1)])


def test_an_inline_policy_needs_no_config_cluster(set_stage):
    configuration = json.dumps({"name": "shop", "policy": canary(100)})
    stage = set_stage(plugin=configuration, config_port=free_port())
    assert stage.echo("/checkout", user(1)).header("x-mark") == "1", "in force before the first request"
    assert stage.metric("fetches") == 0


def test_it_is_told_who_asks_and_what_is_in_force(set_stage, serve):
    config = serve(canary(0, revision=7))
    stage = set_stage(config_port=config.port)
    stage.wait_for_all_workers(in_force(7), headers=[user(1)])
    wait_until(lambda: config.statuses()[-1] == 304, "a 304")
    first, last = config.requests[0], config.requests[-1]
    assert first.path == last.path == "/policies/shop.json"
    assert first.headers["host"] == "config.internal"
    assert "if-none-match" not in first.headers
    assert last.headers["if-none-match"] == config.answer.etag
    assert first.headers["x-mulkko-node"] == last.headers["x-mulkko-node"] == "edge-1"
    assert last.headers["x-mulkko-revision"] == "7"
    assert "prefer" not in last.headers
    assert config.statuses().count(200) == 1, "one download for all workers"

    good, config.answer = config.answer, Answer(body=HTML, etag='"html"')
    asked = len(config.requests)
    wait_until(lambda: config.statuses()[asked:][-1:] == [304], "a 304 for the refused one")
    assert config.requests[-1].headers["x-mulkko-refused"] == '"html"'
    assert config.requests[-1].headers["x-mulkko-revision"] == "7"
    assert config.statuses()[asked:].count(200) == 1, "refused once, downloaded once"
    config.answer = good
    stage.wait_for_metric("policy_refused", 0)


def test_with_wait_it_asks_for_a_long_poll(set_stage, serve):
    config = serve(canary(0))
    stage = set_stage(config_port=config.port, plugin={"source": source(wait="30s")})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert config.requests[0].headers["prefer"] == "wait=30"


def test_failures_back_off(set_stage, serve):
    config = serve(Answer(status=500))
    stage = set_stage(config_port=config.port)
    wait_until(lambda: len(config.requests) >= 4, "four tries", 10)
    times = [request.at for request in config.requests]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert gaps[2] > gaps[0] * 1.5, gaps
    assert stage.get("/checkout").status == 200


@pytest.mark.alone
@pytest.mark.parametrize("workers", [4])
def test_one_fetch_per_process_and_poll_interval(set_stage, serve, workers):
    poll_s, intervals = 0.2, 20
    config = serve(canary(0))
    stage = set_stage(config_port=config.port, workers=workers, plugin={"source": source(poll="200ms")})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    start = config.requests[-1].at
    end = start + poll_s * intervals
    wait_until(lambda: time.monotonic() > end, "twenty intervals", poll_s * intervals + 1)
    fetches = sum(start < request.at <= end for request in config.requests)
    assert 18 <= fetches <= 22


def test_a_document_that_cannot_be_read_is_not_asked_for_again_and_again(set_stage, serve):
    config = serve(Answer(body=b" " * (9 << 20), etag='"huge"'))
    stage = set_stage(config_port=config.port)
    wait_until(lambda: config.statuses().count(304) >= 3, "three more polls", 5)
    assert config.statuses().count(200) == 1
    assert stage.metric("policy_refused") == 1


def test_with_verify_what_is_not_signed_is_refused(set_stage, serve):
    config = serve(canary(100))
    keys = [{"kid": "2026-11", "ed25519": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]
    stage = set_stage(config_port=config.port, plugin={"source": source(), "verify": keys})
    stage.wait_for_metric("policy_refused", 1)
    assert stage.get("/checkout", user(1)).upstream == "checkout-v1"


def test_a_cluster_that_the_plugin_does_not_allow_refuses_the_policy(set_stage):
    policy = canary(100)
    policy["rollouts"][0]["variants"]["canary"]["cluster"] = "config"
    stage = set_stage(policy=policy)
    stage.wait_for_metric("policy_refused", 1)
    assert stage.get("/checkout", user(1)).upstream == "checkout-v1"
    stage.push(marked(canary(100), 2))
    stage.wait_for_all_workers(in_force(2), headers=[user(1)])


def test_the_config_cluster_may_die_and_come_back(set_stage):
    with ConfigServer(policy_answer(canary(100))) as config:
        port = config.port
        stage = set_stage(config_port=port)
        stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    wait_for_a_failed_fetch(stage)
    assert stage.get("/checkout", user(1)).upstream == "checkout-v2"
    with ConfigServer(policy_answer(canary(0, revision=2)), port):
        stage.wait_for_all_workers(in_force(2), headers=[user(1)], seconds=10)
