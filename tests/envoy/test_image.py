"""The plugin as an OCI image: pushed to a real registry, and read back as Istio's agent does."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import urllib.request

import pytest
from image import LAYER, MANIFEST, write_image
from stage import TOP, WASM, free_port, wait_until

REGISTRY = """version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error}}
"""


@pytest.fixture
def registry(tmp_path):
    """A registry, by its address."""
    address = f"127.0.0.1:{(port := free_port())}"
    config = tmp_path / "registry.yaml"
    config.write_text(REGISTRY.format(folder=tmp_path / "registry", port=port))
    process = subprocess.Popen(["docker-registry", "serve", config])
    try:
        wait_until(lambda: fetched(f"http://{address}/v2/"), "the registry")
        yield address
    finally:
        process.terminate()
        process.wait()


def fetched(url, accept="*/*"):
    """What a URL answers, or nothing while nobody does."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers={"accept": accept})) as response:
            return response.read()
    except OSError:
        return None


def plugin_of(repository, digest):
    """The wasm of an image, taken as Istio's agent takes it: by the manifest's digest, out of the last layer."""
    manifest = fetched(f"{repository}/manifests/{digest}", MANIFEST)
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == digest
    last = json.loads(manifest)["layers"][-1]
    assert last["mediaType"] == LAYER
    layer = fetched(f"{repository}/blobs/{last['digest']}")
    assert f"sha256:{hashlib.sha256(layer).hexdigest()}" == last["digest"]
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layer))) as tar:
        found = [entry for entry in tar if entry.name.rsplit("/", 1)[-1] == "plugin.wasm"]
        assert len(found) == 1
        return tar.extractfile(found[0]).read()


def test_a_registry_gives_the_plugin_back(tmp_path, registry):
    made = subprocess.run(
        [sys.executable, TOP / "envoy/image.py", tmp_path / "image", "--tag", "0.1.0", "--wasm", WASM],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    layout, digest = made.split()
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false", layout,
         f"docker://{registry}/mulkko:0.1.0"],
        check=True,
    )  # fmt: skip
    assert plugin_of(f"http://{registry}/v2/mulkko", digest) == WASM.read_bytes()
    tagged = fetched(f"http://{registry}/v2/mulkko/manifests/0.1.0", MANIFEST)
    assert f"sha256:{hashlib.sha256(tagged).hexdigest()}" == digest


def test_the_same_wasm_gives_the_same_digest(tmp_path):
    wasm = WASM.read_bytes()
    digest = write_image(wasm, tmp_path / "one", "1")
    assert write_image(wasm, tmp_path / "another", "2") == digest
    # What lay in the folder before is gone: the image holds what it names.
    other = write_image(wasm + b"\0", tmp_path / "one", "1")
    assert other != digest
    assert len(list((tmp_path / "one/blobs/sha256").iterdir())) == 3
