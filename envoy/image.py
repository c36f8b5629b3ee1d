"""Makes an OCI image of the plugin, without a container engine: `make image`.

    python envoy/image.py target/image --tag 0.1.0

writes an image layout of one manifest, one gzip layer and in it `plugin.wasm`: what Istio's agent and Envoy Gateway take
from a registry. The same wasm gives the same digest, on any day and under any user. What is printed is the manifest's
digest, which `sha256` in Istio's manifests means. skopeo, oras and crane push the layout:

    skopeo copy --preserve-digests oci:target/image:0.1.0 docker://registry.example/mulkko:0.1.0
"""

import argparse
import gzip
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

WASM = Path("target/wasm32-wasip1/release/mulkko.wasm")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
# zstd, or a layer that is not compressed, Istio's agent refuses.
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def layer_of(wasm):
    """The layer's archive: `plugin.wasm` alone, which belongs to nobody and is of no time."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo("plugin.wasm")
        entry.size = len(wasm)
        entry.mode = 0o644
        tar.addfile(entry, io.BytesIO(wasm))
    return archive.getvalue()


def digest_of(content):
    """A content's digest, as the image specification writes it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_image(wasm, layout, tag):
    """Writes the image layout of a wasm, in place of what lies there; gives the digest of its manifest."""
    shutil.rmtree(layout, ignore_errors=True)
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(media_type, content):
        digest = digest_of(content)
        (blobs / digest.removeprefix("sha256:")).write_bytes(content)
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    archive = layer_of(wasm)
    # An image's platform must be said; nodes of any other take it all the same, as the manifest stands in no index.
    config = {"architecture": "amd64", "os": "linux", "config": {}}
    config["rootfs"] = {"type": "layers", "diff_ids": [digest_of(archive)]}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": add(CONFIG, as_json(config)),
        "layers": [add(LAYER, gzip.compress(archive, 9, mtime=0))],
        "annotations": {"org.opencontainers.image.title": "mulkko", "org.opencontainers.image.licenses": "Apache-2.0"},
    }
    named = {**add(MANIFEST, as_json(manifest)), "annotations": {"org.opencontainers.image.ref.name": tag}}
    (layout / "index.json").write_bytes(as_json({"schemaVersion": 2, "manifests": [named]}))
    (layout / "oci-layout").write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))
    return named["digest"]


def as_json(value):
    """JSON to the byte."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def main():
    """Writes the image and prints where it is and what it is called."""
    parser = argparse.ArgumentParser(description="Make an OCI image of the plugin.")
    parser.add_argument("layout", type=Path, help="the folder of the image layout")
    parser.add_argument("--wasm", type=Path, default=WASM, help="the plugin")
    parser.add_argument("--tag", default="latest", help="the image's tag")
    asked = parser.parse_args()
    digest = write_image(asked.wasm.read_bytes(), asked.layout, asked.tag)
    print(f"oci:{asked.layout}:{asked.tag}\n{digest}")


if __name__ == "__main__":
    main()
