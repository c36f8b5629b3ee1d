"""What a shadow costs the requests that it copies: `make bench-shadow`, some seven minutes.

Envoy, two workers, in front of nginx, which plays the versions of a service: JSON of 1 kB, and of 60 kB. Steady requests,
without a shadow and with it, in rounds whose order changes; the ratios are of a round's own figures.
"""

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "envoy"), str(TOP / "tests/envoy")]

from documents import source  # noqa: E402
from shadows import add_secondary, compared, shadowed  # noqa: E402
from stage import Stage, free_port, in_force, listens, wait_until  # noqa: E402

ROUNDS = 12
SECONDS = 3
PER_SECOND = 300
ITEMS = {1: 20, 60: 1_090}
NONE = "no shadow"
SHADOWS = {
    NONE: shadowed(percent=0),
    "mirror, 100 %": shadowed(),
    "compare, 10 %": compared(compare={}, percent=10),
    "compare, 100 %": compared(compare={}),
    "compare, 100 %, and a secondary": compared(),
}


@contextlib.contextmanager
def services(folder, kb):
    """nginx as all versions, which answer so many kB; gives their port."""
    port = free_port()
    items = [{"sku": f"sku-{i}", "price": 10 * i, "name": "kimchi"} for i in range(ITEMS[kb])]
    (folder / "answer").write_text(json.dumps({"items": items, "total": 1_900}))
    echo = json.dumps({"headers": [["x-mark", "1"]]})
    (folder / "nginx.conf").write_text(f"""
        worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit; events {{}}
        http {{
          access_log off; keepalive_requests 1000000; client_body_temp_path {folder}; proxy_temp_path {folder};
          fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
          server {{
            listen 127.0.0.1:{port}; default_type application/json;
            if ($http_x_echo) {{ return 200 '{echo}'; }}
            root {folder};
            location / {{ rewrite ^ /answer break; }}
          }}
        }}""")
    process = subprocess.Popen(["/usr/sbin/nginx", "-c", folder / "nginx.conf", "-g", "daemon off;"])
    try:
        wait_until(lambda: listens(port), "nginx")
        yield port
    finally:
        process.terminate()
        process.wait()


def took_ms(stage):
    """How long the median and the 99th of 100 requests take."""
    command = [sys.executable, TOP / "tests/bench/paced.py", str(stage.port), str(PER_SECOND), str(SECONDS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cuts = statistics.quantiles(json.loads(output), n=100)
    return cuts[49], cuts[98]


def interval(ratios):
    """The median of ratios, and where it lies in 95 of 100 samples of as many of them."""
    dice = random.Random(0)
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(2_000))
    return f"{statistics.median(ratios):.2f} ({medians[50]:.2f} to {medians[-51]:.2f})"


def measure(kb, rounds):
    """Prints the table for answers of so many kB."""
    with contextlib.ExitStack() as cleanup:
        stages = {}
        for name, policy in SHADOWS.items():
            stage = Stage(policy=policy, plugin={"source": source(poll="5s")}, edit=add_secondary)
            stages[name] = cleanup.enter_context(with_services(cleanup, stage, kb))
            stages[name].wait_for_all_workers(in_force(1))
        found = {name: [] for name in stages}
        for i in range(rounds + 1):
            names = list(stages)
            random.Random(i).shuffle(names)
            for name in names:
                times = took_ms(stages[name])
                # The first round warms up.
                if i:
                    found[name].append(times)
        stage = stages["compare, 100 %, and a secondary"]
        compared_of = stage.metric("shadow_requests", outcome="equal"), stage.metric("shadow_requests")
    print(f"\n{PER_SECOND} requests a second for {kb} kB, {rounds} rounds of {SECONDS} s\n")
    print("| shadow | median | 99 % within | ratio of medians | ratio of 99 % |\n|---|---|---|---|---|")
    for name, times in found.items():
        median, within = (statistics.median(column) for column in zip(*times, strict=True))
        ratios = [
            interval([own[i] / other[i] for own, other in zip(times, found[NONE], strict=True)]) for i in (0, 1)
        ]
        print(f"| {name} | {median:.2f} ms | {within:.2f} ms | {ratios[0]} | {ratios[1]} |")
    print(f"\nWith a secondary {compared_of[0]:.0f} of {compared_of[1]:.0f} copies were compared, and equal.", flush=True)


def main():
    """Measures for both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    for kb in ITEMS:
        measure(kb, rounds)


def with_services(cleanup, stage, kb):
    """The stage, with nginx as its services."""
    folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
    port = cleanup.enter_context(services(folder, kb))
    stage.endpoints = dict.fromkeys(("checkout-v1", "checkout-v2", "checkout-v1b"), port)
    return stage


if __name__ == "__main__":
    main()
