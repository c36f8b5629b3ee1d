"""Istio's manifests: kept to Istio's schemas, and run by the real Envoy."""

import contextlib
import copy
import json
import shutil
import subprocess

import jsonschema_rs
import pytest
from mesh import ISTIO, PUBLIC, SERVICE, Application, Mesh, documents, kustomized, schema_errors
from services import Noting, serving
from stage import COMMAND, POLICIES, TOP, WASM, load_policy, wait_until

PROXIES = ["sidecar", "gateway", "waypoint"]
# Who is in the canary's 25 % of `policies/mesh.json`, and who is not.
IN_CANARY, IN_STABLE = ("x-user-id", "user-0"), ("x-user-id", "user-1")
FORWARDED = ("baggage", "mulkko.checkout-v2=canary")


def policy_of(proxy, revision=1):
    """The example policy for a kind of proxy."""
    return {**load_policy("waypoint" if proxy == "waypoint" else "mesh"), "revision": revision}


def host(proxy):
    """The header by which clients ask a proxy for the service."""
    return ("host", PUBLIC if proxy == "gateway" else f"{SERVICE}:8080")


@pytest.fixture
def set_mesh(set_stage, tmp_path):
    """Sets a stage with a proxy of a mesh: `set_mesh("sidecar")`; gives both."""

    def enter(proxy, manifests=None, **arguments):
        mesh = Mesh(proxy, manifests or kustomized(ISTIO / "base" / proxy), tmp_path)
        return set_stage(policy=policy_of(proxy), edit=mesh.edit, **arguments), mesh

    return enter


def answers(stage, proxy, *headers, path="/checkout"):
    """Which upstream answers."""
    return stage.get(path, host(proxy), *headers).upstream


def wait_for_policy(stage, proxy, revision=1):
    """Waits until the policy that was fetched is in force on all workers. A manifest's plugin asks every five seconds."""
    stage.wait_for_metric("policy_revision", revision, policy="shop")
    with stage.connection_per_worker() as connections:
        for connection in connections:
            wait_until(lambda it=connection: is_decided(stage, it, proxy), "a decision")


def is_decided(stage, connection, proxy):
    """Whether this very proxy decides a request, whatever others on its way do."""
    before = stage.metric("requests", rollout="checkout-v2")
    connection.get("/checkout", host(proxy))
    return stage.metric("requests", rollout="checkout-v2") > before


# The schemas


MANIFESTS = sorted(file for file in ISTIO.rglob("*.yaml") if file.name != "kustomization.yaml")


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: str(file.relative_to(ISTIO)))
def test_a_manifest_keeps_istios_schemas(file):
    manifests = documents(file)
    extensions = [item for item in manifests if item["kind"] == "TrafficExtension"]
    assert [error.message for item in extensions for error in traffic_extension_schema().iter_errors(item)] == []
    others = [item for item in manifests if item["kind"] != "TrafficExtension"]
    assert schema_errors(others) == []


def traffic_extension_schema():
    return jsonschema_rs.Draft202012Validator(json.loads((TOP / "tests/istio/traffic-extension.schema.json").read_text()))


@pytest.mark.parametrize(
    ("file", "kind", "place", "value"),
    [
        ("base/sidecar/mulkko.yaml", "EnvoyFilter", ["configPatches", 0, "applyTo"], "EXTENSION"),
        ("base/sidecar/mulkko.yaml", "EnvoyFilter", ["configPatches", 1, "match", "context"], "SIDECAR"),
        ("base/sidecar/mulkko.yaml", "EnvoyFilter", ["configPatches", 1, "patch", "operation"], "INSERT"),
        ("base/sidecar/mulkko.yaml", "DestinationRule", ["subsets", 0, "name"], False),
        ("base/sidecar/mulkko.yaml", "VirtualService", ["http", 0, "route", 0, "destination", "port", "number"], "http"),
        ("wasm-plugin/sidecar.yaml", "WasmPlugin", ["failStrategy"], "FAIL_SOON"),
        ("wasm-plugin/sidecar.yaml", "WasmPlugin", ["sha256"], "0"),
        ("traffic-extension/sidecar.yaml", "TrafficExtension", ["wasm", "sha256"], "0"),
        ("traffic-extension/sidecar.yaml", "TrafficExtension", ["wasm", "vmId"], "mulkko"),
        ("traffic-extension/sidecar.yaml", "TrafficExtension", ["targetRefs"], []),
    ],
)
def test_the_schemas_refuse_what_is_wrong(file, kind, place, value):
    manifests = documents(ISTIO / file)
    [wrong] = [item for item in manifests if item["kind"] == kind]
    *above, last = place
    within = wrong["spec"]
    for member in above:
        within = within[member]
    within[last] = value
    if kind == "TrafficExtension":
        assert not traffic_extension_schema().is_valid(wrong)
    else:
        assert [item["kind"] for item in schema_errors(manifests)] == [kind]


# kustomize


@pytest.mark.parametrize("proxy", PROXIES)
def test_an_overlay_changes_the_image_and_nothing_else(proxy):
    base, overlay = kustomized(ISTIO / "base" / proxy), kustomized(ISTIO / "overlays/production" / proxy)
    assert schema_errors(overlay) == []

    def remote(manifests):
        patch = manifests[0]["spec"]["configPatches"][0]["patch"]["value"]
        return patch["typed_config"]["config"]["vm_config"]["code"]["remote"]

    changed, original = remote(overlay), remote(base)
    assert changed["sha256"] != original["sha256"] and changed["http_uri"]["uri"] != original["http_uri"]["uri"]
    changed["sha256"], changed["http_uri"]["uri"] = original["sha256"], original["http_uri"]["uri"]
    for manifest in overlay:
        assert manifest["metadata"].pop("labels") == {"app.kubernetes.io/part-of": "mulkko"}
    assert overlay == base


# In Envoy


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("folder", ["base", "overlays/production"])
def test_variants_are_reached_as_the_manifests_say(set_mesh, proxy, folder):
    stage, _ = set_mesh(proxy, kustomized(ISTIO / folder / proxy))
    wait_for_policy(stage, proxy)
    assert answers(stage, proxy, IN_CANARY) == "checkout-v2"
    assert answers(stage, proxy, IN_STABLE) == "checkout-v1"
    # Nobody says who it is: the default of the first rollout, by no header at all.
    assert answers(stage, proxy) == "checkout-v1"
    # By the cluster that the variant names, which the application does not get to see.
    tester = ("x-tester", "yes")
    response = stage.get("/checkout/express", host(proxy), IN_STABLE, tester, ("x-echo", "1"))
    assert (response.upstream, response.echo.header("x-mulkko-express")) == ("checkout-v2", "next")
    assert response.echo.header("x-mulkko-cluster") is None
    # A gateway believes nobody; who is within the mesh is believed.
    assert answers(stage, proxy, IN_STABLE, FORWARDED) == ("checkout-v1" if proxy == "gateway" else "checkout-v2")
    forged = ("x-mulkko-cluster", f"outbound|8080|canary|{SERVICE}")
    assert answers(stage, proxy, IN_STABLE, forged) == "checkout-v1"


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("kind", ["traffic-extension", "wasm-plugin"])
def test_what_a_manifest_of_another_kind_says_is_the_same(proxy, kind):
    [spec] = [item["spec"] for item in documents(ISTIO / kind / f"{proxy}.yaml") if "pluginConfig" in json.dumps(item)]
    module = spec.get("wasm", spec)
    [_, *filters] = documents(ISTIO / kind / f"{proxy}.yaml")
    by_filter = kustomized(ISTIO / "base" / proxy)
    config = by_filter[0]["spec"]["configPatches"][0]["patch"]["value"]["typed_config"]["config"]
    assert module["pluginConfig"] == json.loads(config["configuration"]["value"])
    assert (module["failStrategy"], module["pluginName"]) == (config["failure_policy"], config["root_id"])
    remote = config["vm_config"]["code"]["remote"]
    assert (module["url"], module["sha256"]) == (remote["http_uri"]["uri"], remote["sha256"])
    names = [item["name"] for item in module.get("vmConfig", {}).get("env", [])]
    assert names == config["vm_config"].get("environment_variables", {}).get("host_env_keys", [])
    # The rest is the EnvoyFilter's, and the service's own.
    rest = [*filters[0]["spec"]["configPatches"]]
    assert rest == by_filter[0]["spec"]["configPatches"][2:]
    assert filters[1:] == by_filter[1:]


def test_a_config_cluster_beyond_the_mesh_is_asked_by_tls(set_mesh):
    printed = subprocess.run(
        [COMMAND, "istio", "--format=json", "--policy", POLICIES / "mesh.json", "--service", f"{SERVICE}:8080",
         "--image=oci://registry.example/mulkko:0.1.0", f"--digest={'0' * 64}",
         "--source=https://config.example.com/policies/shop.json"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    # nginx, which is the config cluster here, speaks no TLS: the handshake is begun, and fails.
    stage, _ = set_mesh("sidecar", json.loads(printed)["items"])
    wait_until(lambda: stage.stats("cluster.mulkko-config.upstream_cx_total").get("cluster.mulkko-config.upstream_cx_total"), "a connection")
    assert stage.stats("cluster.mulkko-config.ssl.handshake") == {"cluster.mulkko-config.ssl.handshake": 0}
    assert answers(stage, "sidecar", IN_CANARY) == "checkout-v1"


def shadowed_policy(proxy, **shadow):
    """The example policy, whose first rollout has a shadow: nobody gets the canary."""
    policy = policy_of(proxy)
    cluster = f"outbound|8080|canary|{SERVICE}" if proxy != "waypoint" else f"inbound-vip|8080|http/canary|{SERVICE}"
    rollout = policy["rollouts"][0]
    rollout["strategy"]["canary"]["percent"] = 0
    rollout["shadow"] = {"cluster": cluster, "percent": 100, **shadow}
    return policy


def printed_for(policy, proxy, folder):
    """The manifests that `mulkko istio` prints for a policy."""
    file = folder / "policy.json"
    file.write_text(json.dumps(policy))
    gateway = [f"--host={PUBLIC}", "--gateway=istio-ingress/shop"] if proxy == "gateway" else []
    done = subprocess.run(
        [COMMAND, "istio", "--format=json", "--policy", file, "--service", f"{SERVICE}:8080", "--proxy", proxy,
         "--image=oci://registry.example/mulkko:0.1.0", f"--digest={'0' * 64}",
         "--source=http://config.mulkko.svc.cluster.local:8080/policies/shop.json", *gateway],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)["items"]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_shadow_is_sent_copies_as_the_manifests_say(set_stage, tmp_path, proxy):
    policy = shadowed_policy(proxy, mode="mirror")
    manifests = printed_for(policy, proxy, tmp_path)
    assert schema_errors(manifests) == []
    mesh = Mesh(proxy, manifests, tmp_path)
    with serving(Noting, "checkout-v2") as port:
        stage = set_stage(policy=policy, edit=mesh.edit, endpoints={"checkout-v2": port})
        wait_for_policy(stage, proxy)
        Noting.arrived.clear()
        assert answers(stage, proxy, ("cookie", "session=1"), path="/checkout/17") == "checkout-v1"
        # By its cluster, which the other rollout's variant names: that route has copies, too.
        stage.get("/checkout/express", host(proxy), ("x-tester", "yes"))
        arrived = Noting.arrived["checkout-v2"]
        # Of the requests that asked whether the policy is in force a copy may still come.
        copies = lambda: {it.path: it for it in arrived if it.header("x-mulkko-shadow") and it.path != "/checkout"}
        wait_until(lambda: len(copies()) >= 2, "the copies")
    copies = copies()
    assert set(copies) == {"/checkout/17", "/checkout/express"}
    for it in copies.values():
        assert (it.header("x-mulkko-shadow"), it.header("x-mulkko-mirror")) == ("mirror", None)
        assert it.header("cookie") is None
        assert it.header("host") == dict([host(proxy)])["host"], "as the request has it, without -shadow"


def test_a_shadow_that_is_compared_needs_no_route(tmp_path):
    printed = printed_for(shadowed_policy("sidecar", mode="compare"), "sidecar", tmp_path)
    patches = [patch["applyTo"] for patch in printed[0]["spec"]["configPatches"]]
    assert "VIRTUAL_HOST" not in patches
    large = shadowed_policy("sidecar", mode="compare", largeBodies="mirror")
    patches = [patch["applyTo"] for patch in printed_for(large, "sidecar", tmp_path)[0]["spec"]["configPatches"]]
    assert "VIRTUAL_HOST" in patches


def test_the_subset_of_a_secondary_is_among_those_of_the_service(tmp_path):
    policy = shadowed_policy("sidecar", mode="compare")
    secondary = {"cluster": f"outbound|8080|stable-too|{SERVICE}", "percent": 10}
    policy["rollouts"][0]["shadow"]["compare"] = {"secondary": secondary}
    [rule] = [item["spec"] for item in printed_for(policy, "sidecar", tmp_path) if item["kind"] == "DestinationRule"]
    assert [subset["name"] for subset in rule["subsets"]] == ["stable", "canary", "stable-too", "express"]
    # All pods of the service are no copy of the stable version.
    secondary["cluster"] = f"outbound|8080||{SERVICE}"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        printed_for(policy, "sidecar", tmp_path)
    assert "of its shadow is no subset" in refused.value.stderr


def reloads(stage):
    """How often Envoy has taken an extension."""
    return stage.stats("extension_config_discovery.*config_reload$")


def push_and_wait(stage, mesh, **arguments):
    before = reloads(stage)
    mesh.push_extension(**arguments)
    wait_until(lambda: reloads(stage) != before, "the new extension")


def test_configuration_and_code_are_replaced_under_load(set_mesh, tmp_path):
    stage, mesh = set_mesh("sidecar")
    wait_for_policy(stage, "sidecar")
    assert answers(stage, "sidecar", IN_STABLE, FORWARDED) == "checkout-v2"
    with stage.load(lambda: ("/checkout", [host("sidecar"), IN_CANARY])) as load:
        # First its configuration: nobody is believed any more.
        mesh.plugin = {**mesh.plugin, "trust": "edge"}
        push_and_wait(stage, mesh)
        wait_until(lambda: answers(stage, "sidecar", IN_STABLE, FORWARDED) == "checkout-v1", "the new configuration")
        # Then its code, which is another file by its digest: the same with a custom section behind it.
        other = tmp_path / "other.wasm"
        shutil.copy(WASM, other)
        with other.open("ab") as file:
            file.write(b"\0\x06\x05other")
        mesh.extension["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"] = str(other)
        push_and_wait(stage, mesh)
        # A policy that is pushed now is taken by the new code.
        stage.push(policy_of("sidecar", revision=2))
        wait_for_policy(stage, "sidecar", revision=2)
        done = len(load.responses)
        wait_until(lambda: len(load.responses) > done + 200, "more requests")
    assert load.failed == []
    assert {response.upstream for response in load.responses} == {"checkout-v2"}, "the policy in force was lost"


def test_the_agents_placeholder_is_taken_and_replaced(set_mesh):
    """What the agent hands on while it cannot fetch the image: a filter that lets nobody in."""
    stage, mesh = set_mesh("sidecar")
    wait_for_policy(stage, "sidecar")
    real = copy.deepcopy(mesh.extension)
    nobody = {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC", "rules": {"policies": {}}}
    push_and_wait(stage, mesh, extension={"name": real["name"], "typed_config": nobody})
    wait_until(lambda: stage.get("/checkout", host("sidecar")).status == 403, "403")
    push_and_wait(stage, mesh, extension=real)
    wait_until(lambda: stage.get("/checkout", host("sidecar")).status == 200, "200")


# A chain


@pytest.fixture
def chain(set_stage, tmp_path):
    """A gateway, and behind it two applications with a sidecar each; gives the three stages."""
    with contextlib.ExitStack() as cleanup:
        stages, port = [], None
        for proxy, name in [("sidecar", "cart"), ("sidecar", "frontend"), ("gateway", "edge")]:
            folder = tmp_path / name
            folder.mkdir()
            mesh = Mesh(proxy, kustomized(ISTIO / "base" / proxy), folder)
            # All versions of what comes before the service itself are one application.
            endpoints = {"checkout-v1": port, "checkout-v2": port} if port else {}
            stage = set_stage(policy=policy_of(proxy), edit=mesh.edit, endpoints=endpoints)
            stages.insert(0, stage)
            port = cleanup.enter_context(Application(stage.port, f"{SERVICE}:8080")).port
        for stage, proxy in zip(stages, ["gateway", "sidecar", "sidecar"], strict=True):
            wait_for_policy(stage, proxy)
        yield stages


def test_one_decision_at_the_edge_holds_along_the_chain(chain):
    edge, *sidecars = chain
    before = [stage.metric("requests", rollout="checkout-v2", reason="FOLLOWED") for stage in sidecars]
    seen = {}
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with edge.connect() as connection:
        for number in range(40):
            user = ("x-user-id", f"user-{number}")
            seen[number] = connection.get("/echo", ("host", PUBLIC), user, ("traceparent", trace))
    # Who is who is known at the edge alone: the applications hand on no user.
    assert all(response.echo.header("x-user-id") is None for response in seen.values())
    canaries = {number for number, response in seen.items() if response.json["upstream"] == "checkout-v2"}
    assert canaries == {number for number in range(40) if is_in_canary(f"user-{number}")}
    for number, response in seen.items():
        variant = "canary" if number in canaries else "stable"
        assert f"mulkko.checkout-v2={variant}" in response.echo.header("baggage").split(",")
        assert response.echo.header("x-mulkko-checkout-v2") == variant
        assert response.echo.header("traceparent").startswith("00-0af7651916cd43dd8448eb211c80319c-")
    for stage, count in zip(sidecars, before, strict=True):
        assert stage.metric("requests", rollout="checkout-v2", reason="FOLLOWED") == count + 40


def is_in_canary(user):
    """What the command says of a user."""
    done = subprocess.run(
        [COMMAND, "explain", POLICIES / "mesh.json", "--format=json", "--path=/echo", f"--header=x-user-id: {user}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)["decisions"][0]["variant"] == "canary"


def test_without_baggage_the_chain_breaks(chain):
    """The counter-proof: what an application does not hand on, no sidecar can know."""
    _, _, last = chain
    response = last.get("/echo", host("sidecar"))
    assert (response.upstream, response.echo.header("x-mulkko-checkout-v2")) == ("checkout-v1", "stable")
