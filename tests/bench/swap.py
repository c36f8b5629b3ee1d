"""What it costs to take a policy: `make bench-swap`.

For policies of 500 kB and of 5 MB: how long requests of a steady load wait while policies are swapped, beside the same load
without; after what time a policy is in force; and how much memory a VM takes for it. A round is some seconds of load without
swaps, and as many with one every two seconds; the load is 1,000 requests a second, each due at its time whatever
becomes of those before.

    python tests/bench/swap.py --rounds 5 --out tests/bench
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "envoy"), str(TOP / "tests/envoy")]

from config_server import ConfigServer, policy_answer  # noqa: E402
from documents import canary, large_canary, source  # noqa: E402
from stage import Stage, wait_until  # noqa: E402

SIZES = {"500 kB": 500_000, "5 MB": 5_000_000}
SECONDS = 8
PER_SECOND = 1_000


def answer_at_once(bootstrap):
    """Envoy answers by itself: what an upstream costs is none of our business."""
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
    bootstrap.connection_manager["access_log"] = []


def latency_ms(stage):
    """The 99.9th percentile of a steady load's latency, in milliseconds, and the longest."""
    command = [sys.executable, TOP / "tests/bench/paced.py", str(stage.port), str(PER_SECOND), str(SECONDS)]
    took_ms = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(took_ms) >= 0.99 * PER_SECOND * SECONDS, len(took_ms)
    return statistics.quantiles(took_ms, n=1000)[-1], max(took_ms)


class Documents:
    """Policies of one size, each with the next revision, made without work while something is measured."""

    def __init__(self, size):
        self.template = json.dumps(large_canary(50, 1, size)).encode()
        self.size = len(self.template)
        self.revision = 0

    def answer(self):
        """The next one, as a config server answers with it."""
        self.revision += 1
        return policy_answer(self.template.replace(b'"revision": 1,', b'"revision": %d,' % self.revision, 1))


class Swaps:
    """Another policy every two seconds, for as long as the block lasts."""

    def __init__(self, config, documents):
        self.answers = [documents.answer() for _ in range(SECONDS // 2 + 1)]
        self.config = config
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()

    def _work(self):
        for answer in self.answers:
            self.config.answer = answer
            if self.stopped.wait(2):
                return


def wait_for(stage, documents):
    """Waits until the last of the documents is in force, as Envoy's figures say; gives the time (`time.monotonic()`)."""
    name = "wasmcustom.mulkko.policy=.=shop;.;policy_revision"
    wait_until(lambda: stage.stats("policy_revision").get(name) == documents.revision, "the policy", 30)
    return time.monotonic()


def rss_kb(pid):
    """The memory of a process that is resident, in kB."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])


def pauses(size, rounds):
    """Rounds of what the load saw without swaps and with: `(steady, swapped)`, each `(p99.9, longest)`; and the times from a
    policy's arrival to its being in force, in milliseconds.
    """
    documents = Documents(size)
    with ConfigServer(documents.answer()) as config:
        with Stage(plugin={"source": source()}, config_port=config.port, edit=answer_at_once, workers=1) as stage:
            wait_for(stage, documents)
            latency_ms(stage)
            found, took_ms = [], []
            for _ in range(rounds):
                steady = latency_ms(stage)
                with Swaps(config, documents):
                    swapped = latency_ms(stage)
                found.append((steady, swapped))
            for _ in range(10):
                seen = len(config.requests)
                config.answer = documents.answer()
                done = wait_for(stage, documents)
                arrived = next(it.at for it in config.requests[seen:] if it.status == 200)
                took_ms.append((done - arrived) * 1000)
    return found, took_ms


def memory(size):
    """What a worker's VM takes for a policy, in bytes for each of the document's: once it is in force, and after four more.

    It is what Envoys with nine workers have more than those with one: what all workers share is in both.
    """
    documents, found = Documents(size), []
    for workers in (1, 9):
        with ConfigServer(policy_answer(canary(50, 0))) as config:
            with Stage(plugin={"source": source()}, config_port=config.port, edit=answer_at_once, workers=workers) as stage:
                settle(stage)
                sizes_kb = [rss_kb(stage.envoy.pid)]
                for _ in range(5):
                    config.answer = documents.answer()
                    wait_for(stage, documents)
                    settle(stage)
                    sizes_kb.append(rss_kb(stage.envoy.pid))
                found.append([(kb - sizes_kb[0]) * 1024 / documents.size for kb in (sizes_kb[1], sizes_kb[-1])])
        documents.revision = 0
    (first_one, last_one), (first_nine, last_nine) = found
    return (first_nine - first_one) / 8, (last_nine - last_one) / 8


def settle(stage):
    """Waits until the process's memory stays as it is for a second."""
    seen = []

    def settled():
        seen.append((time.monotonic(), rss_kb(stage.envoy.pid)))
        recent = [kb for at, kb in seen if at > time.monotonic() - 1]
        return seen[0][0] < time.monotonic() - 1 and max(recent) - min(recent) < 64

    wait_until(settled, "the memory", 30)


def main():
    """Measures, prints the table, and writes it."""
    parser = argparse.ArgumentParser(description="Measure what it costs to take a policy.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="the folder of swap.md")
    asked = parser.parse_args()
    lines = [
        "| policy | p99.9 of the load, steady | while swapped | longest request | in force after, median | longest | memory of a VM, times the document | after four more |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, size in SIZES.items():
        found, took_ms = pauses(size, asked.rounds)
        steady = statistics.median(steady for (steady, _), _ in found)
        swapped = statistics.median(swapped for _, (swapped, _) in found)
        longest = max(longest for _, (_, longest) in found)
        first, last = memory(size)
        lines.append(
            f"| {name} | {steady:.1f} ms | {swapped:.1f} ms | {longest:.1f} ms | {statistics.median(took_ms):.0f} ms"
            f" | {max(took_ms):.0f} ms | {first:.1f} | {last:.1f} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out:
        (asked.out / "swap.md").write_text(f"{asked.rounds} rounds of {SECONDS} s without swaps and with.\n\n{text}")


if __name__ == "__main__":
    main()
