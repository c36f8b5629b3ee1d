"""What mulkko adds to a request: `make bench-price` writes the table and the picture that the README quotes.

All filters stand in one Envoy, each on a listener of its own that answers by itself (`direct_response`), so that a filter is
all that is measured. The measure is the CPU time of the whole process per request. Rounds are short; in each, every filter
has one slice, in an order that changes, and ratios are taken within a round: what slows the machine slows both. Given are
medians, and the interval in which the median lies with 95 % confidence.

    python tests/bench/price.py --rounds 400 --out tests/bench
"""

import argparse
import copy
import itertools
import json
import math
import socket
import statistics
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "envoy"), str(TOP / "tests/envoy")]

from documents import canary  # noqa: E402
from stage import EXAMPLES, WASM, Stage  # noqa: E402

HOST = "shop.example.com"
CONNECTIONS = 64
# Requests that each connection sends in a slice, one after another: some 20 ms of Envoy's.
TURNS = 12
# Each request is another user's, of so many.
USERS = 10_000

# The same split in Lua, as far as it goes: a sticky share by the user's id, the variant in a header, for the route, and in
# baggage, and in the stream's metadata for the access log.
LUA = """
local bit = require("bit")
function envoy_on_request(handle)
  local headers = handle:headers()
  headers:remove("x-mulkko-checkout-v2")
  local user = headers:get("x-user-id")
  local variant = "stable"
  if user then
    local hash = 2166136261
    for i = 1, #user do
      hash = bit.tobit(bit.bxor(hash, string.byte(user, i)) * 16777619)
    end
    if bit.band(hash, 1023) < 512 then variant = "canary" end
  end
  headers:replace("x-mulkko-checkout-v2", variant)
  if variant == "canary" then headers:replace("x-mulkko-cluster", "checkout-v2") end
  local baggage = headers:get("baggage")
  local member = "mulkko.checkout-v2=" .. variant
  headers:replace("baggage", baggage and (baggage .. "," .. member) or member)
  handle:streamInfo():dynamicMetadata():set("mulkko", "checkout-v2", variant)
end
"""


def split(rollouts=1, hosts=1):
    """A canary at 50 % for the requests that are sent, and others beside it, on so many hosts."""
    policy = canary(50)
    [template] = policy["rollouts"]
    for variant in template["variants"].values():
        variant.pop("headers")
    template["hostnames"] = [HOST]
    policy["rollouts"] += [
        {
            **template,
            "name": f"other-{i}",
            "hostnames": [HOST if hosts == 1 else f"host-{i % (hosts - 1)}.example.com"],
            "matches": [{"path": {"value": f"/other-{i}"}}],
        }
        for i in range(1, rollouts)
    ]
    return policy


def with_flags(count):
    """`split` with so many flags that requests carry upstream, each with a rule and a split."""
    targeting = {"if": [{"==": [{"var": "request.headers.x-region"}, "kr"]}, "on", {"fractional": [["on", 10], ["off", 90]]}]}
    flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off", "targeting": targeting,
            "metadata": {"mulkko.export": True}}  # fmt: skip
    return {**split(), "flagKey": "user", "flags": {f"flag-{i}": flag for i in range(count)}}


def with_guard():
    """`split` under a guard."""
    return {**split(), "rollouts": [{**split()["rollouts"][0], "guard": {}}]}


FOLLOWED = "baggage: tenant=7,mulkko.checkout-v2=canary\r\n"

# What stands in each listener: a policy and the headers beside the user's, or another filter.
PLUGINS = {
    "1 rollout": (split(), {}, ""),
    "10 rollouts": (split(10), {}, ""),
    "10,000 rollouts": (split(10_000), {}, ""),
    "100 hosts": (split(100, 100), {}, ""),
    "20 flags exported": (with_flags(20), {}, ""),
    "guard on": (with_guard(), {}, ""),
    "mesh, followed": (split(), {"trust": "mesh"}, FOLLOWED),
}
OTHERS = ["no filter", "no-op", "same host calls", "Lua"]
NAMES = [*OTHERS, *PLUGINS]
WARM_UP = 20
# What is compared, and how much dearer it may be.
GOALS = [
    ("1 rollout", "same host calls", 1.3),
    ("10,000 rollouts", "10 rollouts", 1.1),
    ("guard on", "1 rollout", 1.1),
    ("1 rollout", "Lua", 1.0),
    ("1 rollout", "no-op", None),
]


def listeners(bootstrap):
    """One listener for each name, in place of the only one."""
    template = bootstrap.listener
    mulkko = copy.deepcopy(next(item for item in bootstrap.filters if item["name"] == "mulkko"))
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    bootstrap.connection_manager["route_config"]["virtual_hosts"][0]["routes"] = [route]
    bootstrap.connection_manager["access_log"] = []
    bootstrap.filters.remove(next(item for item in bootstrap.filters if item["name"] == "mulkko"))

    def wasm(name, file, configuration):
        added = copy.deepcopy(mulkko)
        config = added["typed_config"]["config"]
        config["name"] = config["vm_config"]["vm_id"] = name
        config["vm_config"]["code"]["local"]["filename"] = str(file)
        config["configuration"]["value"] = json.dumps(configuration)
        return added

    filters = {"no filter": []}
    for name, example in [("no-op", "noop"), ("same host calls", "calls")]:
        filters[name] = [wasm(name, EXAMPLES / f"{example}.wasm", {})]
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua", "default_source_code": {"inline_string": LUA}}
    filters["Lua"] = [{"name": "lua", "typed_config": lua}]
    for name, (policy, configuration, _) in PLUGINS.items():
        filters[name] = [wasm(name, WASM, {"name": "shop", "policy": policy, **configuration})]
    found = []
    for name in NAMES:
        listener = copy.deepcopy(template)
        listener["name"] = name
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = filters[name] + manager["http_filters"]
        found.append(listener)
    # The stage asks for a listener of this name.
    found[0]["name"] = "edge"
    bootstrap.document["static_resources"]["listeners"] = found


def cpu_us(pid):
    """The CPU time that a process has used, in microseconds."""
    # Its clock's number, as clock_getcpuclockid(3) makes it. /proc says it in ticks of 10 ms: too coarse for a slice.
    return time.clock_gettime_ns(~pid << 3 | 2) / 1000


class Load:
    """Connections to a listener, and requests that are ready to be sent."""

    def __init__(self, port, more):
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        request = f"GET /checkout HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: bench\r\naccept: */*\r\n{more}x-user-id: user-"
        self.requests = itertools.cycle([f"{request}{i}\r\n\r\n".encode() for i in range(USERS)])
        self.sockets[0].sendall(f"{request}0\r\n\r\n".encode())
        # All answers are alike: none has a body, and the date is always as long.
        self.answer = len(self.sockets[0].recv(4_096))

    def cpu_us(self, pid):
        """Has every connection send its share; gives the CPU time of each request, in microseconds."""
        before = cpu_us(pid)
        for _ in range(TURNS):
            for connection in self.sockets:
                connection.send(next(self.requests))
            for connection in self.sockets:
                answer = connection.recv(4_096)
                assert len(answer) == self.answer and answer.startswith(b"HTTP/1.1 200 "), answer
        return (cpu_us(pid) - before) / (CONNECTIONS * TURNS)


def measure(rounds):
    """The rounds: what a request cost under each name, in microseconds."""
    with Stage(edit=listeners, workers=1) as stage:
        pid = stage.envoy.pid
        loads = {name: Load(stage.ports["edge" if name == NAMES[0] else name], PLUGINS.get(name, ("", "", ""))[2]) for name in NAMES}
        found = []
        # Of the first rounds V8 compiles what runs often.
        for i in range(-WARM_UP, rounds):
            order = NAMES[i % len(NAMES) :] + NAMES[: i % len(NAMES)]
            order = order[:: 1 if i % 2 else -1]
            found.append({name: loads[name].cpu_us(pid) for name in order})
        # All has happened that was to be measured.
        sent = (rounds + WARM_UP) * CONNECTIONS * TURNS
        assert stage.metric("requests", reason="SPLIT") >= sent * (len(PLUGINS) - 1)
        assert stage.metric("requests", reason="FOLLOWED") >= sent
        assert stage.metric("flag_evaluations") >= 20 * sent
        assert stage.metric("guard_rolled_back") == 0, stage.log()
        judged = stage.metric("guard_requests", test="p99", variant="canary")
        assert rounds < 300 or judged > 0
    return found[WARM_UP:]


def interval(values):
    """Between which two of the values their median lies, with 95 % confidence, whatever their distribution: so many lie
    below it as heads come up when as many coins are tossed.
    """
    values, rank, below = sorted(values), 0, 1
    while below <= 0.025 * 2 ** len(values):
        rank += 1
        below += math.comb(len(values), rank)
    return values[rank - 1], values[-rank]


def told(values, digits):
    """A median and its interval."""
    low, high = interval(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(rounds):
    """The figures, as Markdown."""
    none = [each["no filter"] for each in rounds]
    lines = ["| filter | CPU per request, µs | added, µs |", "|---|---|---|"]
    for name in NAMES:
        added = [each[name] - each["no filter"] for each in rounds]
        what = "—" if name == "no filter" else told(added, 1)
        lines.append(f"| {name} | {statistics.median(each[name] for each in rounds):.1f} | {what} |")
    lines += ["", "| ratio | of all CPU per request | of what is added | goal |", "|---|---|---|---|"]
    for one, other, goal in GOALS:
        whole = [each[one] / each[other] for each in rounds]
        added = [(each[one] - base) / (each[other] - base) for each, base in zip(rounds, none, strict=True)]
        lines.append(f"| {one} to {other} | {told(whole, 2)} | {told(added, 2)} | {goal or '—'} |")
    return "\n".join(lines) + "\n"


def picture(rounds, file):
    """The same as a picture."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    # The same figures make the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "mulkko", "svg.fonttype": "none", "font.family": "sans-serif"})
    shown = NAMES[1:]
    added = {name: [each[name] - each["no filter"] for each in rounds] for name in shown}
    medians = [statistics.median(added[name]) for name in shown]
    bounds = [interval(added[name]) for name in shown]
    errors = [[m - low for m, (low, _) in zip(medians, bounds)], [high - m for m, (_, high) in zip(medians, bounds)]]
    colors = ["#999999" if name in OTHERS else "#0072b2" for name in shown]
    figure, axes = plt.subplots(figsize=(8, 4))
    axes.barh(shown, medians, xerr=errors, color=colors, ecolor="#444444", capsize=3)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time added to a request, µs: medians, and their 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})


def main():
    """Measures, prints the table, and writes it and the picture."""
    parser = argparse.ArgumentParser(description="Measure what mulkko adds to a request.")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--out", type=Path, help="the folder of price.md and price.svg")
    asked = parser.parse_args()
    rounds = measure(asked.rounds)
    text = table(rounds)
    print(text)
    if asked.out:
        (asked.out / "price.md").write_text(f"{len(rounds)} rounds of {CONNECTIONS * TURNS} requests to each, one worker.\n\n{text}")
        picture(rounds, asked.out / "price.svg")


if __name__ == "__main__":
    main()
