"""What a mesh makes of the manifests in `envoy/istio`: kustomize their overlays, istiod and its agent an Envoy's
configuration. Neither runs here, so what they do to these manifests is done here, by the rules of their documentation.
"""

import json
import subprocess
import urllib.error
import urllib.request

import jsonpatch
import yaml
from local_server import LocalServer, send
from stage import TOP, WASM

ISTIO = TOP / "envoy/istio"
NODE = TOP / ".venv/bin/node"
SERVICE = "checkout.shop.svc.cluster.local"
PORT = 8080
PUBLIC = "shop.example.com"
# Which upstream stands for the pods of a subset.
PODS = {"stable": "checkout-v1", "canary": "checkout-v2", "express": "checkout-v2"}


def documents(file):
    """The manifests of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def kustomized(folder):
    """The manifests of a kustomization, by those of its fields that ours use."""
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert (said.pop("apiVersion"), said.pop("kind")) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    found = []
    for resource in said.pop("resources"):
        path = folder / resource
        found += kustomized(path) if path.is_dir() else documents(path)
    for labels in said.pop("labels", []):
        for manifest in found:
            manifest["metadata"].setdefault("labels", {}).update(labels["pairs"])
    for patch in said.pop("patches", []):
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        targets = [item for item in found if (item["kind"], item["metadata"]["name"]) == (kind, name)]
        assert targets, f"no {kind} {name} to patch"
        for target in targets:
            jsonpatch.apply_patch(target, yaml.safe_load(patch["patch"]), in_place=True)
    assert not said, f"fields that are not done here: {sorted(said)}"
    return found


def schema_errors(manifests):
    """What breaks Istio's own schemas."""
    done = subprocess.run(
        [NODE, TOP / "tests/istio/validate.mjs"], input=json.dumps(manifests), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def of_kind(kind, manifests):
    """The manifests of a kind."""
    return [manifest["spec"] for manifest in manifests if manifest["kind"] == kind]


class Mesh:
    """An Envoy as Istio would configure it by manifests: `Stage(edit=mesh.edit)`.

    The plugin comes by ECDS from a file, where the agent would hand on what istiod sends; `push_extension` replaces it.
    """

    def __init__(self, proxy, manifests, folder):
        self.proxy = proxy
        self.manifests = manifests
        self.file = folder / "ecds.json"
        self.extension = None

    @property
    def plugin(self):
        """The plugin configuration."""
        return json.loads(self.extension["typed_config"]["config"]["configuration"]["value"])

    @plugin.setter
    def plugin(self, configuration):
        self.extension["typed_config"]["config"]["configuration"]["value"] = json.dumps(configuration)

    def push_extension(self, extension=None):
        """Has Envoy take the extension as it is now, or another in its place."""
        type_url = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"
        beside = self.file.with_suffix(".new")
        beside.write_text(json.dumps({"resources": [{"@type": type_url, **(extension or self.extension)}]}))
        beside.rename(self.file)

    def edit(self, bootstrap):
        """Makes the bootstrap that of a proxy of the mesh."""
        bootstrap.filters[:] = [item for item in bootstrap.filters if item["name"] != "mulkko"]
        resources = bootstrap.document["static_resources"]
        config = next(item for item in resources["clusters"] if item["name"] == "config")
        resources["clusters"].append({**config, "name": "outbound|8080||config.mulkko.svc.cluster.local"})
        [rule] = of_kind("DestinationRule", self.manifests)
        assert rule["host"] == SERVICE
        for subset in rule["subsets"]:
            resources["clusters"].append({**config, "name": self.cluster(subset["name"]), **to(PODS[subset["name"]])})
        [service] = of_kind("VirtualService", self.manifests)
        bootstrap.connection_manager["route_config"] = {
            # As istiod names it. A gateway's has its port, whose number the patch does not ask for.
            "name": "http.80" if self.proxy == "gateway" else str(PORT),
            "virtual_hosts": [self.virtual_host(service)],
        }
        [filters] = of_kind("EnvoyFilter", self.manifests)
        for patch in filters["configPatches"]:
            self.apply(patch, bootstrap)

    def cluster(self, subset):
        """Istio's name of a subset's cluster."""
        if self.proxy == "waypoint":
            return f"inbound-vip|{PORT}|http/{subset}|{SERVICE}"
        return f"outbound|{PORT}|{subset}|{SERVICE}"

    def virtual_host(self, service):
        host, port = (PUBLIC, 80) if self.proxy == "gateway" else (SERVICE, PORT)
        assert service["hosts"] == [host]
        routes = []
        for route in service["http"]:
            [match] = route.get("match", [{}])
            headers = [{"name": name, "string_match": value} for name, value in match.get("headers", {}).items()]
            [destination] = [item["destination"] for item in route["route"]]
            assert (destination["host"], destination["port"]["number"]) == (SERVICE, PORT)
            routes.append({
                "name": route["name"],
                "match": {"prefix": "/", "headers": headers},
                "route": {"cluster": self.cluster(destination["subset"])},
            })  # fmt: skip
        return {"name": f"{host}:{port}", "domains": [host, f"{host}:*"], "routes": routes}

    def apply(self, patch, bootstrap):
        """Applies one patch of an EnvoyFilter."""
        contexts = {"sidecar": "SIDECAR_OUTBOUND", "gateway": "GATEWAY", "waypoint": "WAYPOINT"}
        match, operation, value = patch.get("match", {}), patch["patch"]["operation"], patch["patch"]["value"]
        assert match.get("context", contexts[self.proxy]) == contexts[self.proxy]
        routes = bootstrap.connection_manager["route_config"]
        match (patch["applyTo"], operation):
            case ("EXTENSION_CONFIG", "ADD"):
                # istiod takes no WAYPOINT here.
                assert match.get("context") != "WAYPOINT"
                self.extension = self.as_the_agent_hands_it_on(value)
                self.push_extension()
            case ("HTTP_FILTER", "INSERT_BEFORE"):
                chain = match["waypoint"] if self.proxy == "waypoint" else match["listener"]["filterChain"]
                assert chain["filter"]["name"] == "envoy.filters.network.http_connection_manager"
                names = [item["name"] for item in bootstrap.filters]
                discovery = {**value["config_discovery"]}
                assert discovery["config_source"].pop("ads") == {}
                discovery["config_source"]["path_config_source"] = {"path": str(self.file)}
                found = {**value, "config_discovery": discovery}
                bootstrap.filters.insert(names.index(chain["filter"]["subFilter"]["name"]), found)
            case ("CLUSTER", "ADD"):
                [endpoints] = value["load_assignment"]["endpoints"]
                [endpoint] = endpoints["lb_endpoints"]
                endpoint["endpoint"]["address"]["socket_address"]["address"] = "127.0.0.1"
                # Where the stage's config cluster is: it goes by this name.
                value["load_assignment"]["cluster_name"] = "config"
                bootstrap.document["static_resources"]["clusters"].append(value)
            case ("ROUTE_CONFIGURATION", "MERGE"):
                routes.update(value)
            case ("NETWORK_FILTER", "MERGE"):
                assert match["listener"]["filterChain"]["filter"]["name"] == value["name"]
                merged = dict(value["typed_config"])
                assert merged.pop("@type") == bootstrap.connection_manager["@type"]
                # Nothing of it stands there already: the stage's own is taken away, so that the manifest's is tried.
                bootstrap.connection_manager.update(merged)
            case ("VIRTUAL_HOST", "MERGE"):
                for host in matching(match, routes):
                    for name, items in value.items():
                        # As protobuf merges lists; nothing else is merged here.
                        host[name] = host.get(name, []) + items
            case ("HTTP_ROUTE", "INSERT_FIRST"):
                for host in matching(match, routes):
                    host["routes"].insert(0, value)
            case other:
                raise AssertionError(f"a patch that is not done here: {other}")

    @staticmethod
    def as_the_agent_hands_it_on(extension):
        """The extension with its image fetched: Envoy is told of a local file."""
        config = extension["typed_config"]["config"]
        remote = config["vm_config"]["code"].pop("remote")
        assert remote["http_uri"]["uri"].startswith("oci://") and len(remote["sha256"]) == 64
        config["vm_config"]["code"] = {"local": {"filename": str(WASM)}}
        return extension


def matching(match, routes):
    """The virtual hosts that a patch is for."""
    asked = match.get("routeConfiguration", {})
    if asked.get("name", routes["name"]) != routes["name"]:
        return []
    return [host for host in routes["virtual_hosts"] if asked.get("vhost", host)["name"] == host["name"]]


def to(upstream):
    """The part of a cluster that leads to an upstream, whose port the stage knows."""
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 1}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"load_assignment": {"cluster_name": upstream, "endpoints": endpoints}}


class Application(LocalServer):
    """A service that asks another through its sidecar, and hands on of its request what tracing asks for: `traceparent`
    and `baggage`.
    """

    def __init__(self, next_port, host):
        def answer(handler):
            headers = {name: handler.headers[name] for name in ("traceparent", "baggage") if name in handler.headers}
            url = f"http://127.0.0.1:{next_port}{handler.path}"
            request = urllib.request.Request(url, headers={**headers, "host": host})
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    send(handler, response.status, response.read())
            except urllib.error.HTTPError as error:
                send(handler, error.code, error.read())

        super().__init__(answer)
