"""`make demo`: a tour of what mulkko does, with a real Envoy, in under a minute. `make run` keeps the set-up running."""

import argparse
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from client import Load, get_all
from passes import make_pass
from serve import PROXY_TOKEN_VARIABLE, TOKEN, Serve
from stage import COMMAND, PASS_KEY, Stage, in_force, instant, load_policy, marked, wait_until

USERS = 10_000
# How long the proxy's question waits for news at the config cluster.
WAIT = "5s"
BAR = 40

ON_TTY = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def styled(code, text):
    """The text in a colour or weight, where there is a terminal to show it."""
    return f"\033[{code}m{text}\033[0m" if ON_TTY else text


def bold(text):
    """A text that stands out."""
    return styled("1", text)


def good(text):
    """A result as it should be."""
    return styled("32", text)


def title(number, text):
    """The start of a chapter."""
    print(f"\n{bold(f'{number}. {text}')}\n", flush=True)


def say(text=""):
    """A line of the tour."""
    print(f"   {text}".rstrip(), flush=True)


def table(expected, found):
    """Shares of variants, expected (percent by variant) and measured (a list of variants), with bars."""
    say(f"{'variant':<12}{'expected':>8}{'measured':>10}")
    for variant, percent in expected.items():
        share = 100 * found.count(variant) / len(found)
        bar = "█" * round(share / 100 * BAR)
        say(f"{variant:<12}{percent:>6.2f} %{share:>8.2f} %  {styled('36', bar)}")
    say()


def console(stage, *arguments):
    """Shows a command of the platform team's, and what it prints."""
    say(bold(f"$ mulkko {' '.join(arguments)}"))
    for line in stage.server.run(*arguments, cwd=stage.folder).stdout.splitlines():
        say(line)


def push(stage, policy, revision, shown=False):
    """Signs a policy, pushes it, and waits until the proxy has it."""
    policy = marked(policy, revision)
    (stage.folder / "shop.json").write_text(json.dumps(policy))
    if shown:
        console(stage, "push", "shop.json", "--wait")
    else:
        stage.server.push(policy, "--wait")


def user(number):
    """The header that makes a request a user's."""
    return ("x-user-id", f"user-{number}")


def variants(stage, path, rollout):
    """The variant that each of the users gets."""
    requests = [(path, [user(number), ("x-echo", "1")]) for number in range(USERS)]
    return [response.echo.header(f"x-mulkko-{rollout}") for response in get_all(stage.port, requests)]


def experiment():
    """`policies/ab.json`, as if it had begun an hour ago."""
    policy = load_policy("ab")
    policy["rollouts"][0]["strategy"]["ab"].update(start=instant(-3600), end=instant(14 * 86400))
    return policy


def canary(percent):
    """`policies/canary-by-hand.json` at a percentage."""
    policy = load_policy("canary-by-hand")
    policy["rollouts"][0]["strategy"]["canary"]["percent"] = percent
    return policy


def who_gets_what(stage):
    """An A/B test: the shares that were asked for."""
    title(1, f"Who gets what: an A/B test with three variants, {USERS:,} users")
    started = time.monotonic()
    found = variants(stage, "/product/7", "buy-button")
    split = experiment()["rollouts"][0]["strategy"]["ab"]["split"]
    table({share["variant"]: share["percent"] for share in split}, found)
    seconds = time.monotonic() - started
    say(f"{USERS:,} requests through Envoy in {seconds:.1f} s. A user's variant follows from a hash of the user's id:")
    say("nothing is stored anywhere, and every proxy comes to the same decision.")
    return found


def the_same_user(stage, found):
    """Sticky without a session, whichever worker is asked: the first user of each variant."""
    title(2, "The same user, again and again")
    for number in sorted(found.index(variant) for variant in set(found)):
        with stage.connection_per_worker() as connections:
            got = {
                connection.get("/product/7", user(number), ("x-echo", "1")).echo.header("x-mulkko-buy-button")
                for connection in connections
                for _ in range(50)
            }
        times = 50 * stage.workers
        say(
            f"user-{number}: {times} requests over all {stage.workers} workers of Envoy: {good(', '.join(sorted(got)))}"
        )


def a_new_policy(stage):
    """A push, and how it arrives."""
    title(3, "A new policy: a canary goes from 5 % to 25 %")
    push(stage, canary(5), 2)
    stage.wait_for_all_workers(in_force(2), headers=[user(0)])
    before = variants(stage, "/checkout", "checkout-v2")
    foretold = who_would_move(stage, canary(5), canary(25))
    push(stage, canary(25), 3, shown=True)
    stage.wait_for_all_workers(in_force(3), headers=[user(0)])
    say()
    after = variants(stage, "/checkout", "checkout-v2")
    table({"canary": 25, "stable": 75}, after)
    had = before.count("canary")
    kept = sum(then == now == "canary" for then, now in zip(before, after))
    say("Signed on the way: the proxy takes nothing else. It was waiting for news, and took it without a restart.")
    say(f"{had} users had the canary at 5 %; {good(str(kept))} of them have it at 25 %: a growing canary loses nobody.")
    moved = sum(then != now for then, now in zip(before, after))
    say(f"{moved} users have moved, {good('as foretold') if moved == foretold else styled('31', f'but {foretold} were foretold')}.")


def who_would_move(stage, old, new):
    """What the command says of a push before it is done, by the requests that the access log has; gives how many move."""
    log = stage.folder / "envoy.out"
    wait_until(lambda: log.read_text().count('"/checkout"') >= USERS, "the access log")
    for name, policy in ("old.json", old), ("new.json", new):
        (stage.folder / name).write_text(json.dumps(policy))
    command = [COMMAND, "diff", "old.json", "new.json", "--access-log", log.name]
    say(bold(f"$ mulkko {' '.join(command[1:])}"))
    told = [
        subprocess.run([*command, "--format", form], cwd=stage.folder, capture_output=True, text=True, check=True).stdout
        for form in ("text", "json")
    ]
    for line in told[0].splitlines():
        say(line)
    say()
    return sum(move["keys"] for change in json.loads(told[1])["changes"] for move in change["moves"])


def a_dark_launch(stage):
    """In production, and nobody sees it without a pass."""
    title(4, "A dark launch: in production, for those who hold a pass")
    push(stage, load_policy("dark-launch"), 4)
    stage.wait_for_all_workers(in_force(4))
    named = {"rollout": "checkout-next", "variant": "next"}
    for who, token in {
        "without a pass": None,
        "with a pass": make_pass(PASS_KEY, **named, explain=True),
        "with one that has expired": make_pass(PASS_KEY, seconds=-60, **named),
        "with a forged one": make_pass("not the key, but as long as one must be", **named),
    }.items():
        response = stage.get("/checkout", *([("x-mulkko-pass", token)] if token else []))
        why = response.header("x-mulkko-explain")
        say(f"{who:<27} {bold(response.upstream)}{f'   because {why}' if why else ''}")


def shadow():
    """`policies/dark-launch-shadow.json`, of all requests, and with values where there are differences."""
    policy = load_policy("dark-launch-shadow")
    shadow = policy["rollouts"][0]["shadow"]
    shadow["percent"], shadow["compare"]["showValues"] = 100, True
    return policy


def shadow_traffic(stage):
    """What the new version would have answered, and in what it would have been wrong."""
    title(5, "A shadow: what the new version would have answered")
    stage.behave("checkout-v2", wrong=0.05)
    push(stage, shadow(), 5)
    stage.wait_for_all_workers(in_force(5))
    known = lambda: json.loads(stage.get("/.mulkko/shadow/checkout-v2", why).body)  # noqa: E731
    why = ("x-mulkko-pass", make_pass(PASS_KEY, explain=True))
    with stage.load(lambda: ("/checkout/order", []), per_second=200) as load:
        document = wait_until(lambda: (it := known())["compared"] >= 600 and it, "comparisons", 30)
    stage.behave("checkout-v2")
    failed = len(load.failed)
    upstreams = ", ".join({answer.upstream for answer in load.responses})
    told = good("0") if failed == 0 else styled("31", failed)
    say(f"{len(load.responses)} requests, answered by {upstreams}, failed: {told}")
    say(f"{document['compared']} copies compared, {document['equal']} equal: each answer has a time and an id.")
    say()
    say(f"{'field':<12}{'differs':>8}{'anyway':>8}  evidence")
    for field in document["fields"]:
        anyway = field["both"] + field["onlySecondary"]
        verdict = bold(f"10^{field['evidence']:.1f} to 1: {field['example']['primary']}, here {field['example']['shadow']}")
        say(f"{field['name']:<12}{field['different']:>8}{anyway:>8}  {verdict if field['differs'] else 'none: noise'}")
    say()
    say("`anyway` is how often another copy of checkout-v1 differed from the answer that the user got.")


def a_blue_green_switch(stage):
    """Everybody moves at one instant, under load."""
    title(6, "A blue-green switch under load")
    policy = load_policy("blue-green")
    flip = time.time() + 4
    policy["rollouts"][0]["strategy"]["blueGreen"]["at"] = instant(flip - time.time())
    with Load(stage.port, lambda: ("/checkout", [])) as load:
        push(stage, policy, 6)
        stage.wait_for_all_workers(in_force(6), seconds=3)
        wait_until(lambda: time.time() > flip + 1, "a second of the new version")
    answers = [answer for answer in load.responses if answer.sent > flip - 2]
    blue = [answer for answer in answers if answer.upstream == "checkout-v1"]
    green = [answer for answer in answers if answer.upstream == "checkout-v2"]
    last, first = max(answer.received for answer in blue), min(answer.received for answer in green)
    say(
        f"The switch was set for one instant, {time.strftime('%H:%M:%S', time.localtime(flip))}, and pushed ahead of it."
    )
    say(f"last answer of checkout-v1    {(last - flip) * 1000:+7.1f} ms")
    say(f"first answer of checkout-v2   {(first - flip) * 1000:+7.1f} ms")
    failed = len(load.failed)
    say(f"{len(load.responses):,} requests meanwhile, failed: {good('0') if failed == 0 else styled('31', failed)}")


def with_flags(policy):
    """A policy with the flags of `policies/flags.json`, under the key of its users."""
    document = load_policy("flags")
    flags = {name: document[name] for name in ("flags", "$evaluators")}
    return {**policy, **flags, "flagKey": "user"}


def feature_flags(stage):
    """One flag, as the upstream and as an OpenFeature SDK get it."""
    title(7, "Feature flags: a header for the service behind, OFREP for who asks")
    push(stage, with_flags(canary(25)), 7)
    stage.wait_for_all_workers(in_force(7), headers=[user(0)])
    answers = get_all(stage.port, [("/checkout", [user(number), ("x-echo", "1")]) for number in range(USERS)])
    headers = [answer.echo.header("x-mulkko-flags") for answer in answers]
    for header in "new-cart", "new-cart=?0":
        number = headers.index(header)
        body = json.dumps({"context": {"targetingKey": f"user-{number}"}}).encode()
        with stage.connect() as connection:
            asked = connection.send("POST", "/ofrep/v1/evaluate/flags/new-cart", [user(number)], body)
        details = json.loads(asked.body)
        value = json.dumps(details["value"])
        say(f"user-{number:<4} x-mulkko-flags: {header:<14} OFREP: {bold(value)}, {details['reason']}")
    table({"new-cart": 10, "new-cart=?0": 90}, headers)
    say("No flag server was asked: there is none.")


def a_rollback(stage):
    """A canary that begins to fail, and what its guard makes of it."""
    title(8, "Rollback: the canary begins to fail, and nobody is awake")
    policy = canary(5)
    policy["rollouts"][0]["guard"] = {"warmup": "0s"}
    push(stage, policy, 8)
    stage.wait_for_all_workers(in_force(8), headers=[user(0)])
    numbers = itertools.count()
    with stage.load(lambda: ("/checkout", [user(next(numbers))]), per_second=400) as load:
        wait_until(lambda: stage.metric("guard_requests", variant="canary", test="errors") >= 20, "the guard", 60)
        onset = stage.behave("checkout-v2", fault="503", ratio=0.2)
        wait_until(lambda: stage.metric("guard_rolled_back") == 1, "the rollback", 60)
        seconds = time.time() - onset
        seen = len(load.responses)
        wait_until(lambda: len(load.responses) > seen + 800, "requests after it", 60)
    failing = [answer for answer in load.responses if answer.upstream == "checkout-v2" and answer.sent >= onset]
    failed = sum(answer.status >= 500 for answer in failing)
    since = {answer.upstream for answer in load.responses[-400:]}
    say("Of 400 requests a second 5 % are the canary's, and a fifth of its answers become errors.")
    took = f"{good(f'{seconds:.1f} s')}, {len(failing)} requests and {failed} errors"
    say(f"Rolled back after {took}; since then all get {', '.join(since)}.")
    say(next(line for line in stage.log().splitlines() if "is rolled back" in line).split("wasm log mulkko: ")[-1])
    stage.behave("checkout-v2")
    rolled_back = lambda: stage.server.get("/v1/proxies")["proxies"][0]["rolledBack"]  # noqa: E731
    wait_until(rolled_back, "word of it at the config cluster")
    say()
    console(stage, "proxies", "shop")


def what_was_counted(stage):
    """The metrics, as an operator sees them."""
    title(9, "What Prometheus sees")
    for name, labels, value in sorted(stage.metrics(), key=lambda series: series[2], reverse=True):
        if name in ("requests", "flag_evaluations"):
            series = ", ".join(f'{label}="{it}"' for label, it in sorted(labels.items()) if label != "policy")
            say(f"mulkko_{name}{{{series}}} {value:.0f}")


def tour():
    """The whole tour."""
    started = time.monotonic()
    print(f"{bold('mulkko')}: a real Envoy with two workers, `mulkko serve` as its config cluster, checkout-v1 and checkout-v2.")
    with tempfile.TemporaryDirectory() as folder, config_cluster(folder) as (server, plugin):
        give_tour(server, plugin)
    print(f"\nThat was {time.monotonic() - started:.0f} s. `make run` keeps this set-up running for you to try.")


@contextlib.contextmanager
def config_cluster(folder):
    """`mulkko serve` over a folder, a key that signs all that is pushed there, and what the plugin is told of both."""
    made = subprocess.run([COMMAND, "keygen", "--kid", "demo", "--format", "json"], capture_output=True, check=True)
    key = json.loads(made.stdout)
    source = {"cluster": "config", "path": "/v1/policies/shop", "wait": WAIT, "token": {"env": PROXY_TOKEN_VARIABLE}}
    plugin = {"source": source, "verify": [key["verify"]]}
    file = Path(folder) / "plugin.json"
    file.write_text(json.dumps({"name": "shop", **plugin}))
    environment = {"MULKKO_SIGNING_KEY": json.dumps(key["private"])}
    with Serve(Path(folder) / "store", COMMAND, options=["--plugin", file], environment=environment) as server:
        yield server, plugin


def give_tour(server, plugin):
    """All chapters."""
    server.push(marked(experiment(), 1))
    with Stage(config_port=server.port, plugin=plugin) as stage:
        stage.server = server
        stage.wait_for_all_workers(in_force(1), path="/product/7", headers=[user(0)])
        found = who_gets_what(stage)
        the_same_user(stage, found)
        a_new_policy(stage)
        a_dark_launch(stage)
        shadow_traffic(stage)
        a_blue_green_switch(stage)
        feature_flags(stage)
        a_rollback(stage)
        what_was_counted(stage)


def keep():
    """The set-up, until Ctrl-C."""
    policy = canary(25)
    for other in experiment(), load_policy("dark-launch"):
        for members in ("keys", "cohorts"):
            policy.setdefault(members, {}).update(other.get(members, {}))
        policy["rollouts"] += other["rollouts"]
    policy = with_flags(policy)
    with tempfile.TemporaryDirectory() as folder, config_cluster(folder) as (server, plugin):
        server.push(policy)
        with Stage(config_port=server.port, plugin=plugin) as stage:
            stage.wait_for_all_workers(lambda echo: echo.header("x-mulkko-checkout-v2"), headers=[user(0)])
            (Path(folder) / "shop.json").write_text(json.dumps(policy, indent=2))
            explain(stage, server, folder)


def explain(stage, server, folder):
    """What there is to try, until Ctrl-C."""
    edge = f"http://127.0.0.1:{stage.port}"
    token = make_pass(PASS_KEY, seconds=86400, rollout="checkout-next", variant="next", explain=True)
    print(f"""
{bold("Envoy is up.")} Ctrl-C ends it all.

{bold("A canary at 25 %")}: who gets it? Always the same ones.
  for i in $(seq 12); do curl -s {edge}/checkout -H "x-user-id: user-$i"; done

{bold("What arrives upstream")}
  curl -s {edge}/echo/checkout -H 'x-user-id: user-1'
  curl -s {edge}/checkout -H 'x-echo: 1' -H 'x-user-id: user-1'

{bold("An A/B test")}
  curl -s {edge}/product/7 -H 'x-echo: 1' -H 'x-user-id: user-1'

{bold("A dark launch")}, without and with a pass, which holds for a day and asks why
  curl -si {edge}/checkout
  curl -si {edge}/checkout -H 'x-mulkko-pass: {token}'

{bold("Feature flags")}, as the upstream and as an OpenFeature SDK get them
  curl -s {edge}/checkout -H 'x-echo: 1' -H 'x-user-id: user-1' | grep -o '"x-mulkko-flags[^]]*'
  curl -s {edge}/ofrep/v1/evaluate/flags -H 'x-user-id: user-1' -d '{{}}'

{bold("Metrics")}
  curl -s 'http://127.0.0.1:{stage.admin_port}/stats/prometheus?filter=mulkko'

{bold("The policy")}: edit it, raise its revision, push it, and see the proxy take it
  export MULKKO_SERVER={server.url} MULKKO_TOKEN={TOKEN}
  export MULKKO_SIGNING_KEY='{server.environment["MULKKO_SIGNING_KEY"]}'
  {COMMAND} push {folder}/shop.json --wait
  {COMMAND} promote shop --rollout checkout-v2 --wait
  {COMMAND} rollback shop --wait
  {COMMAND} versions shop
""")
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the set-up running instead of giving the tour")
    # `kill` ends the stage as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        keep() if parser.parse_args().keep else tour()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
