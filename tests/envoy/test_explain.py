"""`mulkko explain` says what a real Envoy does, for random requests over the example policies."""

import json
import random
import re
import subprocess
from datetime import datetime, timedelta, timezone

from explain import explain_pass
from stage import COMMAND, POLICIES

REQUESTS = 1_000
# The examples begin on this day; the tests move it so that steps and batches are under way.
BEGINS = datetime(2026, 12, 1, 9, tzinfo=timezone.utc)
UNDER_WAY = timedelta(minutes=45)
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
HOSTS = ["shop.example.com", "SHOP.example.com:8080", "www.shop.example.com", "example.org"]
PATHS = ["/", "/checkout", "/checkout/pay?step=2", "/checkouts", "/cart", "/cart/17", "/search?q=boots", "/product/9", "/gift"]
PATHS += ["/inventory?sku=12345", "/inventory?sku=7"]
HEADERS = {
    "x-region": ["kr", "jp"],
    "x-user-email": ["a@example.com", "a@example.org"],
    "user-agent": ["Mobile Safari", "a bot", "curl"],
    "x-app": ["web", "ios"],
    "x-app-version": ["3.2.0", "3.1.9", "no version"],
    "x-forwarded-for": ["10.20.1.7", "192.0.2.7"],
    "x-mulkko-search": ["v1", "v2"],
    "baggage": ["mulkko.checkout-v2=canary,theirs=1", "mulkko.search=v1", "mulkko.no-such-rollout=v2"],
    "x-mulkko-forged": ["1"],
}
# What the route takes off again.
NOT_UPSTREAM = {"x-mulkko-cluster"}


def test_the_command_explains_what_envoy_does(set_stage, tmp_path):
    draw = random.Random(20261201)
    listeners = [f"{file.stem}-{trust}" for file in sorted(POLICIES.glob("*.json")) for trust in ("edge", "mesh")]

    def edit(bootstrap):
        bootstrap.connection_manager.update(xff_num_trusted_hops=1)
        for listener in listeners:
            name, _, trust = listener.rpartition("-")
            policy = under_way((POLICIES / f"{name}.json").read_text())
            plugin = {"name": listener, "trust": trust, "passKeys": [{"env": "MULKKO_PASS_KEY"}]}
            (tmp_path / f"{listener}.json").write_text(policy)
            (tmp_path / f"{listener}-plugin.json").write_text(json.dumps(plugin))
            # Inline: in force before the first request.
            bootstrap.add_listener(listener, {**plugin, "policy": json.loads(policy)})

    stage = set_stage(edit=edit)
    wrong, reasons = [], set()
    for i, listener in enumerate(listeners):
        files = tmp_path / f"{listener}.json", tmp_path / f"{listener}-plugin.json"
        with stage.connection_per_worker(listener) as connections:
            for n in range(i, REQUESTS, len(listeners)):
                request = random_request(draw)
                response = send(request, connections[n % len(connections)])
                told = explained(*files, with_drawn_ids(request, response))
                differences = different(told, response)
                wrong += [f"{listener} {request}: {it}" for it in differences]
                reasons |= {decision["reason"] for decision in told["decisions"]}
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:20])
    # All but the guard's, which has nothing to judge here.
    assert reasons == {"DISABLED", "TARGETING_MATCH", "FOLLOWED", "DEFAULT", "HOLDOUT", "LAYER", "STATIC", "SPLIT"}


def under_way(document):
    """The document, its instants moved so that what begins on the first of December is under way."""
    shift = datetime.now(timezone.utc) - UNDER_WAY - BEGINS

    def moved(match):
        instant = datetime.fromisoformat(match[0].replace("Z", "+00:00")) + shift
        return instant.strftime("%Y-%m-%dT%H:%M:%SZ")

    return INSTANT.sub(moved, document)


def random_request(draw):
    """Method, path and headers. Half of the requests have what most rollouts ask for."""
    headers = [("host", draw.choices(HOSTS, weights=[5, 1, 2, 1])[0])]
    headers += [(name, draw.choice(values)) for name, values in HEADERS.items() if draw.random() < 0.4]
    if draw.random() < 0.8:
        # Many are the user whom `policies/layers-and-holdout.json` holds out: of 2 % few would be met by chance.
        number = 19 if draw.random() < 0.25 else draw.randrange(10_000)
        headers.append(("x-user-id", f"user-{number}"))
    if draw.random() < 0.5:
        headers.append(("cookie", f"theirs=1; mulkko_id=device-{draw.randrange(10_000)}"))
    return draw.choice(["GET", "GET", "POST"]), draw.choice(PATHS), headers


def send(request, connection):
    method, path, headers = request
    return connection.send(method, path, [*headers, ("x-echo", "1"), explain_pass()])


def with_drawn_ids(request, response):
    """The request with the id that Envoy drew for it: what the command cannot know."""
    method, path, headers = request
    drawn = [value.split(";")[0] for name, value in response.headers if name == "set-cookie"]
    others = [(name, value) for name, value in headers if name != "cookie"] if drawn else headers
    return method, path, others + [("cookie", cookie) for cookie in drawn]


def explained(policy, configuration, request):
    method, path, headers = request
    options = [f"--header={name}: {value}" for name, value in headers]
    client = dict(headers).get("x-forwarded-for", "127.0.0.1")
    done = subprocess.run(
        [COMMAND, "explain", policy, "--plugin", configuration, "--format", "json", "--node", "edge-1"]
        + ["--client-ip", client, "--method", method, "--path", path, *options],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def different(told, response):
    """What is different between what the command told and what Envoy did."""
    found = response.header("x-mulkko-explain") or ""
    if found != told["explain"]:
        yield f"explained {told['explain']}, found {found}"
    for header in told["headers"]:
        name, value = header["name"], header["value"]
        arrived = response.echo.values(name)
        if name not in NOT_UPSTREAM and arrived != ([] if value is None else [value]):
            yield f"{name}: explained {value}, found {arrived}"
