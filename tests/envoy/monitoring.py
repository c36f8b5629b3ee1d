"""Real tools around a real Envoy: Prometheus and Alertmanager, and a collector of traces."""

import contextlib
import gzip
import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import yaml
from local_server import LocalServer, send
from stage import TOP, free_port, listens, wait_until

PROMETHEUS = TOP / "envoy/prometheus"


class Receiver(LocalServer):
    """Keeps what is posted to it: `bodies`, one after another."""

    def __init__(self):
        self.bodies = []

        def answer(handler):
            body = handler.rfile.read(int(handler.headers["content-length"]))
            is_packed = handler.headers["content-encoding"] == "gzip"
            self.bodies.append(gzip.decompress(body) if is_packed else body)
            send(handler, 200)

        super().__init__(answer)


@contextlib.contextmanager
def process(folder, *command):
    """A process that ends with the block; what it says stands in the folder."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        running = subprocess.Popen([str(word) for word in command], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            yield running
        finally:
            running.terminate()
            running.wait()


def answers(url):
    """What a page answers, or nothing while nobody does."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.read()
    except OSError:
        return None


class Prometheus:
    """Prometheus as `envoy/prometheus` configures it, but for its addresses and paces, which are ten times as fast.

    stages    the stages whose Envoys it watches
    webhook   the port to which Alertmanager posts alerts
    """

    def __init__(self, folder, stages, webhook):
        self.folder = folder
        self.targets = [f"127.0.0.1:{stage.admin_port}" for stage in stages]
        self.webhook = webhook
        self.port = free_port()
        self.cleanup = contextlib.ExitStack()

    def __enter__(self):
        with self.cleanup:
            alertmanager = free_port()
            (self.folder / "alertmanager.yaml").write_text(json.dumps({
                "route": {"receiver": "test", "group_wait": "0s", "group_by": ["..."]},
                "receivers": [{"name": "test", "webhook_configs": [{"url": f"http://127.0.0.1:{self.webhook}/"}]}],
            }))  # fmt: skip
            config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
            config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
            config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alertmanager}"]
            config["scrape_configs"][0]["static_configs"][0]["targets"] = self.targets
            (self.folder / "prometheus.yaml").write_text(json.dumps(config))
            shutil.copy(PROMETHEUS / "rules.yaml", self.folder)
            self.cleanup.enter_context(process(
                self.folder, "prometheus-alertmanager", "--config.file=alertmanager.yaml", "--storage.path=alerts",
                f"--web.listen-address=127.0.0.1:{alertmanager}", "--cluster.listen-address=",
            ))  # fmt: skip
            self.cleanup.enter_context(process(
                self.folder, "prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=series",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ))  # fmt: skip
            wait_until(lambda: answers(f"http://127.0.0.1:{alertmanager}/-/ready"), "Alertmanager", 20)
            wait_until(lambda: answers(f"http://127.0.0.1:{self.port}/-/ready"), "Prometheus", 20)
            self.cleanup = self.cleanup.pop_all()
        return self

    def __exit__(self, *_):
        self.cleanup.close()

    def query(self, expr):
        """The samples of an instant query: `(labels, value)` each. What Prometheus refuses fails."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?" + urllib.parse.urlencode({"query": expr})
        with urllib.request.urlopen(url, timeout=5) as response:
            result = json.load(response)["data"]["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def wait_for(self, expr, seconds=30):
        """Waits until a query has an answer; gives it."""
        return wait_until(lambda: self.query(expr), expr, seconds)


@contextlib.contextmanager
def collector(folder):
    """A collector of OpenTelemetry's protocol, and what it hands on: the port for gRPC, and a `Receiver` of `/v1/traces`."""
    agent = Path(find_spec("rotel").origin).with_name("rotel-agent")
    grpc, http = free_port(), free_port()
    with Receiver() as receiver, process(
        folder, agent, "start", f"--otlp-grpc-endpoint=127.0.0.1:{grpc}", f"--otlp-http-endpoint=127.0.0.1:{http}",
        "--exporter=otlp", "--otlp-exporter-protocol=http", f"--otlp-exporter-endpoint=http://127.0.0.1:{receiver.port}", "--traces-batch-timeout=200ms",
    ):  # fmt: skip
        wait_until(lambda: listens(grpc), "the collector", 20)
        yield grpc, receiver
