"""What mulkko costs a request, how fast a policy is in force, flags are answered and a canary is rolled back: `make bench`,
some twelve minutes.

The cost is Envoy's own CPU time per request, in Envoys that differ in the filter alone: none, `noop` (a wasm filter that
does nothing), `calls` (one that makes mulkko's host calls and decides nothing) and mulkko with one rollout. Their runs
are interleaved, each round begins with another, and differences are taken within a round, so that a machine that slows
down slows all of them. Filters that are not built are left out, and said to be. What a guard adds is little
beside the noise, and Envoys that were started alike differ, too: it comes from many pairs of short slices, in five pairs
of Envoys.
"""

import contextlib
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "envoy"))

from config_server import ConfigServer, policy_answer  # noqa: E402
from documents import canary, guarded, large_canary, source, user  # noqa: E402
from guards import roll_back_for_errors, roll_back_for_latency  # noqa: E402
from stage import WASM, Stage, in_force, wait_until  # noqa: E402

ROUNDS = 12
SECONDS = 2
OTHERS = {name: WASM.parent / "examples" / f"{name}.wasm" for name in ("noop", "calls")}


def answer_at_once(bootstrap):
    """Envoy answers by itself: what an upstream costs is none of our business."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
    bootstrap.connection_manager["access_log"] = []


def without_filter(bootstrap):
    """Envoy alone."""
    answer_at_once(bootstrap)
    bootstrap.filters[:] = [item for item in bootstrap.filters if item["name"] != "mulkko"]


def with_other(wasm):
    """Another plugin in mulkko's place."""

    def edit(bootstrap):
        answer_at_once(bootstrap)
        bootstrap.wasm["vm_config"]["code"]["local"]["filename"] = str(wasm)

    return edit


def cpu_us(pid):
    """The CPU time that a process has used, in microseconds."""
    # Its clock's number, as clock_getcpuclockid(3) makes it. /proc says it in ticks of 10 ms: too coarse for a slice.
    return time.clock_gettime_ns(~pid << 3 | 2) / 1000


def cpu_per_request_us(stage, *options, seconds=SECONDS):
    """Sends requests for some seconds, of one user unless wrk's options say otherwise; gives Envoy's CPU time for each,
    in microseconds.
    """
    options = options or ("-H", ": ".join(user(1)))
    before = cpu_us(stage.envoy.pid)
    output = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{seconds}s", "-H", "host: shop.example.com", *options,
         f"http://127.0.0.1:{stage.port}/checkout"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "Non-2xx" not in output, output
    return (cpu_us(stage.envoy.pid) - before) / int(re.search(r"(\d+) requests in", output)[1])


def cost():
    """Prints what each filter adds to a request."""
    with contextlib.ExitStack() as cleanup:
        filters = {"none": without_filter}
        for name, wasm in OTHERS.items():
            if wasm.exists():
                filters[name] = with_other(wasm)
            else:
                print(f"{wasm} is not built: left out")
        filters["mulkko"] = answer_at_once
        stages = {
            name: cleanup.enter_context(Stage(policy=canary(50), plugin={"source": source(poll="5s")}, edit=edit))
            for name, edit in filters.items()
        }
        stages["mulkko"].wait_for_metric("policy_revision", 1)
        names = list(stages)
        rounds = []
        for i in range(ROUNDS):
            order = names[i % len(names) :] + names[: i % len(names)]
            rounds.append({name: cpu_per_request_us(stages[name]) for name in order})
    print(f"\nEnvoy's CPU time per request, {ROUNDS} rounds of {SECONDS} s, in microseconds\n")
    print(f"{'filter':<10}{'median':>10}{'added':>10}   added, from 1st to 3rd quartile")
    for name in names:
        added = [found[name] - found["none"] for found in rounds]
        low, middle, high = statistics.quantiles(added, n=4)
        print(
            f"{name:<10}{statistics.median(found[name] for found in rounds):>10.1f}{middle:>10.1f}   {low:.1f} to {high:.1f}"
        )


PAIRS, SLICES = 5, 8
USERS = """local i = 0; request = function() i = i + 1; return wrk.format(nil, nil, {["x-user-id"] = "user-" .. i}) end"""


def unguarded(policy):
    """The policy without its guard."""
    del policy["rollouts"][0]["guard"]
    return policy


def interval(values):
    """Between which two of the values their median lies, with 95 % confidence, whatever their distribution: so many lie
    below it as heads come up when as many coins are tossed.
    """
    values, rank, below = sorted(values), 0, 1
    while below <= 0.025 * 2 ** len(values):
        rank += 1
        below += math.comb(len(values), rank)
    return values[rank - 1], values[-rank]


def guard_slices(key, script):
    """What requests cost without a guard and with one, slice by slice, in microseconds, in Envoys that live as long."""
    policies = {"without": unguarded(guarded(50, key=key)), "with": guarded(50, key=key)}
    with contextlib.ExitStack() as cleanup:
        stages = {
            name: cleanup.enter_context(Stage(policy=policy, plugin={"source": source(poll="5s")}, edit=answer_at_once))
            for name, policy in policies.items()
        }
        for stage in stages.values():
            stage.wait_for_metric("policy_revision", 1)
            # Until V8 has compiled all of it, and a guard knows what is slow.
            cpu_per_request_us(stage, "-s", script)
        slices = []
        for i in range(SLICES):
            order = list(stages) if i % 2 else reversed(stages)
            slices.append({name: cpu_per_request_us(stages[name], "-s", script, seconds=1) for name in order})
        assert stages["with"].metric("guard_requests", test="p99", variant="canary") > 0
        assert stages["with"].metric("guard_rolled_back") == 0
    return slices


def guard_cost():
    """Prints what a guard adds to a request that Envoy answers by itself: to others it adds as much, in less proportion."""
    print(f"\nEnvoy's CPU time per request without and with a guard, {PAIRS * SLICES} pairs of slices of 1 s, in microseconds\n")
    print(f"{'key':<10}{'without':>10}{'with':>8}{'added':>8}{'ratio':>8}   the ratio's median, with 95 % confidence")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "users.lua"
        script.write_text(USERS)
        for key in ("request", "user"):
            slices = [each for _ in range(PAIRS) for each in guard_slices(key, script)]
            without, with_one = (statistics.median(each[name] for each in slices) for name in ("without", "with"))
            added = statistics.median(each["with"] - each["without"] for each in slices)
            ratios = [each["with"] / each["without"] for each in slices]
            low, high = interval(ratios)
            print(
                f"{key:<10}{without:>10.1f}{with_one:>8.1f}{added:>8.1f}{statistics.median(ratios):>8.3f}   {low:.3f} to {high:.3f}"
            )


def update(size, updates):
    """Prints how long after its arrival a policy is in force on all workers, and how long a request took meanwhile."""
    with ConfigServer(policy_answer(canary(100, 1))) as config:
        with Stage(plugin={"source": source()}, config_port=config.port) as stage:
            stage.wait_for_all_workers(in_force(1))
            took_ms, longest_ms = [], 0
            with stage.connection_per_worker() as connections:
                for revision in range(2, updates + 2):
                    seen = len(config.requests)
                    config.answer = policy_answer(large_canary(100, revision, size))
                    for connection in connections:
                        answer = connection.get("/checkout", ("x-echo", "1"))
                        deadline = time.monotonic() + 10
                        while not in_force(revision)(answer.echo):
                            assert time.monotonic() < deadline, stage.log()
                            answer = connection.get("/checkout", ("x-echo", "1"))
                            longest_ms = max(longest_ms, (answer.received - answer.sent) * 1000)
                    arrived = next(request.at for request in config.requests[seen:] if request.status == 200)
                    took_ms.append((time.monotonic() - arrived) * 1000)
    bytes_ = len(json.dumps(large_canary(100, 1, size)))
    print(f"\nA policy of {bytes_ // 1000} kB, from its arrival to being in force on all {stage.workers} workers:")
    print(f"median of {updates} {statistics.median(took_ms):.0f} ms, longest {max(took_ms):.0f} ms;", end=" ")
    print(f"the slowest request meanwhile took {longest_ms:.0f} ms")


def flags(count):
    """A policy of so many flags with targeting, each like those of a growing feature."""
    rule = {"and": [{"in": [{"var": "country"}, ["de", "fr", "it", "kr"]]}, {"sem_ver": [{"var": "version"}, ">=", "2.1"]}]}
    targeting = {"if": [rule, {"fractional": [["on", 10], ["off", 90]]}]}
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": targeting}
    return {**canary(50), "flags": {f"feature-{i}": flag for i in range(count)}}


CONTEXT = json.dumps({"context": {"targetingKey": "user-1", "country": "kr", "version": "2.1.0"}})
POST = f"""wrk.method = "POST"; wrk.body = '{CONTEXT}'; wrk.headers["content-type"] = "application/json" """


def ask(connection, path):
    """Asks once for what is measured."""
    return connection.send("POST", path, body=CONTEXT.encode())


def answered(stage, path, *options):
    """Asks for some seconds; gives answers per second, and the time within which 99 of 100 came, in milliseconds."""
    output = subprocess.run(
        ["wrk", "-t1", "-c16", f"-d{SECONDS}s", "--latency", *options, f"http://127.0.0.1:{stage.port}{path}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "Non-2xx" not in output, output
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()
    per_second = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    return per_second, float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def ofrep():
    """Prints how fast flags are answered, beside answers of Envoy's own that are as large."""
    paths = {"one flag": "/ofrep/v1/evaluate/flags/feature-1", "100 flags": "/ofrep/v1/evaluate/flags"}
    sizes = {}

    def answer_as_much(bootstrap):
        answer_at_once(bootstrap)
        routes = bootstrap.connection_manager["route_config"]
        routes["max_direct_response_body_size_bytes"] = 1 << 20
        routes["virtual_hosts"][0]["routes"] = [
            {"match": {"path": f"/{len(name)}"}, "direct_response": {"status": 200, "body": {"inline_string": "x" * size}}}
            for name, size in sizes.items()
        ] + routes["virtual_hosts"][0]["routes"]

    plugin = {"source": source(poll="5s"), "trust": "mesh", "ofrep": {"prefix": "/ofrep/v1"}}
    with Stage(policy=flags(100), plugin=plugin) as stage:
        stage.wait_for_all_workers(in_force(1), headers=[user(0)])
        for name, path in paths.items():
            sizes[name] = len(ask(stage.connect(), path).body)
    with Stage(policy=flags(100), plugin=plugin, edit=answer_as_much) as stage:
        with stage.connection_per_worker() as connections:
            for connection in connections:
                wait_until(lambda connection=connection: ask(connection, paths["one flag"]).status == 200, "a flag")
        script = stage.folder / "post.lua"
        script.write_text(POST)
        # Envoy's own are for GETs: it would answer a POST before its body is there, and close the connection.
        own = {f"{size} bytes of Envoy's own": (f"/{len(name)}",) for name, size in sizes.items()}
        targets = {**{name: (path, "-s", script) for name, path in paths.items()}, **own}
        found = {name: [] for name in targets}
        for i in range(ROUNDS):
            for name in list(targets)[i % 2 :: 2] + list(targets)[1 - i % 2 :: 2]:
                found[name].append(answered(stage, *targets[name]))
    print(f"\nFlags for a context, and GETs that Envoy answers, 16 connections, {ROUNDS} rounds of {SECONDS} s, medians\n")
    print(f"{'answer':<30}{'per second':>12}{'99 % within':>14}")
    for name, rounds in found.items():
        per_second, within_ms = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:<30}{per_second:>12,.0f}{within_ms:>11.2f} ms")


def rollbacks(runs):
    """Prints how many of a canary's requests, and how many seconds, a rollback takes from the onset of a failure."""
    print(f"\nFrom the onset of a canary's failure, at 5 % of 200 requests a second, to its rollback on both workers, {runs} runs\n")
    print(f"{'failure':<34}{'requests, median':>18}{'fewest':>8}{'most':>6}{'failed':>8}{'seconds':>9}")
    for what, key, fail in [
        ("20 % errors, by request", "request", roll_back_for_errors),
        ("20 % errors, by user", "user", roll_back_for_errors),
        ("twice the latency, by user", "user", roll_back_for_latency),
    ]:
        found = []
        for run in range(runs):
            with Stage(policy=guarded(5, key=key), plugin={"source": source()}) as stage:
                stage.wait_for_all_workers(in_force(1))
                found.append(fail(stage, run))
        requests = [rollback.requests for rollback in found]
        failed = statistics.median(rollback.failed for rollback in found)
        seconds = statistics.median(rollback.seconds for rollback in found)
        print(
            f"{what:<34}{statistics.median(requests):>18.0f}{min(requests):>8}{max(requests):>6}{failed:>8.0f}{seconds:>9.1f}"
        )


if __name__ == "__main__":
    rollbacks(9)
    cost()
    guard_cost()
    ofrep()
    update(100_000, 20)
    update(4_000_000, 5)
