"""How fast flags are answered, and how soon a canary is rolled back: `make bench-envoy`, some six minutes.

What a request costs, and a policy, `tests/bench` measures.
"""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "envoy"))

from documents import canary, guarded, source, user  # noqa: E402
from guards import roll_back_for_errors, roll_back_for_latency  # noqa: E402
from stage import Stage, in_force, wait_until  # noqa: E402

ROUNDS = 12
SECONDS = 2


def answer_at_once(bootstrap):
    """Envoy answers by itself: what an upstream costs is none of our business."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
    bootstrap.connection_manager["access_log"] = []


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
    ofrep()
