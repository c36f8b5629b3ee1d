"""New plugin configurations in a running Envoy, and several side by side."""

import copy

from client import Connection, Load
from config_server import policy_answer
from documents import canary, source, user
from stage import in_force, load_policy, marked, wait_until

DRAINED = {"listener_manager.total_listeners_draining": 0}


def test_a_listener_update_keeps_counters_and_policy(set_stage, serve):
    config = serve(canary(100, revision=3))
    stage = set_stage(config_port=config.port, dynamic=True)
    stage.wait_for_all_workers(in_force(3), headers=[user(1)])
    with Load(stage.port, lambda: ("/checkout", [user(1), ("x-echo", "1")]), connections=4) as load:
        wait_until(lambda: len(load.responses) > 100, "some load")
        counted = stage.metric("requests", rollout="checkout-v2", variant="canary")
        downloads = config.statuses().count(200)
        assert stage.change_listener(lambda bootstrap: change(bootstrap, source=source(poll="300ms")))
        stage.wait_for_all_workers(in_force(3), headers=[user(1)])
        assert stage.metric("requests", rollout="checkout-v2", variant="canary") >= counted
        wait_until(lambda: "if-none-match" in config.requests[-1].headers, "a poll that knows the policy")
        # The old listener has ended: the policy and the counters rest on the new one alone.
        wait_until(
            lambda: stage.stats("listener_manager.total_listeners_draining$") == DRAINED, "the end of the old one", 10
        )
        stage.wait_for_all_workers(in_force(3), headers=[user(1)])
        assert stage.metric("requests", rollout="checkout-v2", variant="canary") >= counted
        assert config.statuses().count(200) == downloads, "nobody had to fetch it anew"
    assert not load.failed
    assert {response.echo.header("x-mark") for response in load.responses} == {"3"}
    # And it goes on from there.
    config.answer = policy_answer(canary(0, revision=4))
    stage.wait_for_all_workers(in_force(4), headers=[user(1)])


def test_a_listener_update_may_go_to_another_source(set_stage):
    stage = set_stage(policy=canary(100), dynamic=True)
    stage.push(canary(0, revision=1), "/policies/other.json")
    stage.wait_for_all_workers(lambda echo: echo.request["upstream"] == "checkout-v2", headers=[user(1)])
    assert stage.change_listener(lambda bootstrap: change(bootstrap, source=source(path="/policies/other.json")))
    stage.wait_for_all_workers(
        lambda echo: echo.header("x-mark") and echo.request["upstream"] == "checkout-v1", headers=[user(1)]
    )


def test_a_bad_plugin_configuration_is_taken_by_envoy_and_told_by_the_gauge(set_stage):
    stage = set_stage(policy=canary(100), dynamic=True)
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert stage.change_listener(lambda bootstrap: change(bootstrap, nonsense=1)), "on_configure never fails"
    stage.wait_for_all_workers(lambda echo: echo.starting("x-mulkko-") == {}, headers=[user(1)])
    assert stage.metric("policy_refused", policy="default") == 1
    # Mended, and the bad one's listener drained: nobody is to be woken any more.
    assert stage.change_listener(mend)
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    stage.wait_for_metric("policy_refused", 0, policy="default")


def test_two_configurations_in_one_process_do_not_see_each_other(set_stage):
    def second_listener(bootstrap):
        first = bootstrap.listener
        bootstrap.plugin = {**bootstrap.plugin, "name": "other", "source": source(path="/policies/other.json")}
        second = copy.deepcopy(first)
        second.update(name="other", stat_prefix="other")
        bootstrap.document["static_resources"]["listeners"].append(second)
        bootstrap.plugin = {**bootstrap.plugin, "name": "shop", "source": source()}

    policy = marked(load_policy("canary-by-hand"), 1)
    policy["rollouts"][0]["strategy"]["canary"]["percent"] = 100
    other = marked(load_policy("canary-by-hand"), 30)
    other["rollouts"][0].update(name="payment", strategy={"canary": {"variant": "canary", "percent": 0}})

    stage = set_stage(policy=policy, edit=second_listener)
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert echo_at(stage, "other").starting("x-mulkko-") == {}, "no policy there yet"
    stage.push(other, "/policies/other.json")
    wait_until(
        lambda: echo_at(stage, "other").starting("x-m") == {"x-mark": "30", "x-mulkko-payment": "stable"},
        "the other policy",
    )
    assert stage.echo("/checkout", user(1)).starting("x-m") == {"x-mark": "1", "x-mulkko-checkout-v2": "canary"}
    assert stage.metric("policy_revision", policy="shop") == 1
    assert stage.metric("policy_revision", policy="other") == 30
    assert stage.metric("requests", policy="shop", rollout="payment") == 0

    stage.push(canary(140), "/policies/other.json")
    stage.wait_for_metric("policy_refused", 1, policy="other")
    assert stage.metric("policy_refused", policy="shop") == 0


def mend(bootstrap):
    """Takes what makes no sense out of the plugin's configuration."""
    bootstrap.plugin = {key: value for key, value in bootstrap.plugin.items() if key != "nonsense"}


def change(bootstrap, **members):
    """Replaces members of the plugin's configuration."""
    bootstrap.plugin = {**bootstrap.plugin, **members}


def echo_at(stage, listener):
    """A user's request through a listener, as it arrived upstream."""
    with Connection(stage.ports[listener]) as connection:
        return connection.get("/checkout", user(1), ("x-echo", "1")).echo
