"""The plugin in a real Envoy, and `mulkko serve` as its config cluster."""

import copy
import json
import re
import signal
import time

import pytest
import requests
import trustme
from config_server import policy_answer
from documents import canary, large_canary, source, user
from joserfc import jws
from joserfc.jwk import OKPKey
from serve import PROXY_TOKEN, PROXY_TOKEN_VARIABLE, TOKEN, Serve, entry
from stage import COMMAND, TOP, in_force, wait_until

PATH = "/v1/policies/shop"
TOKENLESS = source(path=PATH, wait="30s", poll="200ms", timeout="2s")
LONG_POLL = {**TOKENLESS, "token": {"env": PROXY_TOKEN_VARIABLE}}


@pytest.fixture
def server(tmp_path):
    with Serve(tmp_path / "store", COMMAND) as server:
        yield server


@pytest.fixture
def keys(server):
    """Two signing keys, for the environment; and what the plugin is told of them."""
    made = [json.loads(server.run("keygen", "--kid", kid, "--format", "json").stdout) for kid in ("2026-11", "2026-12")]
    environments = [{"MULKKO_SIGNING_KEY": json.dumps(key["private"])} for key in made]
    return environments, [key["verify"] for key in made]


def raw_push(server, document, etag="*"):
    """Pushes bytes as they stand, without the command's own care; gives the status."""
    headers = {"authorization": f"Bearer {TOKEN}", "if-match": etag}
    return requests.put(server.url + PATH, data=document, headers=headers, timeout=10).status_code


def proxies(server):
    """The proxies that the server knows, by node."""
    return {it["node"]: it for it in server.get("/v1/proxies")["proxies"]}


@pytest.mark.alone
def test_a_push_is_in_force_everywhere_when_push_says_so(set_stage, server):
    server.push(canary(0))
    stage = set_stage(config_port=server.port, plugin={"source": LONG_POLL})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    wait_until(lambda: proxies(server)["edge-1"]["state"] == "current", "the proxy")
    for revision in range(2, 6):
        done = server.push(canary(100, revision), "--wait")
        assert "1 of 1 proxies have it" in done.stdout
        stage.wait_for_all_workers(in_force(revision), headers=[user(1)], seconds=1)
    assert stage.metric("fetches", outcome="failed") == 0


def test_a_proxy_shows_its_token_and_its_version(set_stage, tmp_path):
    with Serve(tmp_path / "store", COMMAND, options=["--anonymous=false"]) as server:
        server.push(canary(0))
        stage = set_stage(config_port=server.port, plugin={"source": LONG_POLL})
        stage.wait_for_all_workers(in_force(1), headers=[user(1)])

        def told():
            found = json.loads(server.run("proxies", "shop", "--format", "json").stdout)["proxies"]
            return [(it["node"], it["state"], it["version"]) for it in found]

        version = re.search(r'^version = "(.*)"', (TOP / "Cargo.toml").read_text(), re.M)[1]
        wait_until(lambda: told() == [("edge-1", "current", version)], "the proxy")
        assert "1 of 1 proxies have it" in server.push(canary(0, 2), "--wait").stdout
        # Without its token the proxy goes on with what it has.
        server.tokens.write_text(json.dumps([entry(TOKEN)]))
        server.push(canary(100, 3))
        wait_until(lambda: stage.metric("fetches", outcome="failed") > 0, "a refusal")
        assert stage.metric("policy_revision") == 2
        assert PROXY_TOKEN not in stage.log() and PROXY_TOKEN not in server.log()


def test_a_proxy_without_a_token_is_served_and_not_waited_for(set_stage, server):
    server.push(canary(0))
    stage = set_stage(config_port=server.port, plugin={"source": {**TOKENLESS, "token": {"env": "NO_SUCH_VARIABLE"}}})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])
    wait_until(lambda: proxies(server)["edge-1"]["state"] == "unverified", "the proxy")
    assert "source token NO_SUCH_VARIABLE is missing" in stage.log()
    done = server.push(canary(100, 2), "--wait", "--timeout", "1s", check=False)
    assert "no proxy asks for it" in done.stdout and "since unverified: 1" in done.stdout
    stage.wait_for_all_workers(in_force(2), headers=[user(1)])


def test_only_signed_policies_are_taken(set_stage, server, keys, tmp_path):
    (first, second), verify = keys
    server.push(canary(0), environment=first)
    stage = set_stage(config_port=server.port, plugin={"source": LONG_POLL, "verify": verify})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)])

    def refused(refusal):
        stage.wait_for_metric("policy_refused", 1)
        wait_until(lambda: refusal in stage.log(), "the refusal")
        wait_until(lambda: proxies(server)["edge-1"]["state"] == "refused", "word of it")
        assert stage.metric("policy_revision") == 1
        assert stage.echo("/checkout", user(1)).header("x-mark") == "1"

    # Unsigned; signed by a key that the plugin does not know; tampered with.
    server.push(canary(100, 2))
    refused("jws: expected a signed policy (compact JWS), found a document without signature")
    stranger = json.loads(server.run("keygen", "--kid", "2026-11", "--format", "json").stdout)["private"]
    server.push(canary(100, 3), environment={"MULKKO_SIGNING_KEY": json.dumps(stranger)})
    refused("jws.signature: expected a signature of this text by the key `2026-11`, found another")
    unknown = json.loads(server.run("keygen", "--kid", "other", "--format", "json").stdout)["private"]
    server.push(canary(100, 4), environment={"MULKKO_SIGNING_KEY": json.dumps(unknown)})
    refused("jws.header.kid: unknown key `other`")
    (tmp_path / "policy.json").write_text(json.dumps(canary(100, 5)))
    token = server.run("sign", tmp_path / "policy.json", environment=first).stdout.strip()
    header, payload, signature = token.split(".")
    (tmp_path / "policy.json").write_text(json.dumps(canary(100, 6)))
    other_payload = server.run("sign", tmp_path / "policy.json", environment=first).stdout.split(".")[1]
    assert raw_push(server, f"{header}.{other_payload}.{signature}") == 201
    refused("found another")
    assert stage.metric("policies", outcome="refused") == 4

    # And what is signed, with either key, is taken.
    server.push(canary(100, 7), environment=first)
    stage.wait_for_all_workers(in_force(7), headers=[user(1)])
    server.push(canary(100, 8), environment=second)
    stage.wait_for_all_workers(in_force(8), headers=[user(1)])
    stage.wait_for_metric("policy_refused", 0)


def test_what_was_signed_once_cannot_be_replayed(set_stage, serve, server, keys, tmp_path):
    """A config cluster in wrong hands has nothing but what was signed: older documents, and those of other plugins."""
    (first, _), verify = keys

    def signed(policy):
        (tmp_path / "policy.json").write_text(json.dumps(policy))
        return server.run("sign", tmp_path / "policy.json", environment=first).stdout.encode()

    older, current = signed(canary(100, 4)), signed(canary(0, 5))
    others = signed({**canary(100, 9), "name": "cart"})
    config = serve(policy_answer(current))
    stage = set_stage(config_port=config.port, plugin={"source": source(), "verify": verify})
    stage.wait_for_all_workers(in_force(5), headers=[user(1)])
    for document, refusal in [
        (older, "revision: expected at least 5, found 4"),
        (others, "name: expected shop, found cart"),
    ]:
        config.answer = policy_answer(document)
        stage.wait_for_metric("policy_refused", 1)
        wait_until(lambda refusal=refusal: refusal in stage.log(), "the refusal")
        assert stage.echo("/checkout", user(1)).header("x-mark") == "5"
        config.answer = policy_answer(current)
        stage.wait_for_metric("policy_refused", 0)


def test_what_was_signed_long_ago_is_not_taken_after_a_restart(set_stage, serve, keys):
    """A proxy that has just started knows no revision: only the age of a signature tells it an old policy."""
    (environment, _), (verify, _) = keys
    private = OKPKey.import_key(json.loads(environment["MULKKO_SIGNING_KEY"]))
    now = int(time.time())

    def signed(policy, **header):
        registry = jws.JWSRegistry(algorithms=["EdDSA"], strict_check_header=False)
        header = {"alg": "EdDSA", "kid": verify["kid"], **header}
        return policy_answer(jws.serialize_compact(header, json.dumps(policy), private, registry=registry).encode())

    current, older = signed(canary(0, 5), iat=now), signed(canary(100, 3), iat=now - 8 * 86_400)
    config = serve(current)
    stage = set_stage(config_port=config.port, plugin={"source": source(), "verify": [{**verify, "maxAge": "7d"}]})
    stage.wait_for_all_workers(in_force(5), headers=[user(1)])
    assert stage.metric("policy_signed_timestamp_seconds") == now
    config.answer = older
    stage.stop_envoy()
    stage.start_envoy()
    for answer, refusal in [
        (older, "jws.header.iat: expected at most 604800 s before now, 30 s after it, found"),
        (signed(canary(100, 6), iat=now + 3_600), "s after"),
        (signed(canary(100, 6)), "jws.header: missing member `iat`"),
    ]:
        config.answer = answer
        wait_until(lambda refusal=refusal: refusal in stage.log(), "the refusal")
        assert stage.echo("/checkout", user(1)).header("x-mark") is None
    config.answer = current
    stage.wait_for_all_workers(in_force(5), headers=[user(1)])
    # The one in force may grow old.
    config.answer = older
    stage.wait_for_metric("policy_refused", 1)
    assert stage.echo("/checkout", user(1)).header("x-mark") == "5"


def test_a_large_signed_policy_is_taken_on_all_workers(set_stage, server, keys):
    (first, _), verify = keys
    server.push(large_canary(0, 1, size=3_000_000), environment=first)
    stage = set_stage(config_port=server.port, workers=4, plugin={"source": LONG_POLL, "verify": verify})
    stage.wait_for_all_workers(in_force(1), headers=[user(1)], seconds=20)
    done = server.push(large_canary(100, 2, size=3_000_000), "--wait", environment=first)
    assert "1 of 1 proxies have it" in done.stdout
    stage.wait_for_all_workers(in_force(2), headers=[user(1)], seconds=20)


def add_endpoint(port):
    """The config cluster has another endpoint."""

    def edit(bootstrap):
        [config] = [it for it in bootstrap.document["static_resources"]["clusters"] if it["name"] == "config"]
        [locality] = config["load_assignment"]["endpoints"]
        other = copy.deepcopy(locality["lb_endpoints"][0])
        other["endpoint"]["address"]["socket_address"]["port_value"] = port
        # `Bootstrap.set_port` has set the first by then.
        config["load_assignment"]["cluster_name"] = "both"
        locality["lb_endpoints"].append(other)

    return edit


@pytest.mark.alone
def test_another_server_is_asked_when_one_dies(set_stage, server, tmp_path):
    with Serve(server.store, COMMAND, options=["--refresh", "100ms"]) as other:
        server.push(canary(0))

        def edit(bootstrap):
            bootstrap.set_port("config", server.port)
            add_endpoint(other.port)(bootstrap)

        stage = set_stage(config_port=server.port, plugin={"source": LONG_POLL}, edit=edit)
        stage.wait_for_all_workers(in_force(1), headers=[user(1)])
        servers, revision = [server, other], 1
        for dying in (server, other, server, other):
            living = servers[1 - servers.index(dying)]
            dying.kill()
            revision += 1
            living.push(canary(100, revision))
            pushed = time.monotonic()
            stage.wait_for_all_workers(in_force(revision), headers=[user(1)])
            assert time.monotonic() - pushed < 3
            dying.start()
        # A server that died while it was asked is no failed fetch: the other has answered.
        assert stage.metric("fetches", outcome="failed") == 0


def speak_http2(bootstrap, **options):
    """Envoy speaks HTTP/2 with the config cluster; gives the cluster."""
    [config] = [it for it in bootstrap.document["static_resources"]["clusters"] if it["name"] == "config"]
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    protocol = {"explicit_http_config": {"http2_protocol_options": options}}
    config["typed_extension_protocol_options"] = {name: {"@type": f"type.googleapis.com/{name}", **protocol}}
    return config


@pytest.mark.alone
def test_a_server_that_says_nothing_any_more_is_given_up(set_stage, server):
    """As when its machine has gone: no connection ends, nothing comes."""
    with Serve(server.store, COMMAND, options=["--refresh", "100ms"]) as other:
        server.push(canary(0))

        def edit(bootstrap):
            bootstrap.set_port("config", server.port)
            add_endpoint(other.port)(bootstrap)
            speak_http2(bootstrap, connection_keepalive={"interval": "0.5s", "timeout": "0.5s"})

        stage = set_stage(config_port=server.port, plugin={"source": LONG_POLL}, edit=edit)
        stage.wait_for_all_workers(in_force(1), headers=[user(1)])
        wait_until(lambda: len(proxies(server)) == 1 or len(proxies(other)) == 1, "the long poll")
        asked = server if "mulkko_serve_waiting 1" in requests.get(f"{server.url}/metrics", timeout=5).text else other
        asked.process.send_signal(signal.SIGSTOP)
        living = other if asked is server else server
        living.push(canary(100, 2))
        stage.wait_for_all_workers(in_force(2), headers=[user(1)], seconds=8)


def test_the_plugin_fetches_over_mutual_tls(set_stage, tmp_path):
    authority = trustme.CA()
    names = {"server": "config.internal", "proxy": "edge-1.example.com"}
    for name, host in names.items():
        authority.issue_cert(host, "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pem, ca = (lambda name: str(tmp_path / f"{name}.pem")), str(tmp_path / "ca.pem")

    def edit(bootstrap):
        speak_http2(bootstrap)["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "config.internal",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [
                        {"certificate_chain": {"filename": pem("proxy")}, "private_key": {"filename": pem("proxy")}}
                    ],
                    "validation_context": {
                        "trusted_ca": {"filename": ca},
                        "match_typed_subject_alt_names": [
                            {"san_type": "DNS", "matcher": {"exact": "config.internal"}}
                        ],
                    },
                },
            },
        }

    tls = ["--tls-cert", pem("server"), "--tls-key", pem("server"), "--client-ca", ca]
    with Serve(tmp_path / "store", COMMAND, options=tls) as server:
        mine = ["--ca", ca, "--client-cert", pem("proxy")]
        server.push(canary(0), *mine)
        stage = set_stage(config_port=server.port, plugin={"source": LONG_POLL}, edit=edit)
        stage.wait_for_all_workers(in_force(1), headers=[user(1)])
        server.push(canary(100, 2), *mine)
        stage.wait_for_all_workers(in_force(2), headers=[user(1)], seconds=3)
