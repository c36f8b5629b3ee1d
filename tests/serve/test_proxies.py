"""Who runs what, as proxies say it of themselves."""

import json
import threading

from conftest import Client
from documents import policy
from stage import wait_until


def ask(client, node, revision, **headers):
    """One fetch of a proxy."""
    own = {"x-mulkko-node": node, "x-mulkko-revision": str(revision)}
    return client.get("/v1/policies/shop", headers={**own, **headers})


def by_node(server, query=""):
    """The proxies that a server tells of, by node."""
    return {it["node"]: it for it in server.get(f"/v1/proxies{query}")["proxies"]}


def test_any_server_tells_of_the_proxies_of_all(serve, connect, store):
    servers = [serve(store, options=["--heartbeat", "200ms"]) for _ in range(3)]
    with connect(servers[0]) as client:
        etag = client.push(policy(7)).headers["etag"]
        ask(client, "edge-1", 7)
    with connect(servers[1]) as client:
        ask(client, "edge-2", 6, **{"x-mulkko-refused": etag})
        ask(client, "edge-3", 5, **{"x-mulkko-rolled-back": "checkout-v2/canary, cart/v2"})
    for server in servers:
        wait_until(lambda server=server: len(by_node(server)) == 3, "all proxies")
        found = by_node(server)
        assert {node: it["state"] for node, it in found.items()} == {
            "edge-1": "current", "edge-2": "refused", "edge-3": "behind",
        }  # fmt: skip
        assert found["edge-2"]["refused"] == etag
        assert found["edge-3"]["rolledBack"] == ["checkout-v2/canary", "cart/v2"]
        assert found["edge-3"]["revision"] == 5
        assert server.get("/v1/proxies")["policies"]["shop"] == {"revision": 7, "current": 1, "behind": 1, "refused": 1}
        assert set(by_node(server, "?state=behind")) == {"edge-3"}
        assert not by_node(server, "?policy=cart")
    # What a proxy says last, wherever it says it, counts.
    with connect(servers[2]) as client:
        ask(client, "edge-3", 7)
    for server in servers:
        wait_until(lambda server=server: by_node(server)["edge-3"]["state"] == "current", "the last word")
    # A server that ends leaves its word.
    assert servers[1].stop() == 0
    assert set(by_node(servers[0])) == {"edge-1", "edge-2", "edge-3"}


def test_proxies_are_forgotten(serve, connect):
    server = serve(options=["--forget", "1s", "--heartbeat", "100ms"])
    with connect(server) as client:
        etag = client.push(policy(1)).headers["etag"]
        ask(client, "edge-1", 1)
        assert set(by_node(server)) == {"edge-1"}
        # Who waits is there, however long.
        waiting = threading.Thread(
            target=lambda: ask(Client(server), "edge-2", 1, **{"if-none-match": etag, "prefer": "wait=8"}), daemon=True
        )
        waiting.start()
        wait_until(lambda: set(by_node(server)) == {"edge-2"}, "the first to be forgotten")
        assert by_node(server)["edge-2"]["ageMs"] < 500
        waiting.join()


def test_push_waits_until_all_have_it(serve, connect):
    server = serve()
    with connect(server) as client:
        first = client.push(policy(1)).headers["etag"]
        gone = threading.Event()

        def follow(node, refuses=False):
            """A proxy with long polls; one that refuses takes no revision 3."""
            revision, etag, refused = 1, first, {}
            while not gone.is_set():
                with Client(server) as proxy:
                    answer = ask(proxy, node, revision, **{"if-none-match": etag, "prefer": "wait=30"}, **refused)
                etag = answer.headers["etag"]
                if answer.status_code == 200 and refuses and answer.json()["revision"] == 3:
                    refused = {"x-mulkko-refused": etag}
                elif answer.status_code == 200:
                    revision, refused = answer.json()["revision"], {}

        for i in range(3):
            threading.Thread(target=follow, args=(f"edge-{i}", i == 0), daemon=True).start()
        wait_until(lambda: len(by_node(server)) == 3, "the proxies")

        done = server.push(policy(2), "--wait")
        assert "shop: revision 2 pushed, version 2\n  3 of 3 proxies have it after " in done.stdout
        done = server.push(policy(3), "--wait", check=False)
        assert done.returncode == 1
        assert "2 of 3 proxies have it" in done.stdout and "refused by edge-0" in done.stdout
        told = server.run("proxies", "shop", check=False)
        assert told.returncode == 1 and "shop, revision 3: 2 run it, 0 behind, 1 refused it" in told.stdout
        server.push(policy(4), "--wait")

        # Who does not come is named.
        gone.set()
        done = server.push(policy(5), "--wait", "--timeout", "1s", "--format", "json", check=False)
        assert done.returncode == 1
        arrival = json.loads(done.stdout)["arrival"]
        assert arrival["missing"] == ["edge-0", "edge-1", "edge-2"] and arrival["behind"] == 3


def test_a_push_that_nobody_asks_for_says_so(serve):
    done = serve().push(policy(1), "--wait", "--timeout", "500ms", check=False)
    assert done.returncode == 1 and "no proxy asks for it" in done.stdout
