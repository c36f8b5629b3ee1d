"""What can be asked of a server, and what it answers."""

import gzip
import json
import subprocess
import threading
import time

import pytest
import requests
from documents import policy
from serve import TOKEN, entry
from stage import COMMAND, wait_until


def stored(response):
    """The ETag of a version that was stored."""
    assert response.status_code == 201, response.text
    return response.headers["etag"]


def test_a_policy_is_served_as_it_was_pushed(serve, connect, store):
    with connect(serve(store)) as client:
        assert client.policy().status_code == 404
        text = json.dumps(policy(1), indent=3) + "\n \n"
        headers = {"if-none-match": "*", "content-type": "application/json"}
        etag = stored(client.put("/v1/policies/shop", data=text, headers=headers))
        served = client.policy()
        assert (served.status_code, served.text, served.headers["etag"]) == (200, text, etag)
        assert served.headers["content-type"] == "application/json"
        assert served.headers["x-mulkko-revision"] == "1"
        assert client.policy(if_none_match=etag).status_code == 304
        assert client.policy(if_none_match='"other"').status_code == 200
        assert client.get("/v1/policies").json() == {"policies": ["shop"]}


def test_who_takes_gzip_gets_it(serve, connect):
    with connect(serve()) as client:
        etag = stored(client.push(policy(1, size=100_000)))
        compressed = client.get("/v1/policies/shop", headers={"accept-encoding": "gzip"}, stream=True)
        assert compressed.headers["content-encoding"] == "gzip"
        assert compressed.headers["vary"] == "accept-encoding"
        body = compressed.raw.read(decode_content=False)
        plain = client.get("/v1/policies/shop", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert gzip.decompress(body) == plain.content and len(body) < len(plain.content) / 50
        # Two representations, two ETags; either is known.
        assert compressed.headers["etag"] != etag == plain.headers["etag"]
        assert client.policy(if_none_match=compressed.headers["etag"]).status_code == 304


def test_every_version_stays_as_it_was(serve, connect, store):
    server = serve(store)
    with connect(server) as client:
        texts, etag = {}, None
        for revision in (3, 4, 10, 11, 250):
            response = client.push(policy(revision), etag)
            etag = stored(response)
            texts[revision] = client.policy().content
            assert response.headers["location"] == f"/v1/policies/shop/versions/{revision}"
        server.stop()
        server.start()
        for revision, text in texts.items():
            version = client.get(f"/v1/policies/shop/versions/{revision}")
            assert (version.status_code, version.content) == (200, text)
        for revision in (0, 1, 5, 249, 251):
            assert client.get(f"/v1/policies/shop/versions/{revision}").status_code == 404
        versions = client.get("/v1/policies/shop/versions").json()["versions"]
        assert [it["revision"] for it in versions] == [250, 11, 10, 4, 3]
        page = client.get("/v1/policies/shop/versions?limit=2&before=4").json()["versions"]
        assert [(it["version"], it["revision"]) for it in page] == [(3, 10), (2, 4)]
        assert versions[0]["etag"] == etag


def test_a_push_says_what_it_replaces(serve, connect, store):
    with connect(serve(store)) as client:
        assert client.put("/v1/policies/shop", json=policy(1)).status_code == 428
        first = stored(client.push(policy(1)))
        conflict = client.push(policy(2))
        assert (conflict.status_code, conflict.headers["etag"]) == (412, first)
        assert client.push(policy(2), '"other"').status_code == 412
        second = stored(client.push(policy(2), first))
        assert client.push(policy(3), first).status_code == 412
        stored(client.put("/v1/policies/shop", json=policy(4), headers={"if-match": "*"}))
        assert client.push(policy(1, name="cart"), second, name="cart").status_code == 412
        assert client.policy("cart").status_code == 404


def test_a_push_that_is_repeated_changes_nothing(serve, connect, store):
    with connect(serve(store)) as client:
        etag = stored(client.push(policy(1)))
        again = client.push(policy(1))
        assert (again.status_code, again.headers["etag"]) == (200, etag)
        assert len(client.get("/v1/policies/shop/versions").json()["versions"]) == 1


def test_what_the_plugin_would_refuse_is_refused_with_what_check_says(serve, connect, tmp_path):
    document = policy(2, percent=140)
    document["rollouts"][0]["when"] = {"cohort": "nobody"}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(document))
    checked = subprocess.run([COMMAND, "check", "--format", "json", file], capture_output=True, text=True)
    [told] = json.loads(checked.stdout)
    with connect(serve()) as client:
        etag = stored(client.push(policy(1)))
        refused = client.push(document, etag)
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"
        members = ("code", "place", "message", "line", "column")
        assert refused.json()["findings"] == [{it: finding[it] for it in members} for finding in told["findings"]]
        assert len(told["findings"]) == 2
        for wrong, finding in [
            (policy(1, percent=7), "revision: expected more than 1, the newest version's, found 1"),
            (policy(0), "revision: expected more than 1, the newest version's, found 0"),
            (policy(2, name="cart"), "name: expected shop, found cart"),
            ([], "document: expected an object at line 1 column 1"),
        ]:
            refused = client.push(wrong, etag)
            assert (refused.status_code, refused.json()["detail"]) == (422, f"the policy is refused: {finding}")
        assert client.policy().headers["etag"] == etag


@pytest.mark.parametrize("name", ["Shop", "-", "a" * 64, "shop.json", "%2e%2e", "a%2Fb", "1"])
def test_names_are_names(serve, connect, name):
    with connect(serve()) as client:
        assert client.policy(name).status_code == 400
        assert client.push(policy(1), name=name).status_code == 400


def test_who_waits_gets_a_push_at_once(serve, connect, store):
    with connect(serve(store)) as client, connect(client.server) as other:
        etag = stored(client.push(policy(1)))
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(other.policy(if_none_match=etag, prefer="wait=60")), daemon=True
        )
        waiting.start()
        wait_until(lambda: "mulkko_serve_waiting 1" in client.get("/metrics").text, "the long poll")
        stored(client.push(policy(2), etag))
        waiting.join(10)
        assert answers[0].json() == policy(2)
        assert answers[0].headers["preference-applied"] == "wait=60"


def test_a_wait_without_news_ends_unmodified(serve, connect):
    with connect(serve()) as client:
        etag = stored(client.push(policy(1)))
        started = time.monotonic()
        answer = client.policy(if_none_match=etag, prefer="wait=1")
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["preference-applied"] == "wait=1"
        assert time.monotonic() - started >= 1


def test_who_leaves_does_not_wait(serve, connect):
    with connect(serve()) as client:
        etag = stored(client.push(policy(1)))
        with pytest.raises(requests.exceptions.ReadTimeout):
            client.get("/v1/policies/shop", headers={"if-none-match": etag, "prefer": "wait=60"}, timeout=1)
        wait_until(lambda: "mulkko_serve_waiting 0" in client.get("/metrics").text, "its end")


def test_a_server_that_ends_lets_who_waits_go(serve, connect):
    server = serve()
    with connect(server) as client:
        etag = stored(client.push(policy(1)))
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(client.policy(if_none_match=etag, prefer="wait=60")), daemon=True
        )
        waiting.start()
        with connect(server) as other:
            wait_until(lambda: "mulkko_serve_waiting 1" in other.get("/metrics").text, "the long poll")
        assert server.stop() == 0
        waiting.join(5)
        assert answers[0].status_code == 304


def test_tokens_are_good_for_their_policies_and_for_no_others(serve, connect):
    secret = "mulkko_shop-only"
    server = serve(tokens=[entry(TOKEN), entry(secret, "shop-team", ["shop", "cart-*"])])
    with connect(server, token=secret) as client:
        for name, status in [("shop", 201), ("cart-eu", 201), ("cart", 403), ("shops", 403), ("other", 403)]:
            answer = client.push(policy(1, name=name), name=name)
            assert answer.status_code == status, (name, answer.text)
            if status == 403:
                assert answer.json()["detail"] == f"the token of shop-team is not good for the policy {name}"
        assert client.get("/v1/policies/shop/audit").status_code == 200
        assert client.get("/v1/policies/other/audit").status_code == 403
        for authorization in ["", "Bearer", f"Basic {secret}", "Bearer mulkko_shop-onlx", f"Bearer {secret}x"]:
            answer = client.put(
                "/v1/policies/shop", json=policy(2), headers={"authorization": authorization, "if-match": "*"}
            )
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        # Who is taken out of the file is out at once.
        server.tokens.write_text(json.dumps([entry(TOKEN)]))
        assert client.push(policy(2), client.policy().headers["etag"]).status_code == 401
        server.tokens.write_text("no JSON")
        assert client.push(policy(2), client.policy().headers["etag"]).status_code == 503
    everything = b"".join(file.read_bytes() for file in server.tokens.parent.rglob("*") if file.is_file())
    assert secret.encode() not in everything and b"filler" not in everything


def test_without_tokens_nobody_pushes(serve, connect):
    with connect(serve(tokens=[])) as client:
        assert client.push(policy(1)).status_code == 401


def test_every_change_leaves_a_record(serve, connect, store):
    before = time.time()
    server = serve(store, tokens=[entry(TOKEN, "shop-team"), entry("mulkko_2", "night-shift")])
    with connect(server) as client:
        etag = stored(client.push(policy(1)))
        client.token = "mulkko_2"
        stored(client.push(policy(2, percent=25), etag))
        newest, first = client.get("/v1/policies/shop/audit").json()["changes"]
        assert (newest["by"], newest["from"], newest["revision"]) == ("night-shift", "127.0.0.1", 2)
        assert newest["change"] == {
            "places": 2,
            "patch": [
                {"op": "replace", "path": "/revision", "value": 2},
                {"op": "replace", "path": "/rollouts/0/strategy/canary/percent", "value": 25},
            ],
        }
        assert (first["by"], first["change"]) == ("shop-team", {"places": 0})
        at = time.mktime(time.strptime(newest["at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        assert before - 1 <= at <= time.time()
        # A change that is too long to keep is counted all the same.
        long = policy(3, percent=25)
        long["cohorts"] = {f"cohort-{i}": {"==": ["x" * 200, i]} for i in range(1_000)}
        stored(client.push(long, client.policy().headers["etag"]))
        change = client.get("/v1/policies/shop/audit?limit=1").json()["changes"][0]["change"]
        assert change == {"places": 2}


def test_metrics_are_prometheus(serve, connect):
    with connect(serve()) as client:
        stored(client.push(policy(7)))
        client.policy(x_mulkko_node="edge-1", x_mulkko_revision="7")
        client.push(policy(8))
        text = client.get("/metrics").text
        for line in (
            'mulkko_serve_pushes_total{outcome="stored"} 1',
            'mulkko_serve_pushes_total{outcome="conflict"} 1',
            'mulkko_serve_policy_revision{policy="shop"} 7',
            'mulkko_serve_proxies{policy="shop",state="current"} 1',
            'mulkko_serve_requests_total{route="/v1/policies/{name}",method="PUT",code="412"} 1',
        ):
            assert line in text, text
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        assert "error" not in checked.stderr, checked.stderr


def test_logs_can_be_json(serve, connect):
    server = serve(options=["--format", "json", "--log", "debug"])
    with connect(server) as client:
        stored(client.push(policy(1)))
        client.push(policy(2))
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.log().splitlines()]
    [pushed] = [line for line in lines if line["message"] == "pushed"]
    assert (pushed["policy"], pushed["revision"], pushed["by"], pushed["level"]) == ("shop", 1, "platform-team", "INFO")
    answered = [line for line in lines if line["message"] == "answered"]
    assert {line["code"] for line in answered} == {201, 412}
    assert lines[-1]["message"] == "ended"


def test_it_says_how_it_is(serve, connect):
    with connect(serve()) as client:
        assert client.get("/healthz").status_code == 204
        assert client.get("/v1/nothing").status_code == 404
        assert client.delete("/v1/policies/shop").status_code == 405
