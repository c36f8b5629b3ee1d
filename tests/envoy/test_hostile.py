"""Requests that mean harm: they reach the plugin, and every worker lives on."""

import contextlib

import pytest
from documents import canary, user
from stage import in_force, load_policy, marked

MANY = [(f"x-h-{i}", "v") for i in range(150)]
BAGGAGE_OF_THE_WORLD = ",".join(f"k{i}=v" for i in range(400))

# What Envoy lets through: it answers 400 by itself where a path or a host is not ASCII.
HOSTILE = {
    "a header that is not UTF-8": ("/checkout", [("x-user-id", b"\xff\xfe\x80"), ("user-agent", b"\xc3\x28")]),
    "a cookie that is not UTF-8": ("/", [("cookie", b"mulkko_id=\xff\xff; \x80=\x80")]),
    "an empty key": ("/checkout", [("x-user-id", "")]),
    "a key of 70 kB": ("/checkout", [("x-user-id", "u" * 70_000)]),
    "duplicates": ("/checkout", [("x-user-id", "a"), ("x-user-id", "b"), ("X-User-Id", b"\xff")] * 20),
    "60 kB of cookies": ("/", [("cookie", "; ".join(f"c{i}={'v' * 50}" for i in range(1000)))]),
    "a thousand cookie headers' worth": (
        "/",
        [("cookie", "mulkko_id=" + "=" * 20), ("cookie", ";;;=;=;;"), ("cookie", "")],
    ),
    "150 headers": ("/checkout", MANY),
    "spoofed decisions": (
        "/checkout",
        [("x-mulkko-checkout-v2", "canary"), ("X-MULKKO-CLUSTER", "config"), ("x-mulkko-", "x")],
    ),
    "spoofed decisions, not UTF-8": ("/checkout", [("x-mulkko-checkout-v2", b"\xff"), ("x-mulkko-cluster", b"\x80")]),
    "a hundred spoofed headers": ("/checkout", [(f"x-mulkko-r{i}", "v") for i in range(100)]),
    "spoofed baggage": ("/checkout", [("baggage", "mulkko.checkout-v2=canary, a=b;p=1 , mulkko.=, mulkko")]),
    "broken baggage": ("/checkout", [("baggage", b",,;==\xff,a=b,=,mulkko.x=\xff;;"), ("baggage", "")]),
    "too much baggage": ("/checkout", [("baggage", BAGGAGE_OF_THE_WORLD), ("baggage", "big=" + "v" * 9000)]),
    "passes of rubbish": ("/checkout", [("x-mulkko-pass", "a.b.c, , ...., e30.e30.e30,=.=.=")]),
    "a pass that is not UTF-8": ("/checkout", [("x-mulkko-pass", b"\xff.\xff.\xff")]),
    "50 kB of passes": ("/checkout", [("x-mulkko-pass", ",".join(["eyJhbGciOiJIUzI1NiJ9.e30.AAAA"] * 1500))]),
    "a query of bad escapes": ("/checkout?%=%zz&%ff=%ff&a=%&&&=&" + "q=1&" * 2000, []),
    "a path of 40 kB": ("/checkout/" + "a" * 40_000, []),
    "a path of slashes": ("/" * 2000 + "%2e%2e/" * 100 + "checkout", []),
    "a text too long for a pattern": ("/checkout", [("user-agent", "crawler" * 5000)]),
    "a version that is none": ("/checkout", [("x-app-version", "99999999999999999999.0.0-" + "a." * 500)]),
    "numbers that are none": ("/checkout", [("x-region", "1e999999"), ("x-app-version", "NaN")]),
}


def room_for_much(bootstrap):
    """Limits at which hostile requests get through to the plugin, instead of a 431 from Envoy."""
    bootstrap.connection_manager["max_request_headers_kb"] = 96
    bootstrap.connection_manager["common_http_protocol_options"] = {"max_headers_count": 200}


def policy():
    """Cohorts, passes, a minted cookie: much that looks at a request."""
    policy = load_policy("cohorts")
    mint = load_policy("mint")
    policy["keys"].update(mint["keys"])
    policy["rollouts"] += mint["rollouts"]
    policy["rollouts"].append({**load_policy("dark-launch")["rollouts"][0], "force": []})
    return marked(policy, 1)


@pytest.mark.parametrize("trust", ["edge", "mesh"])
def test_every_worker_outlives_every_hostile_request(set_stage, trust):
    stage = set_stage(policy=policy(), plugin={"trust": trust}, edit=room_for_much)
    stage.wait_for_all_workers(in_force(1))
    vms = stage.stats("wasm.envoy.wasm.runtime.v8.created")
    with stage.connection_per_worker() as connections:
        for what, (path, headers) in HOSTILE.items():
            for worker, connection in enumerate(connections):
                before = stage.metric("requests")
                answer = connection.get(path, *headers)
                assert answer.status == 200, (what, worker, answer)
                assert stage.metric("requests") > before, f"{what}: it never reached the plugin"
                assert connection.get("/checkout", ("x-echo", "1")).echo.header("x-mark") == "1", (what, worker)
    assert stage.stats("wasm.envoy.wasm.runtime.v8.created") == vms, "no VM had to be made anew"
    assert stage.metric("hostcall_failures") == 0
    for word in ("panicked", "Function: proxy_", "wasm trap", "unreachable"):
        assert word not in stage.log()


def test_clients_that_leave_early_harm_nobody(set_stage):
    stage = set_stage(policy=policy())
    stage.wait_for_all_workers(in_force(1))
    vms = stage.stats("wasm.envoy.wasm.runtime.v8.created")
    with contextlib.ExitStack() as held:
        for _ in range(100):
            connection = held.enter_context(stage.connect())
            connection.socket.sendall(
                b"POST /checkout HTTP/1.1\r\nhost: shop.example.com\r\ncontent-length: 9\r\n\r\nhalf"
            )
    stage.wait_for_all_workers(in_force(1))
    assert stage.stats("wasm.envoy.wasm.runtime.v8.created") == vms


def test_the_deepest_conditions_fit_the_stack_of_a_worker(set_stage):
    policy = canary(100)
    # 190 cohorts that name one another, below loops and negations as deep as a document nests: near the limit of 256.
    policy["cohorts"] = {f"c{i}": {"cohort": f"c{i + 1}"} for i in range(190)} | {"c190": True}
    loops, negations = {"cohort": "c0"}, {"cohort": "deep"}
    for _ in range(28):
        loops, negations = {"map": [[1], loops]}, {"!": [negations]}
    policy["cohorts"]["deep"] = loops
    policy["rollouts"][0]["when"] = negations
    stage = set_stage(policy=policy)
    vms = stage.stats("wasm.envoy.wasm.runtime.v8.created")
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    assert stage.get("/checkout", user(1)).upstream == "checkout-v2"
    assert stage.stats("wasm.envoy.wasm.runtime.v8.created") == vms, "no VM had to be made anew"
