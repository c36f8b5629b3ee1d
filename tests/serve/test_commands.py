"""What platform teams do to a policy from a console: signed, pushed, rolled back, paused and promoted."""

import json

import pytest
from documents import policy
from joserfc import jws
from joserfc.jwk import OKPKey

STEPS = {"variant": "canary", "start": "2026-01-01T00:00:00Z", "steps": [{"percent": 12.5}]}


@pytest.fixture
def key(serve):
    """A signing key in the environment, and the plugin configuration that knows it."""
    made = json.loads(serve().run("keygen", "--kid", "2026-11", "--format", "json").stdout)
    return {"MULKKO_SIGNING_KEY": json.dumps(made["private"])}, {"name": "shop", "verify": [made["verify"]]}


def percent(client):
    """The canary of the newest version."""
    return client.policy().json()["rollouts"][0]["strategy"]["canary"]


def with_steps(revision):
    document = policy(revision)
    document["rollouts"][0]["strategy"]["canary"] = STEPS
    return document


def test_a_canary_is_paused_promoted_and_rolled_back(serve, connect):
    server = serve()
    with connect(server) as client:
        server.push(with_steps(5))
        server.run("pause", "shop", "--rollout", "checkout-v2")
        assert percent(client) == {"variant": "canary", "percent": 12.5}
        assert server.run("pause", "shop", "--rollout", "checkout-v2").stdout == "shop: nothing to change\n"
        server.run("promote", "shop", "--rollout", "checkout-v2", "--percent", "50")
        assert percent(client) == {"variant": "canary", "percent": 50}
        server.run("promote", "shop", "--rollout", "checkout-v2")
        assert percent(client) == {"variant": "canary", "percent": 100}
        server.run("rollback", "shop")
        assert percent(client) == {"variant": "canary", "percent": 50}
        server.run("rollback", "shop", "--to", "5")
        assert client.policy().json() == with_steps(10)
        assert [it["revision"] for it in client.get("/v1/policies/shop/versions").json()["versions"]] == list(range(10, 4, -1))
        # Nothing but the revision differs, to the byte.
        old, new = client.get("/v1/policies/shop/versions/5").text, client.policy().text
        assert new == old.replace('"revision": 5', '"revision": 10')


def test_what_cannot_be_edited_is_left_alone(serve):
    server = serve()
    server.push(policy(1))
    for arguments, error in [
        (("pause", "cart", "--rollout", "a"), "there is no policy cart"),
        (("pause", "shop", "--rollout", "a"), "there is no rollout a"),
        (("rollback", "shop"), "shop has no version before 1"),
        (("rollback", "shop", "--to", "7"), "shop has no version of revision 7"),
        (("promote", "shop", "--rollout", "checkout-v2", "--percent", "140"),
         "the edited policy is refused: rollouts[0].strategy.canary.percent: expected 0 to 100, found 140"),
    ]:  # fmt: skip
        done = server.run(*arguments, check=False)
        assert (done.returncode, done.stderr) == (2, f"error: {error}\n")
    printed = server.run("promote", "shop", "--rollout", "checkout-v2", "--dry-run").stdout
    assert json.loads(printed) == policy(2, percent=100)
    assert len(server.get("/v1/policies/shop/versions")["versions"]) == 1


def test_edits_are_signed_where_versions_are(serve, connect, key, tmp_path):
    environment, plugin = key
    server = serve()
    (tmp_path / "plugin.json").write_text(json.dumps(plugin))
    public = OKPKey.import_key(
        {"kty": "OKP", "crv": "Ed25519", "kid": "2026-11", "x": plugin["verify"][0]["ed25519"]}
    )
    with connect(server) as client:
        server.push(policy(1), environment=environment)
        for arguments in (("promote", "shop", "--rollout", "checkout-v2"), ("rollback", "shop")):
            unsigned = server.run(*arguments, check=False)
            assert unsigned.stderr == "error: shop is signed, and there is no key to sign it with\n"
            server.run(*arguments, environment=environment)
            served = client.policy()
            assert served.headers["content-type"] == "application/jose"
            # Another library verifies what was signed.
            opened = jws.deserialize_compact(served.text, public, algorithms=["EdDSA"])
            assert opened.protected == {"alg": "EdDSA", "kid": "2026-11"}
            (tmp_path / "shop.jws").write_text(served.text)
            verified = server.run("verify", "--plugin", tmp_path / "plugin.json", tmp_path / "shop.jws").stdout
            assert verified.endswith(f"good: shop, revision {json.loads(opened.payload)['revision']}, signed by 2026-11\n")
        assert json.loads(opened.payload) == policy(3)
        versions = client.get("/v1/policies/shop/versions").json()["versions"]
        assert {(it["signedBy"], it["claimedBy"]) for it in versions} == {(None, "2026-11")}


def test_what_another_library_signs_is_taken(serve, connect, key):
    environment, _ = key
    private = OKPKey.import_key(json.loads(environment["MULKKO_SIGNING_KEY"]))
    token = jws.serialize_compact({"alg": "EdDSA", "kid": "2026-11"}, json.dumps(policy(1)), private, algorithms=["EdDSA"])
    server = serve()
    with connect(server) as client:
        assert "its signature (2026-11) not verified by the server" in server.push(token).stdout
        assert client.policy().text == token


def test_a_tampered_key_shows_nothing_of_itself(serve, key):
    environment, _ = key
    private = json.loads(environment["MULKKO_SIGNING_KEY"])
    for wrong, error in [
        ("nonsense", "expected a JWK with `kty`, `crv`, `kid`, `x` and `d`"),
        (json.dumps({**private, "kty": "EC"}), "expected a key of `kty` OKP and `crv` Ed25519, found EC and Ed25519"),
        (json.dumps({**private, "x": private["d"]}), "`x` is not the public key of `d`"),
        (json.dumps({**private, "d": private["d"][:-1]}), "expected 32 bytes in base64url as `d`"),
    ]:
        done = serve().run("keygen", "--public", check=False, environment={"MULKKO_SIGNING_KEY": wrong})
        assert (done.returncode, done.stderr) == (2, f"error: MULKKO_SIGNING_KEY: {error}\n")


def test_a_token_is_made_once_and_kept_as_its_hash(serve, connect):
    server = serve()
    made = json.loads(server.run("token", "--name", "cart-team", "--policy", "cart*", "--format", "json").stdout)
    assert made["token"] not in json.dumps(made["entry"])
    server.tokens.write_text(json.dumps([made["entry"]]))
    with connect(server, token=made["token"]) as client:
        assert client.push(policy(1, name="cart"), name="cart").status_code == 201
        assert client.push(policy(1)).status_code == 403


def test_a_push_is_refused_before_it_is_sent(serve, tmp_path):
    server = serve()
    for text, error in [
        (json.dumps(policy(1, percent=140)), "- is refused: rollouts[0].strategy.canary.percent: expected 0 to 100, found 140"),
        (json.dumps(policy(1, name="cart")), "-: its name is cart, not shop"),
    ]:  # fmt: skip
        done = server.push(text, check=False)
        assert (done.returncode, done.stderr) == (2, f"error: {error}\n")
    assert server.get("/v1/policies") == {"policies": []}
    server.push(policy(3))
    done = server.push(policy(2), check=False)
    assert done.returncode == 1
    assert "revision: expected more than 3, the newest version's, found 2" in done.stdout
    assert server.run("push", "-", "--if-match", '"x"', input=json.dumps(policy(4)), check=False).stderr == (
        "error: shop has changed meanwhile: look at it, and push again\n"
    )
