"""Versions that rot in the store, and what is verified of what is pushed."""

import json
import os

import pytest
from conftest import Client
from documents import policy
from joserfc import jws
from joserfc.jwk import OKPKey
from stage import wait_until


def at(server, number):
    """The file of a version."""
    return os.path.join(server.store, f"policies/shop/{number:012}")


def write(data):
    """Damage that replaces all."""
    return lambda _: data


DAMAGE = {
    "nothing": write(b""),
    "no record": write(b"garbage"),
    "a record that is none": write(b"{}\n{}"),
    "zeros": lambda data: bytes(len(data)),
    "cut in the record": lambda data: data[:20],
    "cut in the document": lambda data: data[:-5],
    "another byte": lambda data: data[:-5] + b"#" + data[-4:],
    "longer": lambda data: data + b" ",
    "another version's": lambda data: data.replace(b'"version":3', b'"version":2'),
    "a revision that no plugin takes": lambda data: data.replace(b'"revision":3,', b'"revision":18446744073709551615,', 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_newest_that_is_whole_is_served_and_gone_on_from(serve, connect, damage):
    server = serve()
    with connect(server) as client:
        for revision in (1, 2, 3):
            client.push(policy(revision, percent=revision), "*" if revision > 1 else None)
        server.stop()
        with open(at(server, 3), "rb") as file:
            data = file.read()
        with open(at(server, 3), "wb") as file:
            file.write(DAMAGE[damage](data))
        server.start()
        for _ in range(2):
            served = client.policy()
            assert (served.status_code, served.json()) == (200, policy(2, percent=2))
        assert client.get("/healthz").status_code == 204
        listed = client.get("/v1/policies/shop/versions").json()
        assert [it["revision"] for it in listed["versions"]] == [2, 1]
        [broken] = listed["broken"]
        assert (broken["version"], broken["key"]) == (3, "policies/shop/000000000003")
        assert broken["problem"]
        assert client.get("/v1/policies/shop/audit").json()["broken"] == [broken]
        assert 'mulkko_serve_versions_broken{policy="shop"} 1' in client.get("/metrics").text
        log = [line for line in server.log().splitlines() if "a version is broken" in line]
        assert len(log) == 1 and "policies/shop/000000000003" in log[0] and "shop" in log[0]
        told = server.run("versions", "shop").stdout
        assert f"broken version 3 (policies/shop/000000000003): {broken['problem']}" in told
        for revision, status in [(1, 200), (2, 200), (3, 404), (4, 404)]:
            assert client.get(f"/v1/policies/shop/versions/{revision}").status_code == status
        # `rollback` goes over it, and so do other servers.
        server.run("rollback", "shop")
        assert client.policy().json() == policy(3, percent=1)
        listed = client.get("/v1/policies/shop/versions").json()
        assert [(it["version"], it["revision"]) for it in listed["versions"]] == [(4, 3), (2, 2), (1, 1)]
        assert client.get("/v1/policies/shop/versions/3").json() == policy(3, percent=1)
        with connect(serve((server.store, {}))) as other:
            assert other.policy().json() == policy(3, percent=1)


def test_a_version_that_rots_while_it_is_served_is_served_on(serve, connect):
    server = serve(options=["--refresh", "20ms"])
    with connect(server) as client:
        client.push(policy(1))
        with open(at(server, 1), "wb") as file:
            file.write(b"rot")
        with open(at(server, 2), "wb") as file:
            file.write(b"rot")
        wait_until(lambda: client.policy().ok and "a version is broken" in server.log(), "the look")
        assert client.policy().json() == policy(1)
        assert client.push(policy(2), client.policy().headers["etag"]).status_code == 201
        assert client.policy().json() == policy(2)


def test_a_policy_of_which_nothing_is_whole_begins_anew(serve, connect):
    server = serve()
    with connect(server) as client:
        client.push(policy(1))
        server.stop()
        with open(at(server, 1), "wb") as file:
            file.write(b"rot")
        server.start()
        assert client.policy().status_code == 404
        assert client.policy().status_code == 404
        assert server.log().count("a version is broken") == 1
        assert client.get("/v1/policies/shop/versions").json()["versions"] == []
        server.push(policy(1, percent=7))
        assert client.policy().json() == policy(1, percent=7)


def test_what_is_not_utf8_is_not_pushed(serve, connect):
    document = b'{"name": "shop", "revision": 1, "flags": {"a": {"state": "ENABLED", "variants": {"x": 1}, "o": "\xff"}}}'
    with connect(serve()) as client:
        refused = client.put("/v1/policies/shop", data=document, headers={"if-none-match": "*"})
        assert (refused.status_code, refused.json()["detail"]) == (
            422, "the policy is refused: document: invalid unicode code point at line 1 column 97",
        )  # fmt: skip


@pytest.fixture
def keys(serve):
    """Two signing keys: for the environment, and for a plugin configuration."""
    made = [json.loads(serve().run("keygen", "--kid", kid, "--format", "json").stdout) for kid in ("ours", "theirs")]
    return [({"MULKKO_SIGNING_KEY": json.dumps(key["private"])}, key["verify"]) for key in made]


def test_what_plugins_would_refuse_is_not_pushed(serve, connect, tmp_path):
    plugin = tmp_path / "plugin.json"
    plugin.write_text(json.dumps({"name": "shop", "clusters": ["checkout-*"]}))
    server = serve(options=["--plugin", plugin])
    with connect(server) as client:
        assert client.push(policy(1)).status_code == 201
        wrong = policy(2)
        wrong["rollouts"][0]["variants"]["canary"]["cluster"] = "payments"
        refused = client.push(wrong, "*")
        place = "rollouts[0].variants.canary.cluster"
        assert refused.status_code == 422 and refused.json()["findings"][0]["place"] == place
        # Other policies are other plugins'.
        wrong["name"] = "cart"
        assert client.push(wrong, name="cart").status_code == 201
        # The file is read at each push.
        plugin.write_text(json.dumps({"clusters": ["*"]}))
        assert client.put("/v1/policies/shop", json={**wrong, "name": "shop"}, headers={"if-match": "*"}).status_code == 201
        plugin.write_text("{")
        assert client.put("/v1/policies/shop", json=policy(3), headers={"if-match": "*"}).status_code == 503
    with pytest.raises(RuntimeError, match="plugin.json"):
        serve(options=["--plugin", plugin])


def test_only_what_is_verified_is_shown_as_signed(serve, connect, keys, tmp_path):
    (ours, verify), (theirs, _) = keys
    plugin = tmp_path / "plugin.json"
    source = {"cluster": "config", "path": "/v1/policies/shop"}
    plugin.write_text(json.dumps({"name": "shop", "source": source, "verify": [verify]}))
    server = serve(options=["--plugin", plugin])
    with connect(server) as client:
        done = server.push(policy(1), environment=ours)
        assert done.stdout == "shop: revision 1 pushed, version 1, signed by ours\n"
        assert client.get("/v1/policies/shop/versions").json()["versions"][0]["signedBy"] == "ours"
        assert 'mulkko_serve_policy_signature{policy="shop",signature="verified"} 1' in client.get("/metrics").text
        assert "  by ours  " in server.run("versions", "shop").stdout

        def refused(document, detail, **environment):
            done = server.push(document, check=False, **environment)
            assert done.returncode == 1 and detail in done.stdout, done

        refused(policy(2), "jws: expected a signed policy (compact JWS), found a document without signature")
        refused(policy(2), "jws.header.kid: unknown key `theirs`", environment=theirs)
        private = json.loads(theirs["MULKKO_SIGNING_KEY"])
        forged = json.dumps({**private, "kid": "ours"})
        refused(
            policy(2), "jws.signature: expected a signature of this text by the key `ours`, found another",
            environment={"MULKKO_SIGNING_KEY": forged},
        )  # fmt: skip
        nameless = {key: it for key, it in policy(2).items() if key != "name"}
        key = OKPKey.import_key(json.loads(ours["MULKKO_SIGNING_KEY"]))
        token = jws.serialize_compact({"alg": "EdDSA", "kid": "ours"}, json.dumps(nameless), key, algorithms=["EdDSA"])
        answer = client.put("/v1/policies/shop", data=token, headers={"if-match": "*"})
        assert answer.json()["detail"] == "the policy is refused: name: expected shop, found nothing"


def test_what_only_claims_a_key_is_not_shown_as_signed(serve, connect, keys):
    (ours, _), _ = keys
    server = serve()
    with connect(server) as client:
        done = server.push(policy(1), environment=ours)
        assert "signed by" not in done.stdout
        assert "its signature (ours) not verified by the server" in done.stdout
        [version] = client.get("/v1/policies/shop/versions").json()["versions"]
        assert (version["signedBy"], version["claimedBy"]) == (None, "ours")
        assert 'mulkko_serve_policy_signature{policy="shop",signature="claimed"} 1' in client.get("/metrics").text
        told = server.run("versions", "shop").stdout
        assert "not verified (ours)" in told and "signed by" not in told
        with Client(server) as other:
            etag = other.policy().headers["etag"]
            assert other.push(policy(2), etag).json()["signedBy"] is None
        assert 'mulkko_serve_policy_signature{policy="shop",signature="none"} 1' in client.get("/metrics").text
