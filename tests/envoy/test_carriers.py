"""Decisions that cross an application: carried by the SDKs that applications use, from the edge to the next hop.

What an SDK was sent it sends on as it understands it: percent-escapes decoded, white space skipped, other headers made baggage.
"""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from passes import make_pass
from stage import MESH_KEY, PASS_KEY, TOP, Stage, wait_until

CLIENTS = Path(__file__).parent / "clients"
DARK = {"rollout": "next", "variant": "dark"}

# `next` is launched dark; `split` has a share for everybody.
POLICY = {
    "name": "shop",
    "revision": 1,
    "rollouts": [
        {"name": "next", "variants": {"today": {}, "dark": {}}, "default": "today", "strategy": {"dark": {"variant": "dark"}}},
        {
            "name": "split", "key": "request", "variants": {"stable": {}, "canary": {}}, "default": "stable",
            "strategy": {"canary": {"variant": "canary", "percent": 50}},
        },
    ],
}  # fmt: skip

# What a client may say to be followed as who is in the dark version, in what SDKs make of it.
FORGED = [
    ("baggage", "mulkko.next=dark"),
    ("baggage", "mulkko%2Enext=dark"),
    ("baggage", "mulkko%2enext=dark"),
    ("baggage", "%6Dulkko.next=dark"),
    ("baggage", "%6d%75%6c%6b%6b%6f%2e%6e%65%78%74=dark"),
    ("baggage", "+mulkko.next=dark"),
    ("baggage", "%20mulkko.next=dark"),
    ("baggage", ";mulkko.next=dark"),
    ("baggage", "\u00a0mulkko.next=dark"),
    ("baggage", "\u2003mulkko.next=dark"),
    ("baggage", "mulkko%252Enext=dark"),
    ("baggage", "mulkko%25252Enext=dark"),
    ("baggage", "x=1;p%2Cmulkko.next%3Ddark"),
    ("baggage", "x=1%2Cmulkko.next%3Ddark"),
    ("baggage", ",".join([*(f"a{i}=1" for i in range(63)), ";mulkko.next=dark"])),
    ("baggage", ",".join([";mulkko.next=dark", *(f"a{i}=1" for i in range(63))])),
    ("uberctx-mulkko.next", "dark"),
    ("uberctx-mulkko%2Enext", "dark"),
    ("jaeger-baggage", "mulkko.next=dark"),
    ("ot-baggage-mulkko.next", "dark"),
    ("correlation-context", "mulkko.next=dark"),
    ("mulkko.next", "dark"),
    ("x-mulkko-next", "dark"),
    ("x_mulkko_next", "dark"),
]
# What makes Jaeger's and OpenTracing's propagators read the headers beside it.
TRACES = [
    ("uber-trace-id", "0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:1"),
    ("ot-tracer-traceid", "0af7651916cd43dd8448eb211c80319c"), ("ot-tracer-spanid", "b7ad6b7169203331"),
    ("ot-tracer-sampled", "true"),
]  # fmt: skip


def json_line(headers):
    return json.dumps(headers)


def tabs(headers):
    return "\t".join(part for pair in headers.items() for part in pair)


class Sdk:
    """A process that is sent headers, a line each, and prints what its SDK sends on."""

    def __init__(self, command, line=json_line, read=json.loads, **options):
        self.line, self.read = line, read
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", **options
        )

    def carried(self, headers):
        """The headers that an application sends on which was sent these."""
        self.process.stdin.write(self.line(headers) + "\n")
        self.process.stdin.flush()
        return self.read(self.process.stdout.readline())


def python():
    return Sdk([sys.executable, CLIENTS / "carry.py"])


def javascript():
    return Sdk([Path(sys.executable).with_name("node"), CLIENTS / "carry.mjs"])


def rust():
    folder = CLIENTS / "carry"
    target = TOP / "target/carry"
    build = ["cargo", "build", "--quiet", "--locked", "--manifest-path", folder / "Cargo.toml", "--target-dir", target]
    subprocess.run([str(word) for word in build], check=True)
    return Sdk([target / "debug/carry"])


def go():
    if not shutil.which("go"):
        pytest.skip("no Go here")
    binary = TOP / "target/carry/go"
    subprocess.run(["go", "build", "-o", str(binary), "."], cwd=CLIENTS / "go", check=True)
    return Sdk([binary])


def java():
    if not (shutil.which("java") and shutil.which("mvn")):
        pytest.skip("no Java here")
    path = TOP / "target/carry/classpath"
    path.parent.mkdir(parents=True, exist_ok=True)
    maven = ["mvn", "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={path}"]
    subprocess.run(maven, cwd=CLIENTS / "java", check=True)
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", path.read_text().strip(), CLIENTS / "java/Carry.java"]
    return Sdk(command, line=tabs, read=lambda line: {"baggage": line.strip("\r\n")}, stderr=subprocess.DEVNULL)


def hop(trust, **members):
    """The plugin of a hop that has all that it decides by."""
    return {"name": "shop", "trust": trust, "policy": POLICY, "passKeys": [{"env": "MULKKO_PASS_KEY"}], **members}


@pytest.fixture(scope="module")
def chain():
    """An edge and the hop behind the application, with mesh keys and without; `mesh-cart` is another plugin's."""
    keys = {"meshKeys": [{"env": "MULKKO_MESH_KEY"}]}

    def edit(bootstrap):
        # What the plugin does about it by itself is the subject.
        del bootstrap.connection_manager["common_http_protocol_options"]
        bootstrap.plugin = hop("edge", **keys)
        bootstrap.add_listener("mesh", hop("mesh", **keys))
        bootstrap.add_listener("edge-without", hop("edge"))
        bootstrap.add_listener("mesh-without", hop("mesh"))
        bootstrap.add_listener("mesh-unusable", hop("mesh", meshKeys=[{"env": "MULKKO_NO_SUCH_KEY"}]))

    with Stage(edit=edit, plugin=hop("edge", **keys)) as stage:
        yield stage


@pytest.fixture(
    scope="module",
    params=[python, javascript, rust, pytest.param(go, marks=pytest.mark.long), pytest.param(java, marks=pytest.mark.long)],
    ids=lambda sdk: sdk.__name__,
)
def sdk(request):
    sdk = request.param()
    yield sdk
    sdk.process.kill()
    sdk.process.wait()


def arrived(stage, listener, headers):
    """What a request with these headers is to the application behind a hop: its headers, by name, as it reads them."""
    with stage.connect(listener) as connection:
        echo = connection.get("/", ("x-echo", "1"), *headers).echo
    values = {}
    for name, value in echo.request["headers"]:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values


def followed(stage, sdk, edge, mesh, headers):
    """The variants of `next` at the edge and, behind an application that uses this SDK, at the next hop."""
    first = arrived(stage, edge, [(name, value.encode()) for name, value in headers])
    carried = sdk.carried(first)
    second = arrived(stage, mesh, [(name, value.encode()) for name, value in carried.items()])
    return first["x-mulkko-next"], second["x-mulkko-next"], carried


def vouched(variant, hours=0, key=MESH_KEY, name="shop"):
    """Baggage of a hop that has put a request into a variant of `next`, some hours ago."""
    hour = int(time.time()) // 3600 - hours
    mac = hmac.digest(key.encode(), f"mulkko/1\n{name}\nnext\n{variant}\n{hour}".encode(), hashlib.sha256)[:16]
    text = base64.urlsafe_b64encode(mac).decode().rstrip("=")
    return ("baggage", f"mulkko.next={variant},mulkko.mk=next.{hour}.{text}")


def test_a_decision_arrives_through_an_application(chain, sdk):
    passed = ("x-mulkko-pass", make_pass(PASS_KEY, **DARK))
    assert followed(chain, sdk, "edge", "mesh", [])[:2] == ("today", "today")
    for more in ([], [("baggage", "tenant=7,level=gold")], [("baggage", ",".join(f"a{i}=1" for i in range(64)))]):
        first, second, carried = followed(chain, sdk, "edge", "mesh", [passed, *more])
        assert (first, second) == ("dark", "dark"), carried
    # A client's word stands beside it, and moves nobody back.
    for forged in FORGED:
        today = (forged[0], forged[1].replace("dark", "today"))
        assert followed(chain, sdk, "edge", "mesh", [passed, *TRACES, today])[:2] == ("dark", "dark"), forged


@pytest.mark.parametrize("keys", ["", "-without", "-unusable"])
def test_no_clients_word_arrives_through_any(chain, sdk, keys):
    edge = "edge" if keys == "-unusable" else f"edge{keys}"
    for forged in FORGED:
        first, second, carried = followed(chain, sdk, edge, f"mesh{keys}", [*TRACES, forged])
        assert (first, second) == ("today", "today"), (forged, carried)


def test_only_what_a_proxy_vouches_for_is_followed(chain):
    for header, expected in [
        (vouched("dark"), "dark"),
        (vouched("dark", hours=1), "dark"),
        (vouched("dark", hours=-1), "dark"),
        (vouched("dark", hours=2), "today"),
        (vouched("dark", hours=-2), "today"),
        (vouched("dark", key="another key for the mesh of the tests, 32 bytes"), "today"),
        (vouched("dark", name="cart"), "today"),
        (("baggage", vouched("today")[1].replace("mulkko.next=today", "mulkko.next=dark")), "today"),
        (("baggage", "mulkko.next=dark"), "today"),
        (("x-mulkko-next", "dark"), "today"),
    ]:
        assert arrived(chain, "mesh", [header])["x-mulkko-next"] == expected, header
        assert arrived(chain, "mesh-unusable", [header])["x-mulkko-next"] == "today", header
        assert arrived(chain, "edge", [header])["x-mulkko-next"] == "today", header
    wait_until(lambda: "mesh key MULKKO_NO_SUCH_KEY left out" in chain.log(), "the warning")


def test_without_keys_what_everybody_might_get_is_followed(chain):
    for variant in ("stable", "canary"):
        for header in (("baggage", f"mulkko.split={variant}"), ("x-mulkko-split", variant)):
            seen = {arrived(chain, "mesh-without", [header])["x-mulkko-split"] for _ in range(10)}
            assert seen == {variant}
    for header in (("baggage", "mulkko.next=dark"), ("x-mulkko-next", "dark")):
        assert arrived(chain, "mesh-without", [header])["x-mulkko-next"] == "today"


def test_what_vouches_is_made_anew_at_each_hop(chain):
    for hours in (0, 1):
        found = arrived(chain, "mesh", [vouched("dark", hours=hours), ("x-request-id", "fixed")])["baggage"]
        assert vouched("dark")[1].partition("mulkko.mk=")[2] in found
