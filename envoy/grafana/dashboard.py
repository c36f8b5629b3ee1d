"""Makes mulkko.json, Grafana's dashboard, from one source: `python envoy/grafana/dashboard.py > envoy/grafana/mulkko.json`.

It reads mulkko's metrics, Envoy's own, and what the rules in `envoy/prometheus` record.
"""

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models

PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="$datasource")
OF_POLICY = '{policy=~"$policy"}'
OF_ROLLOUT = '{policy=~"$policy", rollout=~"$rollout"}'
# Where the default `alpha` of a guard, a thousandth, rolls back.
ROLLS_BACK_BANS = 3.301
WIDTH = 24
HEIGHT = 8


def rate(metric, by, selector=OF_POLICY):
    """A counter's rise per second, summed."""
    return f"sum by ({by}) (rate({metric}{selector}[$__rate_interval]))"


def query(expr, legend):
    """A query and how its series are called."""
    return prometheus.Dataquery().expr(expr).legend_format(legend).datasource(PROMETHEUS)


def number(title, description, expr, *, alarming=True, unit="short"):
    """A single number; one that must be 0 turns red above it."""
    steps = [models.Threshold(value=None, color="green"), *([models.Threshold(value=1, color="red")] if alarming else [])]
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .height(4)
        .span(WIDTH // 6)
        .no_value("0")
        .graph_mode(options.BigValueGraphMode.NONE)
        .color_mode(options.BigValueColorMode.VALUE if alarming else options.BigValueColorMode.NONE)
        .thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(query(expr, ""))
    )


def chart(title, description, *queries, span=WIDTH // 3, unit="short", most=None):
    """Lines over time: `queries` are pairs of an expression and a legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(PROMETHEUS)
        .unit(unit)
        .min(0)
        .height(HEIGHT)
        .span(span)
        .fill_opacity(0)
        .line_width(2)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(options.LegendDisplayMode.LIST).placement(options.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    )  # fmt: skip
    if most is not None:
        panel = panel.max(most)
    for expr, legend in queries:
        panel = panel.with_target(query(expr, legend))
    return panel


def now():
    """What must be known at a glance."""
    yield number("Rolled back", "Variants that give way to the default, in any proxy.",
                 f"count(max by (policy, rollout, variant) (mulkko_guard_rolled_back{OF_ROLLOUT}) == 1) or vector(0)")  # fmt: skip
    yield number("On hold", "Variants with evidence above 10 to 1: do not let them grow.",
                 f"count(max by (policy, rollout, variant) (mulkko_guard_hold{OF_ROLLOUT}) == 1) or vector(0)")  # fmt: skip
    yield number("Policies refused", "Policies whose newest document is refused; the last good one is in force.",
                 f"sum(max by (policy) (mulkko_policy_refused{OF_POLICY}))")  # fmt: skip
    yield number("Revisions in force", "Above 1 while a new policy spreads, and where it does not.",
                 f"max(count by (policy) (policy_revision:mulkko_proxies:count{OF_POLICY}))", alarming=False)  # fmt: skip
    yield number("Age of the policy", "Since a proxy last heard of the config cluster; of the proxy that has waited longest.",
                 f"max(policy:mulkko_policy_age_seconds:max{OF_POLICY})", alarming=False, unit="s")  # fmt: skip
    yield number("Proxies", "Proxies with a policy in force.",
                 f"count(mulkko_policy_revision{OF_POLICY})", alarming=False)  # fmt: skip


def rollouts():
    """Who gets what."""
    yield chart(
        "Shares, as intended and as given",
        "The part of the keys that the strategy gives each variant (dashed), and its part of the requests that the split decided.",
        (f"policy_rollout_variant:mulkko_split_requests:share5m{OF_ROLLOUT}", "{{rollout}} {{variant}}"),
        (f"policy_rollout_variant:mulkko_intended_share:ratio{OF_ROLLOUT}", "{{rollout}} {{variant}} intended"),
        unit="percentunit", most=1,
    ).override_by_regexp(
        "/ intended$/",
        [models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [6, 6]}),
         models.DynamicConfigValue(id_val="custom.lineWidth", value=1)],
    )  # fmt: skip
    yield chart(
        "Requests by variant", "Decisions per second.",
        (f"policy_rollout_variant:mulkko_requests:rate5m{OF_ROLLOUT}", "{{rollout}} {{variant}}"), unit="reqps",
    )  # fmt: skip
    yield chart(
        "Requests by reason", "Why they got their variants, per second.",
        (rate("mulkko_requests", "rollout, reason", OF_ROLLOUT), "{{rollout}} {{reason}}"), unit="reqps",
    )  # fmt: skip


def health():
    """How variants do."""
    ratio = "policy_rollout_variant_test:mulkko_guard_bad:ratio_rate5m"
    yield chart(
        "Error ratio by variant", "Of the requests that guards judged, those that failed.",
        (ratio + '{policy=~"$policy", rollout=~"$rollout", test="errors"}', "{{rollout}} {{variant}}"),
        span=WIDTH // 4, unit="percentunit",
    )  # fmt: skip
    yield chart(
        "Slow responses by variant", "Of the requests that guards judged, those above the default's p90 and p99.",
        (ratio + '{policy=~"$policy", rollout=~"$rollout", test=~"p.*"}', "{{rollout}} {{variant}} above {{test}}"),
        span=WIDTH // 4, unit="percentunit",
    )  # fmt: skip
    yield chart(
        "Latency by cluster, p99", "Envoy's own figure, of the clusters that variants lead to.",
        ("histogram_quantile(0.99, sum by (le, envoy_cluster_name) (rate(envoy_cluster_upstream_rq_time_bucket[$__rate_interval])))",
         "{{envoy_cluster_name}}"),
        span=WIDTH // 4, unit="ms",
    )  # fmt: skip
    evidence = chart(
        "Evidence against variants", "In decimal orders of magnitude. At the red line, 2,000 to 1, the default alpha rolls back.",
        (f"policy_rollout_variant:mulkko_guard_evidence_bans:max{OF_ROLLOUT}", "{{rollout}} {{variant}} {{comparison}}"),
        span=WIDTH // 4,
    )  # fmt: skip
    steps = [models.Threshold(value=None, color="green"), models.Threshold(value=1, color="orange"),
             models.Threshold(value=ROLLS_BACK_BANS, color="red")]  # fmt: skip
    line = common.GraphThresholdsStyleConfig().mode(options.GraphTresholdsStyleMode.LINE)
    yield evidence.thresholds(
        dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    ).thresholds_style(line)


def shadows():
    """What new versions would have answered."""
    yield chart(
        "Copies", "Requests that shadows picked, per second, by what became of their copies.",
        (rate("mulkko_shadow_requests", "rollout, outcome", OF_ROLLOUT), "{{rollout}} {{outcome}}"),
        span=WIDTH // 4, unit="reqps",
    )  # fmt: skip
    compared = '{policy=~"$policy", rollout=~"$rollout", outcome=~"equal|different"}'
    yield chart(
        "Answers that differ", "Of those that were compared, by kind, noise included.",
        (f"{rate('mulkko_shadow_differences', 'rollout, kind', OF_ROLLOUT)}"
         f" / on (rollout) group_left {rate('mulkko_shadow_requests', 'rollout', compared)}", "{{rollout}} {{kind}}"),
        span=WIDTH // 4, unit="percentunit",
    )  # fmt: skip
    yield chart(
        "Fields reported", "What differs by the evidence. `/.mulkko/shadow/<rollout>` names them.",
        (f"max by (policy, rollout) (mulkko_shadow_fields{OF_ROLLOUT})", "{{rollout}}"), span=WIDTH // 4,
    )  # fmt: skip
    yield chart(
        "Latency, p95", "Of answers that were compared: the user's, the shadow's, and another copy's of the stable version.",
        (f"histogram_quantile(0.95, {rate('mulkko_shadow_latency_milliseconds_bucket', 'le, rollout, answer', OF_ROLLOUT)})",
         "{{rollout}} {{answer}}"),
        span=WIDTH // 4, unit="ms",
    )  # fmt: skip


def policies():
    """What the fleet runs, and how it hears of it."""
    yield chart(
        "Revisions in the fleet", "Proxies by the revision in force.",
        (f"policy_revision:mulkko_proxies:count{OF_POLICY}", "{{policy}} revision {{revision}}"),
    )  # fmt: skip
    yield chart(
        "Fetches", "Answers of the config cluster, per second.",
        (rate("mulkko_fetches", "policy, outcome"), "{{policy}} {{outcome}}"), unit="reqps",
    )  # fmt: skip
    yield chart(
        "Policies taken and refused", "Documents, by what became of them.",
        (f"sum by (policy, outcome) (mulkko_policies{OF_POLICY})", "{{policy}} {{outcome}}"),
    )  # fmt: skip


def flags():
    """What flags resolve to, and who asks."""
    yield chart(
        "Exported flags", "What they resolved to, per second.",
        (rate("mulkko_flag_evaluations", "flag, variant, reason"), "{{flag}} {{variant}} {{reason}}"), span=WIDTH // 2, unit="reqps",
    )  # fmt: skip
    yield chart(
        "OFREP", "Answers per second, by status.",
        (rate("mulkko_ofrep_requests", "outcome"), "{{outcome}}"), span=WIDTH // 2, unit="reqps",
    )  # fmt: skip


def trouble():
    """What should stay flat."""
    yield chart(
        "Refused and dropped", "Passes that were not honoured, and decisions that baggage had no room for, per second.",
        (rate("mulkko_passes_refused", "policy"), "{{policy}} passes refused"),
        (rate("mulkko_baggage_members_dropped", "policy"), "{{policy}} baggage dropped"), span=WIDTH // 2,
    )  # fmt: skip
    yield chart(
        "Failures within the proxy", "Host calls that Envoy refused, and VMs that were made anew after a trap.",
        (f"sum by (policy, instance) (mulkko_hostcall_failures{OF_POLICY})", "{{policy}} {{instance}} host calls"),
        ("sum by (instance) (envoy_wasm_mulkko_vm_reload)", "{{instance}} VMs made anew"), span=WIDTH // 2,
    )  # fmt: skip


def whole():
    """The dashboard."""
    board = (
        dashboard.Dashboard("mulkko")
        .uid("mulkko")
        .description("Progressive delivery by mulkko: who gets what, how variants do, and what the fleet runs.")
        .tags(["mulkko", "envoy"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for name, metric in [("policy", "mulkko_policy_revision"), ("rollout", 'mulkko_requests{policy=~"$policy"}')]:
        board = board.with_variable(
            dashboard.QueryVariable(name).datasource(PROMETHEUS).query(f"label_values({metric}, {name})")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True).all_value(".+")
        )  # fmt: skip
    for title, panels in [
        ("Now", now), ("Rollouts", rollouts), ("Health", health), ("Dark launch", shadows), ("Policies", policies),
        ("Flags", flags), ("Trouble", trouble),
    ]:  # fmt: skip
        board = board.with_row(dashboard.Row(title))
        for panel in panels():
            board = board.with_panel(panel)
    built = board.build()
    for number, panel in enumerate(built.panels, 1):
        panel.id_val = number
    return built


if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2).encode(whole()))
