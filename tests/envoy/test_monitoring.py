"""What operators see: a real Prometheus with rules and alerts, every query of the dashboard, traces and access logs."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
import yaml
from documents import guarded, source, user
from guards import HEALTHY, crowd
from monitoring import PROMETHEUS, Prometheus, Receiver, collector
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from stage import COMMAND, ENVOY, TOP, Stage, in_force, load_policy, wait_until

README = (TOP / "README.md").read_text()
TABLES = re.findall(r"^\| metric \| type \| labels \| meaning \|\n(.*?)\n\n", README, re.M | re.S)
METRICS = [re.match(r"\| (`mulkko_.*?) \| (\w+) \|(.*?)\|", row).groups() for rows in TABLES for row in rows.splitlines()[1:]]
DASHBOARD = json.loads((TOP / "envoy/grafana/mulkko.json").read_text())
# What Prometheus adds.
ADDED = {"__name__", "instance", "job"}


def policy(revision):
    """A guarded canary with a shadow, and flags that requests carry upstream."""
    flags = load_policy("flags")
    exported = {key: flags[key] for key in ("flags", "$evaluators", "flagKey", "attributes", "cohorts") if key in flags}
    document = guarded(20, revision)
    document["rollouts"][0]["shadow"] = {"cluster": "checkout-v2", "percent": 10, "mode": "compare"}
    return {**exported, **document, "keys": {**flags.get("keys", {}), **document["keys"]}}


def rollout(name, path, **variant):
    """All requests for a path get this variant."""
    return {
        "name": name, "matches": [{"path": {"value": path}}], "variants": {"old": {}, "new": variant}, "default": "old",
        "strategy": {"blueGreen": {"active": "new", "previous": "old"}},
    }  # fmt: skip


def signed(folder):
    """A signed policy, with a cluster that is missing, more headers than a request gets, and a condition that uses up its
    budget; and who may sign it.
    """
    made = json.loads(subprocess.run([COMMAND, "keygen", "--kid", "a", "--format", "json"], capture_output=True, check=True).stdout)
    many = [rollout(f"many-{i}", "/many", headers={f"x-many-{i}": "1"}) for i in range(40)]
    dear = {"!=": [{"var": ""}, -1]}
    for _ in range(3):
        dear = {"all": [list(range(60)), dear]}
    rollouts = [rollout("gone", "/gone", cluster="checkout-v3"), rollout("dear", "/dear") | {"when": dear}, *many]
    document = {"name": "signed", "revision": 1, "rollouts": rollouts}
    (folder / "policy.json").write_text(json.dumps(document))
    environment = {**os.environ, "MULKKO_SIGNING_KEY": json.dumps(made["private"])}
    token = subprocess.run([COMMAND, "sign", folder / "policy.json"], capture_output=True, check=True, env=environment).stdout
    return token, [made["verify"]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A proxy under load, to which all has happened that metrics tell of, one that knows no config cluster, and one whose
    policies are signed, all watched by Prometheus: the first stage, Prometheus, and what Alertmanager posts.
    """
    token, verify = signed(tmp_path_factory.mktemp("signed"))
    with (
        Stage(policy=policy(1), plugin={"source": source()}) as stage,
        Stage(plugin={"name": "lost", "source": source(cluster="nobody")}) as lost,
        Stage(policy=token, plugin={"name": "signed", "source": source(), "verify": verify}) as third,
        Receiver() as webhook,
        Prometheus(tmp_path_factory.mktemp("prometheus"), [stage, lost, third], webhook.port) as prometheus,
    ):
        third.wait_for_metric("policy_revision", 1)
        third.get("/gone")
        third.get("/many")
        third.get("/dear")
        for upstream in ("checkout-v1", "checkout-v2"):
            stage.behave(upstream, **HEALTHY)
        stage.wait_for_metric("policy_revision", 1)
        with stage.load(crowd(), per_second=100):
            stage.push(policy(2) | {"apiVersion": "mulkko/v0"})
            stage.wait_for_metric("policies", 1, outcome="refused")
            stage.push(policy(3))
            stage.wait_for_metric("policy_revision", 3)
            for _ in range(3):
                stage.get("/checkout", user(1), ("x-mulkko-pass", "forged"))
                stage.get("/checkout", user(1), ("baggage", f"theirs={'1' * 8_180}"))
                stage.get("/checkout", user(1), ("x-fault", "503"))
                # Of a tenth of them the shadow is told that it cannot be copied.
                for _ in range(50):
                    stage.get("/checkout", ("x-bytes", b"\xff"))
                path = "/ofrep/v1/evaluate/flags/page-size"
                with stage.connect() as connection:
                    connection.send("POST", path, body=b'{"context": {"targetingKey": "user-1"}}')
                # Each in a scrape of its own: a rise is between two.
                prometheus.wait_for(f"timestamp(mulkko_policy_revision) > {time.time()}")
            prometheus.wait_for("policy_rollout_variant:mulkko_split_requests:share5m")
            yield stage, prometheus, webhook


def labels_in(cell):
    """The labels that a cell of the README's tables names, and the values that it says of the last of them."""
    names, _, values = cell.partition(":")
    return set(re.findall(r"`(\w+)`", names)), set(re.findall(r"`(\w+)`", values))


def test_the_readme_names_all_metrics():
    """None is left out of the tables, by the plugin's own source."""
    named = {name for names, _, _ in METRICS for name in re.findall(r"`mulkko_(\w+)`", names)}
    source_text = "".join(file.read_text() for file in [*TOP.glob("src/plugin/*.rs"), *TOP.glob("src/guard/*.rs")])
    defined = r'(?:\.(?:gauge|count|outcome)\(\s*|MetricType::\w+, .{1,40}, )"(\w+)"|"(guard_\w+)"'
    assert {one or other for one, other in re.findall(defined, source_text)} == named


@pytest.mark.parametrize(("names", "kind", "cell"), METRICS)
def test_prometheus_has_each_metric_with_its_labels(watched, names, kind, cell):
    _, prometheus, _ = watched
    labels, values = labels_in(cell)
    for name in re.findall(r"`(\w+)`", names):
        series_name = f"{name}_count" if kind == "histogram" else name
        found = [series for series, _ in prometheus.wait_for(f'{{__name__="{series_name}"}}')]
        assert {label for series in found for label in series} - ADDED == {"policy", *labels}, name
        if values:
            assert {series["outcome"] for series in found} == values, name


def test_kinds_are_what_envoy_says(watched):
    stage, _, _ = watched
    kinds = dict(re.findall(r"^# TYPE (mulkko_\w+) (\w+)$", stage.admin("/stats/prometheus?filter=mulkko")[1], re.M))
    told = {name: kind for names, kind, _ in METRICS for name in re.findall(r"`(\w+)`", names)}
    assert {name: told.get(name) for name in kinds} == kinds
    # The others have the rest.
    rest = {"hostcall_failures", "policy_signed_timestamp_seconds", "cluster_missing", "headers_dropped", "budget_exhausted"}
    assert set(told) - set(kinds) == {f"mulkko_{name}" for name in rest}


def test_shares_move_with_the_schedule_and_end_with_the_rollout(set_stage):
    document = guarded(20, 1)
    begins = time.time() + 10
    instant = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begins))
    document["rollouts"][0]["strategy"] = {
        "canary": {"variant": "canary", "start": instant, "steps": [{"percent": 40, "hold": "1h"}, {"percent": 100}]}
    }
    stage = set_stage(policy=document)
    stage.wait_for_all_workers(in_force(1))
    stage.wait_for_metric("intended_share_millionths", 1_000_000, variant="stable")
    stage.wait_for_metric("intended_share_millionths", 400_000, seconds=25, variant="canary")
    stage.wait_for_metric("intended_share_millionths", 600_000, variant="stable")
    other = guarded(20, 2)
    other["rollouts"][0]["name"] = "another"
    stage.push(other)
    stage.wait_for_metric("intended_share_millionths", 0, rollout="checkout-v2")


def test_rules_are_sound_and_do_what_they_say():
    subprocess.run(["promtool", "check", "rules", PROMETHEUS / "rules.yaml"], check=True)
    subprocess.run(["promtool", "check", "config", PROMETHEUS / "prometheus.yaml"], check=True)
    subprocess.run(["promtool", "test", "rules", PROMETHEUS / "rules.test.yaml"], check=True)
    rules = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())["groups"]
    tests = (PROMETHEUS / "rules.test.yaml").read_text()
    for rule in (rule for group in rules for rule in group["rules"]):
        assert rule.get("alert", rule.get("record")) in tests or "rolled_back:count" in rule["record"], rule


def test_the_dashboard_is_what_its_source_makes():
    made = subprocess.run([sys.executable, TOP / "envoy/grafana/dashboard.py"], check=True, capture_output=True, text=True)
    assert json.loads(made.stdout) == DASHBOARD


def queries():
    """Every query of the dashboard, with what Grafana would put in for its variables."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$policy", ".+").replace("$rollout", ".+").replace("$__rate_interval", "1m")


@pytest.mark.parametrize("query", list(queries()))
def test_the_dashboards_queries_have_answers(watched, query):
    _, prometheus, _ = watched
    assert "$" not in query
    assert prometheus.wait_for(query)


def test_shares_are_as_intended(watched):
    _, prometheus, _ = watched
    intended = {series["variant"]: value for series, value in prometheus.query('policy_rollout_variant:mulkko_intended_share:ratio{policy="shop"}')}
    assert intended == {"stable": 0.8, "canary": 0.2}
    expr = "policy_rollout_variant:mulkko_split_requests:share5m"
    wait_until(lambda: all(abs(value - intended[series["variant"]]) < 0.1 for series, value in prometheus.query(expr)), expr, 30)


def test_an_alert_fires_and_arrives(watched):
    """The last one here: from now on the canary is rolled back."""
    stage, prometheus, webhook = watched
    arrived = [alert for body in webhook.bodies for alert in json.loads(body)["alerts"]]
    assert "MulkkoRolledBack" not in {alert["labels"]["alertname"] for alert in arrived}
    stage.behave("checkout-v2", fault="503", ratio=0.5)

    def rolled_back():
        alerts = [alert for body in webhook.bodies for alert in json.loads(body)["alerts"]]
        return [alert for alert in alerts if alert["labels"]["alertname"] == "MulkkoRolledBack"]

    [alert, *_] = wait_until(rolled_back, "the alert", 60)
    labels = {"policy": "shop", "rollout": "checkout-v2", "variant": "canary", "severity": "critical"}
    assert alert["status"] == "firing" and labels.items() <= alert["labels"].items()
    assert alert["annotations"]["summary"] == "shop: canary of checkout-v2 is rolled back"
    assert stage.metric("guard_rolled_back", variant="canary") == 1
    assert prometheus.query("policy_rollout_variant:mulkko_guard_evidence_bans:max > 3")


# Traces

# Whether this Envoy has tags with a `value`, as those since 1.37.
KNOWS_VALUES = "/1.36." not in subprocess.run([ENVOY, "--version"], capture_output=True, text=True, check=True).stdout


def tracing():
    """What the README adds to the connection manager and to the clusters, so that spans tell decisions."""
    section = README[README.index("\n### Traces\n") :]
    return yaml.safe_load(re.search(r"```yaml\n(.*?)```", section, re.S)[1])


def test_spans_carry_decisions(set_stage, tmp_path):
    with collector(tmp_path) as (port, receiver):

        def edit(bootstrap):
            added = tracing()
            if not KNOWS_VALUES:
                added["tracing"]["custom_tags"] = [tag for tag in added["tracing"]["custom_tags"] if "value" not in tag]
            bootstrap.connection_manager["tracing"] = added["tracing"]
            [cluster] = added["clusters"]
            [endpoint] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
            endpoint["endpoint"]["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": port}
            bootstrap.document["static_resources"]["clusters"].append(cluster)

        stage = set_stage(policy=guarded(50), edit=edit)
        stage.wait_for_all_workers(lambda echo: echo.header("x-mulkko-checkout-v2"), headers=[user(1)])
        trace = "0af7651916cd43dd8448eb211c80319c"
        response = stage.get("/checkout", user(1), ("x-echo", "1"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))

        def spans():
            requests = [ExportTraceServiceRequest.FromString(body) for body in receiver.bodies]
            found = [span for it in requests for of in it.resource_spans for scope in of.scope_spans for span in scope.spans]
            return [span for span in found if span.trace_id.hex() == trace]

        [span] = wait_until(spans, "the span", 30)
        tags = {item.key: item.value.string_value for item in span.attributes}
        variant = response.echo.header("x-mulkko-checkout-v2")
        assert tags["mulkko.checkout-v2"] == variant
        assert tags.get("mulkko.checkout-v2.reason") == ("SPLIT" if KNOWS_VALUES else None)
        # And `baggage` goes on beside the trace's own context, where the application's own spans can take it up.
        assert f"mulkko.checkout-v2={variant}" in response.echo.header("baggage")
        assert trace in response.echo.header("traceparent")
