"""Who may read and push, and which proxies are believed."""

import contextlib
import json
import re
import socket
import threading
import time

import pytest
import requests
import trustme
from conftest import Client
from documents import policy
from serve import PROXY_TOKEN, TOKEN, entry
from stage import wait_until

NOT_ANONYMOUS = ["--anonymous=false"]
READS = [
    "/v1/policies", "/v1/policies/shop", "/v1/policies/shop/versions", "/v1/policies/shop/versions/1", "/v1/proxies",
    "/v1/proxies?policy=shop",
]  # fmt: skip


def ask(client, node, revision, **headers):
    """One fetch of a proxy."""
    own = {"x-mulkko-node": node, "x-mulkko-revision": str(revision)}
    headers = {key.replace("_", "-"): it for key, it in headers.items()}
    return client.get("/v1/policies/shop", headers={**own, **headers})


def proxies(client, query=""):
    """The proxies of `shop`: how they stand, by node."""
    return {(it["node"], it["state"]) for it in client.get(f"/v1/proxies{query}").json()["proxies"]}


def test_without_anonymous_a_read_takes_the_right(serve, connect):
    tokens = [
        entry(TOKEN),
        entry("mulkko_r", "reader", ["shop"], may=["read"]),
        entry("mulkko_p", "pusher", may=["push"]),
        entry("mulkko_o", "others", ["cart"]),
        entry("mulkko_e", "expired", expires="2000-01-01T00:00:00Z"),
        entry("mulkko_n", "nobody", may=["report", "back", "progress", "force"]),
    ]
    server = serve(tokens=tokens, options=NOT_ANONYMOUS)
    with connect(server) as client:
        assert client.push(policy(1)).status_code == 201
        assert client.push(policy(1, name="cart"), name="cart").status_code == 201
    for token, statuses in [
        (TOKEN, {200}), ("mulkko_r", {200}), (None, {401}), ("mulkko_x", {401}), ("mulkko_p", {401}),
        ("mulkko_e", {401}), ("mulkko_n", {401}),
    ]:  # fmt: skip
        with connect(server, token=token) as client:
            assert {client.get(path).status_code for path in READS} == statuses, token
            assert client.get("/healthz").status_code == 204
            assert client.get("/metrics").status_code == 200
            if token is None:
                assert client.policy().headers["www-authenticate"] == "Bearer"
                assert client.policy("no-such").status_code == 401
    with connect(server, token="mulkko_r") as client:
        assert client.get("/v1/policies").json() == {"policies": ["shop"]}
        assert client.policy("cart").status_code == 401
        assert client.push(policy(2), "*").status_code == 403
    with connect(server, token="mulkko_o") as client:
        assert client.policy().status_code == 401
        assert client.policy("cart").status_code == 200
    with connect(server, token="mulkko_e") as client:
        assert client.policy().json()["detail"] == "the token of expired has expired"
        assert client.push(policy(2), "*").status_code == 401
    with connect(server, token="mulkko_p") as client:
        assert client.policy().json()["detail"] == "the token of pusher may not read"
        assert client.put("/v1/policies/shop", json=policy(2), headers={"if-match": "*"}).status_code == 201


def test_everybody_reads_on_loopback_alone_unless_it_is_said(serve, connect, tmp_path):
    for listen, options, status in [
        ("127.0.0.1", [], 200), ("0.0.0.0", [], 401), ("127.0.0.1", ["--anonymous"], 200),
        ("127.0.0.1", ["--anonymous=false"], 401), ("0.0.0.0", ["--anonymous"], 200),
    ]:  # fmt: skip
        server = serve(listen=listen, options=options, store=(f"{tmp_path}/{listen}{options}", {}))
        with connect(server) as client:
            client.push(policy(1))
            assert client.policy().status_code == 200
            client.token = None
            assert client.policy().status_code == status, (listen, options)


@pytest.mark.parametrize(
    "members",
    [
        {"may": ["write"]}, {"may": None}, {"expires": "soon"}, {"rights": ["read"]}, {"sha256": "x"}, {"subject": "x"},
        {"name": ""}, {"rollouts": ["a"]},
    ],
)  # fmt: skip
def test_a_file_of_tokens_says_what_it_may_or_is_refused(serve, members):
    with pytest.raises(RuntimeError, match="tokens.json"):
        serve(tokens=[{**entry(TOKEN), **members}])


def test_who_is_taken_out_while_it_waits_gets_nothing(serve, connect):
    server = serve(options=NOT_ANONYMOUS)
    with connect(server) as client, connect(server, token=PROXY_TOKEN) as proxy:
        etag = client.push(policy(1)).headers["etag"]
        answers = []
        wait = {"if_none_match": etag, "prefer": "wait=60"}
        waiting = threading.Thread(target=lambda: answers.append(proxy.policy(**wait)), daemon=True)
        waiting.start()
        wait_until(lambda: "mulkko_serve_waiting 1" in client.get("/metrics").text, "the long poll")
        server.tokens.write_text(json.dumps([entry(TOKEN)]))
        assert client.push(policy(2), etag).status_code == 201
        waiting.join(10)
        assert answers[0].status_code == 401


def test_a_stranger_is_served_and_makes_no_proxy_current(serve, connect):
    server = serve()
    with connect(server, token=PROXY_TOKEN) as proxy, connect(server, token=None) as stranger:
        server.push(policy(1))
        ask(proxy, "edge-1", 1, x_mulkko_version="0.1.0")
        for revision in (2, 9007199254740991):
            assert ask(stranger, "edge-1", revision).status_code == 200
        assert ask(stranger, "edge-2", 1).status_code == 200
        with connect(server, token="mulkko_unknown") as unknown:
            assert ask(unknown, "edge-3", 1).status_code == 200
        done = server.push(policy(2), "--wait", "--timeout", "500ms", check=False)
        assert done.returncode == 1
        assert "missing at edge-1\n" in done.stdout and "not waited for, since unverified: 3" in done.stdout
        assert proxies(stranger) == {
            ("edge-1", "behind"), ("edge-1", "unverified"), ("edge-2", "unverified"), ("edge-3", "unverified"),
        }  # fmt: skip
        assert proxies(stranger, "?state=unverified") == proxies(stranger) - {("edge-1", "behind")}
        standing = stranger.get("/v1/proxies").json()["policies"]["shop"]
        assert standing == {"revision": 2, "current": 0, "behind": 1, "refused": 0, "unverified": 3}
        assert 'mulkko_serve_proxies{policy="shop",state="unverified"} 3' in stranger.get("/metrics").text
        told = server.run("proxies", "shop").stdout
        assert "shop, revision 2: 0 run it, 1 behind, 0 refused it, 3 unverified" in told
        assert re.search(r"edge-1 +0\.1\.0 +1 +behind", told)
        ask(proxy, "edge-1", 2)
        assert "1 of 1 proxies have it" in server.push(policy(2), "--wait", "--timeout", "10s").stdout


def test_where_no_token_may_read_everybody_is_believed(serve, connect):
    server = serve(tokens=[entry(TOKEN, may=["push"])])
    with connect(server, token=None) as client:
        server.push(policy(1))
        ask(client, "edge-1", 1)
        assert proxies(client) == {("edge-1", "current")}


def test_a_token_is_believed_for_the_nodes_that_it_names(serve, connect):
    server = serve(tokens=[entry(TOKEN), entry("mulkko_e", "edges", may=["read"], nodes=["edge-*", "gateway"])])
    server.push(policy(1))
    with connect(server, token="mulkko_e") as client:
        for node in ("edge-1", "gateway", "gateway-1", "mesh-1"):
            ask(client, node, 1)
        assert proxies(client) == {
            ("edge-1", "current"), ("gateway", "current"), ("gateway-1", "unverified"), ("mesh-1", "unverified"),
        }  # fmt: skip


def test_a_certificate_speaks_for_the_nodes_that_it_names(serve, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificates = {
        "server": authority.issue_cert("127.0.0.1"),
        "edge": authority.issue_cert("edge-1.example.com"),
        "team": authority.issue_cert("team.example.com", common_name="shop-team"),
        "other": authority.issue_cert("other.example.com"),
    }
    for name, made in certificates.items():
        made.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    pem, ca = (lambda name: str(tmp_path / f"{name}.pem")), str(tmp_path / "ca.pem")
    server = serve(
        tokens=[
            {"name": "edges", "subject": "edge-*.example.com", "policies": ["*"], "may": ["read"], "nodes": ["edge-?", "edge-1"]},
            {"name": "own", "subject": "edge-*.example.com", "policies": ["*"], "may": ["read"]},
            {"name": "shop-team", "subject": "shop-team", "policies": ["shop"]},
        ],
        options=["--tls-cert", pem("server"), "--tls-key", pem("server"), "--client-ca", ca, *NOT_ANONYMOUS],
    )  # fmt: skip
    mine = ["--ca", ca, "--client-cert", pem("team")]
    assert "revision 1 pushed" in server.push(policy(1), *mine, environment={"MULKKO_TOKEN": ""}).stdout
    url = f"{server.url}/v1/policies/shop"
    with contextlib.ExitStack() as cleanup:

        def get(name, url=url, **headers):
            session = cleanup.enter_context(requests.Session())
            headers = {key.replace("_", "-"): it for key, it in headers.items()}
            return session.get(url, verify=ca, cert=pem(name), headers=headers, timeout=10)

        assert get("other").status_code == 401
        assert get("team").status_code == 200
        for node in ("edge-1", "edge-1.example.com", "edge-2"):
            assert get("edge", x_mulkko_node=node, x_mulkko_revision="1").status_code == 200
        found = get("team", f"{server.url}/v1/proxies?policy=shop").json()["proxies"]
        assert {(it["node"], it["state"]) for it in found} == {
            ("edge-1", "current"), ("edge-1.example.com", "current"), ("edge-2", "unverified"),
        }  # fmt: skip
        done = server.push(policy(2), "--ca", ca, "--client-cert", pem("edge"), environment={"MULKKO_TOKEN": ""}, check=False)
        assert "the certificate of edges may not push" in done.stderr or "401" in done.stderr or "403" in done.stderr
        assert get("team", f"{url}/audit").json()["changes"][0]["by"] == "shop-team"


def test_strangers_cost_little_and_keep_no_proxy_out(serve, connect):
    server = serve(options=["--proxies-per-address", "500", "--heartbeat", "100ms"])
    other = serve((server.store, {}), options=["--heartbeat", "100ms"])
    with connect(server, token=PROXY_TOKEN) as proxy, connect(server, token=None) as stranger, connect(other) as far:
        proxy.server.push(policy(1))
        before = server.memory_bytes()
        lies = {"x_mulkko_rolled_back": ",".join(f"rollout-{i}/variant" for i in range(900)), "x_mulkko_refused": "x" * 250}
        for i in range(3_000):
            assert ask(stranger, f"{i}-{'x' * 240}", 1, **lies).status_code == 200
        ask(proxy, "edge-1", 1)
        standing = stranger.get("/v1/proxies?limit=0").json()
        assert standing["policies"]["shop"] == {"revision": 1, "current": 1, "behind": 0, "refused": 0, "unverified": 500}
        wait_until(lambda: far.get("/v1/proxies?limit=0").json()["policies"] == standing["policies"], "the other server")
        assert 'mulkko_serve_proxies_left_out_total{why="address"} 2500' in stranger.get("/metrics").text
        assert "a proxy is left out: too many of its address show no token" in server.log()
        assert server.log().count("a proxy is left out") < 20
        assert server.memory_bytes() < before + (30 << 20)


def test_a_name_that_is_too_long_is_counted_and_logged(serve, connect):
    server = serve()
    with connect(server) as client:
        client.push(policy(1))
        for length in (256, 257, 8_000):
            assert ask(client, "n" * length, 1).status_code == 200
        assert {len(node) for node, _ in proxies(client)} == {256}
        assert 'mulkko_serve_proxies_left_out_total{why="name"} 2' in client.get("/metrics").text
        assert "a proxy is left out: its name has over 256 bytes" in server.log() and "nnnn" not in server.log()


def test_proxies_come_in_pages_and_reach_other_servers_in_parts(serve, connect):
    server = serve(options=["--heartbeat", "100ms", "--log", "debug"])
    other = serve((server.store, {}))
    with connect(server) as client, connect(other) as far:
        client.push(policy(1))
        nodes = {f"{i}-{'x' * 248}" for i in range(3_400)}
        for node in nodes:
            ask(client, node, 1, x_mulkko_rolled_back="checkout-v2/canary, cart/v2")
        wait_until(lambda: far.get("/v1/proxies?limit=0").json()["policies"]["shop"]["current"] == len(nodes), "all of them")
        for path in ("/v1/proxies", "/v1/proxies?limit=700"):
            found, after, pages = [], "", 0
            while after is not None:
                page = far.get(path, params={"after": after} if after else {}).json()
                found += [it["node"] for it in page["proxies"]]
                assert len(page["proxies"]) <= 1_000
                after, pages = page.get("next"), pages + 1
            assert found == sorted(nodes), path
            assert pages == -(-len(nodes) // (700 if "limit" in path else 1_000))
        assert client.get("/v1/proxies?limit=1001").status_code == 400
        assert client.get("/v1/proxies?after=x").status_code == 400
        told = json.loads(server.run("proxies", "--format", "json").stdout)
        assert {it["node"] for it in told["proxies"]} == nodes


def test_a_push_warns_of_proxies_that_do_not_know_a_member(serve, connect):
    server = serve()
    with connect(server, token=PROXY_TOKEN) as proxy, connect(server, token=None) as stranger:
        server.push(policy(1))
        ask(proxy, "edge-1", 1, x_mulkko_version="0.1.0")
        ask(stranger, "edge-2", 1, x_mulkko_version="0.0.1")
        assert server.push(policy(2)).stderr == ""
        ask(proxy, "edge-3", 1, x_mulkko_version="0.0.9")
        done = server.push(policy(3))
        assert done.stderr == "warning: name is known since version 0.1.0 of the plugin, which is not that of edge-3\n"
        found = {it["node"]: it["version"] for it in stranger.get("/v1/proxies").json()["proxies"]}
        assert found == {"edge-1": "0.1.0", "edge-2": "0.0.1", "edge-3": "0.0.9"}


def test_tokens_are_made_with_what_they_may(serve, connect):
    server = serve(options=NOT_ANONYMOUS)
    words = ["--name", "proxies", "--policy", "shop", "--may", "read", "--node", "edge-*", "--expires", "2900-01-01T00:00:00Z"]
    made = json.loads(server.run("token", *words, "--format", "json").stdout)
    assert {key: made["entry"][key] for key in ("may", "nodes", "expires")} == {
        "may": ["read"], "nodes": ["edge-*"], "expires": "2900-01-01T00:00:00Z",
    }  # fmt: skip
    server.push(policy(1))
    server.tokens.write_text(json.dumps([entry(TOKEN), made["entry"]]))
    with connect(server, token=made["token"]) as client:
        assert ask(client, "edge-1", 1).status_code == 200
        assert proxies(client, "?policy=shop") == {("edge-1", "current")}
        assert client.push(policy(2), "*").status_code == 403


def slow_pushes(server, cleanup, count, token):
    """Pushes whose bodies begin and do not end."""
    for _ in range(count):
        connection = cleanup.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        lines = [
            "PUT /v1/policies/shop HTTP/1.1", "host: x", f"authorization: Bearer {token}", "if-match: *", "content-length: 1000",
        ]  # fmt: skip
        connection.sendall("\r\n".join([*lines, "", "{"]).encode())


def test_slow_bodies_keep_nobody_from_pushing(serve, connect):
    server = serve(tokens=[entry(TOKEN), entry("mulkko_2", "other-team")])
    with connect(server) as client, contextlib.ExitStack() as cleanup:
        etag = client.push(policy(1)).headers["etag"]
        slow_pushes(server, cleanup, 40, TOKEN)
        wait_until(lambda: "mulkko_serve_connections 41" in client.get("/metrics").text, "all of them")
        started = time.monotonic()
        etag = client.push(policy(2), etag).headers["etag"]
        client.token = "mulkko_2"
        assert client.push(policy(3), etag).status_code == 201
        assert time.monotonic() - started < 5


def test_who_pushes_too_much_at_once_is_told_so(serve, connect):
    server = serve(tokens=[entry(TOKEN), entry("mulkko_2", "other-team")])
    with connect(server) as client, connect(server, token="mulkko_2") as other:
        etag = client.push(policy(1)).headers["etag"]
        document = json.dumps(policy(2, size=7_900_000))
        answers = []

        def push():
            with Client(server) as pusher:
                headers = {"if-match": '"other"'}
                answers.append(pusher.put("/v1/policies/shop", data=document, headers=headers, timeout=60))

        threads = [threading.Thread(target=push, daemon=True) for _ in range(24)]
        for thread in threads:
            thread.start()
        assert other.push(policy(2), etag).status_code == 201
        for thread in threads:
            thread.join(60)
        statuses = {answer.status_code for answer in answers}
        assert statuses <= {412, 429} and 412 in statuses, statuses
        for answer in answers:
            if answer.status_code == 429:
                assert answer.json()["detail"] == "platform-team pushes too much at once" and answer.headers["retry-after"]


def test_an_address_has_a_share_of_the_connections(serve, connect):
    server = serve(options=["--connections", "20"], listen="0.0.0.0")
    with connect(server) as client, contextlib.ExitStack() as cleanup:
        client.push(policy(1))
        for _ in range(40):
            cleanup.enter_context(
                socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.2", 0))
            )
        wait_until(lambda: server.log().count("too many connections of one address") >= 22, "the refusals")
        with connect(server) as other:
            assert other.policy().status_code == 200


@pytest.mark.parametrize("revision, found", [(2**53, None), (2**64 - 1, None), (2**64, None), (1_000_007, 7)])
def test_no_revision_ends_a_policy(serve, connect, revision, found):
    with connect(serve()) as client:
        etag = client.push(policy(6)).headers["etag"]
        refused = client.push(policy(revision), etag)
        most = "9007199254740991" if found is None else "1000006, 1000000 above the newest version's"
        assert (refused.status_code, refused.json()["detail"]) == (
            422, f"the policy is refused: revision: expected at most {most}, found {revision}",
        )  # fmt: skip
        etag = client.push(policy(1_000_006), etag).headers["etag"]
        assert client.push(policy(1_000_007), etag).status_code == 201


def test_the_highest_revision_can_be_the_first(serve, connect):
    with connect(serve()) as client:
        etag = client.push(policy(2**53 - 1)).headers["etag"]
        assert client.push(policy(2**53 - 1, percent=7), etag).status_code == 422
        assert client.get(f"/v1/policies/shop/versions/{2**53 - 1}").status_code == 200
        assert client.get(f"/v1/policies/shop/versions/{2**64 - 1}").status_code == 404


def test_a_change_of_many_places_costs_little_memory(serve, connect):
    server = serve()
    with connect(server) as client:

        def wide(revision):
            document = policy(revision)
            leaves = [revision] * 19_000
            document["flags"] = {"a": {"state": "ENABLED", "variants": {"x": 1}, "other": {"k" * 100_000: leaves}}}
            return document

        etag = client.push(wide(1)).headers["etag"]
        before = server.memory_bytes()
        assert client.push(wide(2), etag).status_code == 201
        change = client.get("/v1/policies/shop/audit?limit=1").json()["changes"][0]["change"]
        assert change == {"places": 19_001}
        assert server.memory_bytes() < before + (40 << 20)
