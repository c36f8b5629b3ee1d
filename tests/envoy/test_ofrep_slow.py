"""Bodies that do not come: who waits for one harms nobody, and is told after five seconds that it is too late."""

import contextlib
import select
import time

import pytest
from documents import with_flags
from http2 import Http2
from ofrep import (
    ALL,
    PREFIX,
    body_of,
    by_key,
    configuration,
    flag,
    path_of,
    resolved,
    unharmed,
    upstream_requests,
    written,
)
from stage import in_force, wait_until

FLAGS = {
    "flags": {"korea": flag({"==": [{"var": "region"}, "kr"]}, variants={"true": 1, "false": 2}, defaultVariant=None)}
}
BODY = body_of({"region": "kr"})
HALF = len(BODY) // 2
SECONDS = 5


def under_way(stage):
    """How many requests are under way."""
    return stage.stats("^http.edge.downstream_rq_active$")["http.edge.downstream_rq_active"]


class Slow:
    """A request on a connection of its own, of whose body only a part has come."""

    def __init__(self, stage, cleanup, part=BODY[:HALF], length=len(BODY)):
        self.connection = cleanup.enter_context(stage.connect())
        headers = [("content-length", str(length))]
        self.sent = self.connection.write("POST", path_of("korea"), headers, part)

    def finish(self):
        """Sends the other half, and gives the answer."""
        self.connection.socket.sendall(BODY[HALF:])
        return self.connection.read(sent=self.sent)

    def drip(self):
        """Sends blanks, one at a time, until an answer comes: the body goes on, but does not end."""
        while not select.select([self.connection.socket], [], [], 0.1)[0]:
            self.connection.socket.sendall(b" ")
        return self.connection.read(sent=self.sent)

    def read(self):
        """The answer."""
        return self.connection.read(sent=self.sent)


def assert_too_late(response, sent):
    """The answer says, after five seconds and not before, that the body has not come."""
    assert response.status == 408, response
    assert written(response)["errorDetails"]
    assert SECONDS - 0.1 < response.received - sent < SECONDS + 2, f"after {response.received - sent} s"


def test_two_hundred_may_be_slow_and_hold_up_nobody(set_stage):
    stage = set_stage(plugin=configuration(FLAGS))
    with unharmed(stage), contextlib.ExitStack() as cleanup:
        slow = [Slow(stage, cleanup) for _ in range(200)]
        leaving = [Slow(stage, cleanup) for _ in range(20)]
        wait_until(lambda: under_way(stage) == 220, "all requests")
        with stage.connect() as connection:
            for _ in range(10):
                assert resolved(connection.send("POST", path_of("korea"), (), BODY))[0].text == "1"
                assert connection.get("/").upstream == "checkout-v1"
        for it in leaving:
            it.connection.socket.close()
        for it in slow:
            assert resolved(it.finish())[0].text == "1"
        wait_until(lambda: under_way(stage) == 0, "those who leave")
    assert stage.metric("ofrep_requests") == 210
    assert upstream_requests(stage) == 10


def test_who_waits_is_answered_under_the_policy_that_was_in_force_at_the_start(set_stage):
    def document(revision):
        return with_flags({"flags": {"korea": flag(variants={"it": revision}, defaultVariant="it")}}, revision)

    user = [("x-user-id", "user")]
    stage = set_stage(policy=document(1), plugin={"ofrep": {"prefix": PREFIX}, "trust": "mesh"})
    stage.wait_for_all_workers(in_force(1), headers=user)
    with contextlib.ExitStack() as cleanup:
        slow = [Slow(stage, cleanup) for _ in range(10)]
        wait_until(lambda: under_way(stage) == 10, "all requests")
        stage.push(document(2))
        stage.wait_for_all_workers(in_force(2), headers=user)
        assert {resolved(it.finish())[0].text for it in slow} == {"1"}
        assert {resolved(Slow(stage, cleanup).finish())[0].text for _ in range(10)} == {"2"}


def other_policy(bootstrap):
    """Has the listener's plugin answer under another policy."""
    bootstrap.plugin = configuration({"flags": {"korea": flag(variants={"other": 3}, defaultVariant="other")}})


@pytest.mark.alone
def test_who_is_too_slow_is_told(set_stage):
    # By itself; while a policy is fetched, when the plugin's clock ticks for another reason too; and in a listener that
    # is replaced, whose plugin is not the current one any more.
    alone = set_stage(plugin=configuration(FLAGS))
    fetching = set_stage(policy=with_flags(FLAGS), plugin={"ofrep": {"prefix": PREFIX}, "trust": "mesh"})
    fetching.wait_for_all_workers(in_force(1), headers=[("x-user-id", "user")])
    replaced = set_stage(plugin=configuration(FLAGS), dynamic=True, drain_s=60)
    stages = alone, fetching, replaced
    with contextlib.ExitStack() as cleanup:
        finishing = [Slow(stage, cleanup) for stage in stages for _ in range(10)]
        late = [Slow(stage, cleanup, part) for stage in stages for part in (b"", BODY[:HALF]) for _ in range(10)]
        dripping = [Slow(stage, cleanup, length=1000) for stage in stages]
        leaving = [Slow(stage, cleanup) for stage in stages for _ in range(20)]
        http2 = [cleanup.enter_context(Http2(stage.port)) for stage in (alone, fetching)]
        silent = [(connection, connection.start("POST", ALL), time.time()) for connection in http2 for _ in range(10)]
        taken_back = [(connection, connection.start("POST", ALL)) for connection in http2 for _ in range(10)]
        for stage, count in (alone, 71), (fetching, 71), (replaced, 51):
            wait_until(lambda stage=stage, count=count: under_way(stage) == count, f"{count} requests")

        for slow in leaving:
            slow.connection.socket.close()
        for connection, stream in taken_back:
            connection.reset(stream)
        assert replaced.change_listener(other_policy)
        wait_until(lambda: resolved(Slow(replaced, cleanup).finish())[0].text == "3", "the new listener")
        for slow in finishing:
            assert resolved(slow.finish())[0].text == "1"

        for slow in dripping:
            assert_too_late(slow.drip(), slow.sent)
        for slow in late:
            assert_too_late(slow.read(), slow.sent)
        for connection, stream, sent in silent:
            assert_too_late(connection.response(stream), sent)
        for connection in http2:
            assert not connection.closing
            assert by_key(connection.ask("POST", ALL, (), BODY))["korea"]["variant"] == "true"
    for stage, count in (alone, 31), (fetching, 31), (replaced, 21):
        assert under_way(stage) == 0
        assert stage.metric("ofrep_requests", outcome="408") == count
        assert stage.metric("hostcall_failures") == 0
        assert "panicked" not in stage.log()


def test_thousands_may_say_nothing_and_are_told_so(set_stage):
    stage = set_stage(plugin=configuration(FLAGS), workers=1)
    # As much as Envoy takes: what is kept of each while it waits would be the VM's memory.
    filler = [("x-filler", "v" * 600)] * 90
    with unharmed(stage), contextlib.ExitStack() as cleanup:
        for connection in [cleanup.enter_context(Http2(stage.port)) for _ in range(3)]:
            for _ in range(1000):
                connection.start("POST", ALL, filler)
        wait_until(lambda: stage.metric("ofrep_requests", outcome="408") == 3000, "3000 answers", 30)
        assert stage.get("/").upstream == "checkout-v1"
