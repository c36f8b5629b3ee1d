"""What platform teams do to a policy from a console: signed, pushed, rolled back, paused and promoted."""

import contextlib
import http.server
import json
import os
import pty
import subprocess
import threading
import time

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
            unverified = server.run(*arguments, check=False)
            assert unverified.stderr == (
                "error: shop is not believed: there is no key to verify it with: `--verify` or `--plugin` names one\n"
            )
            unsigned = server.run(*arguments, "--plugin", tmp_path / "plugin.json", check=False)
            assert unsigned.stderr == "error: shop is signed, and there is no key to sign it with\n"
            server.run(*arguments, environment=environment)
            served = client.policy()
            assert served.headers["content-type"] == "application/jose"
            # Another library verifies what was signed.
            registry = jws.JWSRegistry(algorithms=["EdDSA"], strict_check_header=False)
            opened = jws.deserialize_compact(served.text, public, registry=registry)
            signed_at = opened.protected.pop("iat")
            assert opened.protected == {"alg": "EdDSA", "kid": "2026-11"} and abs(time.time() - signed_at) < 600
            (tmp_path / "shop.jws").write_text(served.text)
            verified = server.run("verify", "--plugin", tmp_path / "plugin.json", tmp_path / "shop.jws").stdout
            assert verified.endswith(f"good: shop, revision {json.loads(opened.payload)['revision']}, signed by 2026-11\n")
        assert json.loads(opened.payload) == policy(3)
        versions = client.get("/v1/policies/shop/versions").json()["versions"]
        assert {(it["signedBy"], it["claimedBy"]) for it in versions} == {(None, "2026-11")}


EDITS = [
    ("promote", "shop", "--rollout", "checkout-v2"),
    ("pause", "shop", "--rollout", "checkout-v2"),
    ("rollback", "shop", "--to", "1"),
]


@contextlib.contextmanager
def lying(documents):
    """A server that gives these documents, by path, and keeps what is pushed to it: its URL, and that."""
    pushed = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            document = documents.get(self.path)
            self.send_response(200 if document else 404)
            self.send_header("etag", '"1"')
            self.send_header("content-length", str(len(document or b"")))
            self.end_headers()
            self.wfile.write(document or b"")

        def do_PUT(self):
            pushed.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(500)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", pushed
        server.shutdown()


def signed_by(private, document, kid=None):
    """A document, signed by another library."""
    key = OKPKey.import_key(private)
    return jws.serialize_compact({"alg": "EdDSA", "kid": kid or private["kid"]}, json.dumps(document), key, algorithms=["EdDSA"])


def tampered(token):
    """A token with another signature."""
    text, _, signature = token.rpartition(".")
    return f"{text}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def test_nothing_is_signed_that_no_known_key_has_signed(serve, key, tmp_path):
    environment, plugin = key
    server = serve()
    mine = json.loads(environment["MULKKO_SIGNING_KEY"])
    other = json.loads(server.run("keygen", "--kid", "other", "--format", "json").stdout)
    theirs = other["private"]
    named = ("--verify", json.dumps(other["verify"]))
    (tmp_path / "both.json").write_text(json.dumps({"name": "shop", "verify": [*plugin["verify"], other["verify"]]}))

    def refusal(newest, older, *arguments, **more):
        answers = {"/v1/policies/shop": newest, "/v1/policies/shop/versions/1": older}
        answers = {path: document.encode() for path, document in answers.items()}
        with lying(answers) as (url, pushed):
            done = server.run(*arguments, "--server", url, environment=environment, check=False, **more)
        assert (done.returncode, bool(pushed)) == (2, done.stderr.endswith("500 Internal Server Error\n")), done.stderr
        return done.stderr.splitlines()[-1].removeprefix("error: ")

    good = with_steps(2)
    newest, older = signed_by(mine, good), signed_by(mine, policy(1))
    pushed = "500 Internal Server Error"
    for arguments in EDITS:
        assert refusal(newest, older, *arguments) == pushed
        for document, why in [
            (signed_by(theirs, good), "shop is not believed: jws.header.kid: unknown key `other`"),
            (signed_by(theirs, good, "2026-11"),
             "shop is not believed: jws.signature: expected a signature of this text by the key `2026-11`, found another"),
            (tampered(newest), "shop is not believed: jws.signature: expected a signature of this text by the key `2026-11`, found another"),
            (json.dumps(good), "shop is not believed: the server gives one that is not signed"),
            (signed_by(mine, {**good, "name": "cart"}), "asked for shop, the server gives cart"),
            (signed_by(mine, {"revision": 2}), "asked for shop, the server gives a policy without a name"),
        ]:  # fmt: skip
            assert refusal(document, older, *arguments) == why
    # The older version alike, and it is the one that was asked for.
    for document, why in [
        (signed_by(theirs, policy(1)), "shop is not believed: jws.header.kid: unknown key `other`"),
        (json.dumps(policy(1)), "shop is not believed: the server gives one that is not signed"),
        (signed_by(mine, policy(3)), "asked for revision 1 of shop, the server gives 3"),
        (signed_by(mine, policy(1, name="cart")), "asked for shop, the server gives cart"),
    ]:
        assert refusal(newest, document, "rollback", "shop", "--to", "1") == why
    # Others' signatures are believed where they are named.
    for options in (named, ("--plugin", tmp_path / "both.json")):
        for arguments in EDITS:
            assert refusal(signed_by(theirs, good), older, *arguments, *options) == pushed
    # A dry run shows nothing that was not verified either.
    done = refusal(signed_by(theirs, good), older, *EDITS[0], "--dry-run")
    assert done == "shop is not believed: jws.header.kid: unknown key `other`"


def test_a_signed_file_is_pushed_by_those_who_know_its_key(serve, key, tmp_path):
    environment, plugin = key
    server = serve()
    token = signed_by(json.loads(environment["MULKKO_SIGNING_KEY"]), policy(1))
    other = json.loads(server.run("keygen", "--kid", "other", "--format", "json").stdout)
    (tmp_path / "plugin.json").write_text(json.dumps(plugin))
    done = server.push(token, "--verify", json.dumps(other["verify"]), check=False)
    assert (done.returncode, done.stderr) == (2, "error: -: jws.header.kid: unknown key `2026-11`\n")
    done = server.push(tampered(token), "--plugin", tmp_path / "plugin.json", check=False)
    assert done.stderr == "error: -: jws.signature: expected a signature of this text by the key `2026-11`, found another\n"
    assert server.push(token, "--plugin", tmp_path / "plugin.json").returncode == 0


def test_an_edit_is_shown_and_asked_about_on_a_terminal(serve, connect):
    server = serve()
    server.push(policy(1))

    def on_a_terminal(answer, *options):
        """Runs an edit with a terminal as its input and its standard error: the exit code, and what is seen there."""
        ours, theirs = pty.openpty()
        command = [str(server.command), *EDITS[0], *options]
        environment = {**server.environment, "MULKKO_SERVER": server.url, "MULKKO_TOKEN": "mulkko_a-token-for-all-policies"}
        process = subprocess.Popen(command, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
        os.close(theirs)
        os.write(ours, answer)
        seen = b""
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                seen += part
        os.close(ours)
        return process.wait(), seen.decode()

    with connect(server) as client:
        code, seen = on_a_terminal(b"n\n")
        assert (code, client.policy().json()["revision"]) == (2, 1)
        assert "Push this?" in seen and "[y/N]" in seen and "nothing is pushed" in seen
        assert '"revision": 1' in seen and '"revision": 2' in seen and '"percent": 100' in seen
        code, _ = on_a_terminal(b"y\n")
        assert (code, client.policy().json()["revision"]) == (0, 2)
        code, seen = on_a_terminal(b"", "--yes")
        assert (code, client.policy().json()["revision"]) == (0, 3) and "[y/N]" not in seen
        # Where nobody is, nobody is asked; it is shown all the same.
        done = server.run(*EDITS[2])
        assert client.policy().json()["revision"] == 4
        assert done.stderr.startswith("--- shop, revision 3\n+++ shop, revision 4\n")


def test_without_tls_only_this_host_is_asked(serve):
    server = serve()
    for url in ("http://config.example.com", "http://localhost.example.com", "http://128.0.0.1", "http://[2001:db8::1]"):
        for arguments in (*EDITS, ("proxies",), ("versions", "shop")):
            done = server.run(*arguments, "--server", url, check=False)
            expected = f"error: {url}/: without TLS only a server on this host is asked; `--insecure` asks any\n"
            assert (done.returncode, done.stderr) == (2, expected)
    for url in ("ftp://config.example.com", "file:///etc/passwd"):
        done = server.run("versions", "shop", "--server", url, check=False)
        assert done.stderr.startswith(f"error: {url}") and "expected `http://` or `https://`" in done.stderr
    server.push(policy(1))
    for host in ("localhost", "127.0.0.1"):
        assert "revision" in server.run("versions", "shop", "--server", f"http://{host}:{server.port}").stdout


def test_the_smallest_policy_is_edited(serve, connect):
    server = serve()
    with connect(server) as client:
        server.push("{}")
        server.push(policy(1))
        server.run("rollback", "shop", "--to", "0")
        assert client.policy().json() == {"revision": 2}


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
