"""`mulkko diff` over the access log of a real Envoy says who moves; and then, by Envoy's own word, they do."""

import json
import subprocess
from collections import Counter

import pytest
from stage import COMMAND, in_force, load_policy, marked, wait_until

USERS = 400
OLD, NEW = marked(load_policy("canary-by-hand"), 1), marked(load_policy("canary-by-hand"), 2)
NEW["rollouts"][0]["strategy"]["canary"]["percent"] = 30
RESEEDED = marked(NEW, 2)
RESEEDED["rollouts"][0]["seed"] = "another"


@pytest.mark.parametrize("new, kind, code", [(NEW, "grows", 0), (RESEEDED, "reshuffles", 1)])
def test_who_moves_by_the_log_moves_in_envoy(set_stage, tmp_path, new, kind, code):
    stage = set_stage(policy=OLD)
    stage.wait_for_all_workers(in_force(1))
    before = visit(stage)
    told = diff(stage, tmp_path, new, expected=code)
    assert told["changes"][0]["kind"] == kind
    stage.push(new)
    stage.wait_for_all_workers(in_force(2))
    after = visit(stage)
    moves = Counter((before[user], after[user]) for user in before if before[user] != after[user])
    assert moves == {(it["from"], it["to"]): it["keys"] for it in told["changes"][0]["moves"]}
    assert sum(moves.values()) > USERS / 10


@pytest.mark.parametrize(
    "text, user",
    [(None, "x-request-id"), ('%REQ(:METHOD)% "%REQ(:PATH)%" %RESPONSE_CODE% user=%REQ(X-USER-ID)% %REQ(:AUTHORITY)%\n', "x-user-id")],
)
def test_logs_of_texts_are_read(set_stage, tmp_path, text, user):
    """Envoy's own format, which tells the request id, and one that somebody wrote."""

    def log(bootstrap):
        config = bootstrap.connection_manager["access_log"][0]["typed_config"]
        config.pop("log_format")
        if text:
            config["log_format"] = {"text_format_source": {"inline_string": text}}

    policies = [json.loads(json.dumps(policy)) for policy in (OLD, NEW)]
    for policy in policies:
        policy["keys"]["user"]["from"] = [{"header": user}]
    stage = set_stage(policy=policies[0], edit=log)
    stage.wait_for_all_workers(in_force(1))
    before = visit(stage)
    told = diff(stage, tmp_path, policies[1], old=policies[0], options=["--log-format", text.strip()] if text else [])
    change = told["changes"][0]
    assert change["kind"] == "grows"
    assert told.get("unread", 0) == 0
    # Whoever is in the canary stays there.
    in_canary = sum(variant == "canary" for variant in before.values())
    moved = change["moves"][0]["count"]
    assert 0.15 * USERS < moved < 0.35 * USERS
    assert change["unchanged"] + moved == told["count"] >= USERS
    assert in_canary < moved


def test_a_log_that_tells_no_key_is_no_good_news(set_stage, tmp_path):
    """Envoy's own format has the path and no user: of a new seed it shows nothing, which is not that nobody moves."""
    stage = set_stage(policy=OLD, edit=lambda it: it.connection_manager["access_log"][0]["typed_config"].pop("log_format"))
    stage.wait_for_all_workers(in_force(1))
    visit(stage)
    change = diff(stage, tmp_path, RESEEDED, expected=1)["changes"][0]
    assert change["kind"] == "unknown"
    assert change["unknown"][0]["lacks"] == f"{USERS} of {USERS} requests tell no key (header x-user-id)"


def visit(stage):
    """Sends a request for each user; gives the variant of each."""
    with stage.connection_per_worker() as connections:
        found = {}
        for number in range(USERS):
            user = f"user-{number}"
            response = connections[number % len(connections)].get("/checkout/pay", ("x-user-id", user), ("x-echo", "1"))
            found[user] = response.echo.header("x-mulkko-checkout-v2")
    return found


def diff(stage, folder, new, old=OLD, expected=0, options=()):
    """What the command says of the requests that the log has."""
    log = stage.folder / "envoy.out"
    wait_until(lambda: log.read_text().count("/checkout/pay") == USERS, "the access log")
    # Of the requests that waited for the policy nothing is known.
    lines = [line for line in log.read_text().splitlines(keepends=True) if "/checkout/pay" in line]
    files = [folder / name for name in ("old.json", "new.json", "access.log")]
    for file, content in zip(files, [json.dumps(old), json.dumps(new), "".join(lines)], strict=True):
        file.write_text(content)
    done = subprocess.run(
        [COMMAND, "diff", files[0], files[1], "--access-log", files[2], "--format", "json", *options],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == expected, done.stderr
    return json.loads(done.stdout)
