"""Servers of the tests, over folders and over the APIs of S3 and Azure."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import requests

TOP = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(TOP / "envoy"), str(TOP / "tests/envoy")]

from azure import azurite  # noqa: E402
from serve import TOKEN, Serve  # noqa: E402
from stage import COMMAND  # noqa: E402

# The emulator of Azure's blob storage, where there is one.
AZURITE = os.environ.get("MULKKO_AZURITE")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; `make test-long` runs it")
    config.addinivalue_line("markers", "alone: measures; no other test runs beside it")


class Client(requests.Session):
    """Requests to a server, its token in hand."""

    def __init__(self, server, token=TOKEN):
        super().__init__()
        self.server = server
        self.token = token

    def request(self, method, path, **options):
        options.setdefault("timeout", 30)
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", None) or {}
        return super().request(method, self.server.url + path, headers=headers, **options)

    def push(self, policy, etag=None, name="shop"):
        """Pushes in place of the version with that ETag, or as the first."""
        precondition = {"if-match": etag} if etag else {"if-none-match": "*"}
        return self.put(f"/v1/policies/{name}", json=policy, headers=precondition)

    def policy(self, name="shop", **headers):
        """Fetches the newest version."""
        return self.get(f"/v1/policies/{name}", headers={key.replace("_", "-"): it for key, it in headers.items()})


@pytest.fixture(scope="session")
def s3():
    """An S3 over the wire: its URL, and what the environment must say. One bucket, `bucket`."""
    with subprocess.Popen([sys.executable, TOP / "tests/serve/s3.py"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="session")
def azure(tmp_path_factory):
    """Azure's blob storage over the wire: its URL. One container, `bucket`."""
    with azurite(AZURITE, tmp_path_factory.mktemp("azurite")) as url:
        yield url


@pytest.fixture(params=["folder", "s3", *(["azure"] if AZURITE else [])])
def store(request, tmp_path):
    """A store: what a server is told of it, and its environment."""
    if request.param == "folder":
        return str(tmp_path / "store"), {}
    if request.param == "azure":
        environment = {
            "AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": request.getfixturevalue("azure"),
        }  # fmt: skip
        return f"az://bucket/{tmp_path.name}", environment
    endpoint = request.getfixturevalue("s3")
    environment = {
        "AWS_ENDPOINT": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }  # fmt: skip
    return f"s3://bucket/{tmp_path.name}", environment


@pytest.fixture
def serve(tmp_path):
    """Starts servers that last as long as the test: `serve(store=..., **arguments of Serve)`."""
    with contextlib.ExitStack() as cleanup:

        def enter(store=None, **arguments):
            place, environment = store or (str(tmp_path / "store"), {})
            return cleanup.enter_context(Serve(place, COMMAND, environment=environment, **arguments))

        yield enter


@pytest.fixture
def connect():
    """Makes clients that last as long as the test."""
    with contextlib.ExitStack() as cleanup:
        yield lambda server, **arguments: cleanup.enter_context(Client(server, **arguments))
