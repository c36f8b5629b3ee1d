"""How soon a push is in force: `make bench-push`.

`mulkko serve` and a real Envoy whose plugin waits for news (`wait`). A push of 100 kB, signed or not, is timed from its first
byte until all workers decide by it, which one connection to each asks as fast as it can.

    python tests/bench/push.py --pushes 300
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import requests

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "envoy"), str(TOP / "tests/envoy")]

from documents import large_canary, source, user  # noqa: E402
from serve import TOKEN, Serve  # noqa: E402
from stage import COMMAND, Stage, in_force  # noqa: E402

SIZE = 100_000
PATH = "/v1/policies/shop"


def documents(server, count, signed):
    """As many policies of 100 kB, each with the next revision, as they are pushed; and what the plugin verifies them with."""
    texts = [json.dumps(large_canary(50, revision, SIZE)) for revision in range(1, count + 1)]
    if not signed:
        return texts, {}
    key = json.loads(server.run("keygen", "--kid", "bench", "--format", "json").stdout)
    environment = {"MULKKO_SIGNING_KEY": json.dumps(key["private"])}
    tokens = [server.run("sign", "-", environment=environment, input=text).stdout for text in texts]
    return tokens, {"verify": [key["verify"]]}


def latencies_ms(workers, pushes, signed):
    """From the start of each push to the moment when the last worker was found to decide by it, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder, Serve(Path(folder) / "store", COMMAND) as server:
        texts, plugin = documents(server, pushes + 1, signed)
        session = requests.Session()
        session.headers.update({"authorization": f"Bearer {TOKEN}"})
        assert session.put(server.url + PATH, data=texts[0], headers={"if-none-match": "*"}).status_code == 201
        plugin["source"] = source(path=PATH, wait="30s", poll="5s", timeout="2s")
        took = []
        with Stage(config_port=server.port, workers=workers, plugin=plugin) as stage:
            stage.wait_for_all_workers(in_force(1), headers=[user(1)])
            with stage.connection_per_worker() as connections:
                for revision, text in enumerate(texts[1:], 2):
                    holds = in_force(revision)
                    started = time.perf_counter()
                    assert session.put(server.url + PATH, data=text, headers={"if-match": "*"}).status_code == 201
                    for connection in connections:
                        while not holds(connection.get("/checkout", ("x-echo", "1"), user(1)).echo):
                            assert time.perf_counter() - started < 10, stage.log()
                    took.append((time.perf_counter() - started) * 1000)
        return took


def main():
    """Prints a line for each set-up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=300)
    pushes = parser.parse_args().pushes
    print(f"{pushes} pushes of 100 kB, until all workers decide by them\n")
    print("| workers | signed | median | p99 | longest |\n|---|---|---|---|---|", flush=True)
    for workers, signed in (2, False), (2, True), (4, True):
        took = latencies_ms(workers, pushes, signed)
        p99 = statistics.quantiles(took, n=100)[98]
        figures = " | ".join(f"{ms:.0f} ms" for ms in (statistics.median(took), p99, max(took)))
        print(f"| {workers} | {'yes' if signed else 'no'} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
