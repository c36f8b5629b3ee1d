"""The API of Azure's blob storage, by Microsoft's emulator Azurite, with one container: `bucket`."""

import base64
import contextlib
import hashlib
import hmac
import re
import subprocess
from email.utils import formatdate

import requests

# The account that every emulator of Azure has; published by Microsoft.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def put(url, path, body=b"", **headers):
    """A signed PUT; its status."""
    path, _, query = path.partition("?")
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    own = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers) if name.startswith("x-ms-"))
    length = str(len(body)) if body else ""
    lines = ["PUT", "", "", length, "", "", "", "", "", headers.get("if-none-match", ""), "", ""]
    text = "\n".join(lines) + "\n" + own + f"/{ACCOUNT}/{ACCOUNT}/{path}" + "".join(
        "\n" + pair.replace("=", ":") for pair in sorted(query.split("&")) if pair
    )
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
    headers["authorization"] = f"SharedKey {ACCOUNT}:{signature}"
    return requests.put(f"{url}/{ACCOUNT}/{path}?{query}", data=body, headers=headers, timeout=30).status_code


@contextlib.contextmanager
def azurite(command, folder):
    """The emulator's URL, for as long as it runs."""
    words = [command, "--blobPort", "0", "--location", folder, "--skipApiVersionCheck"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = next(found[1] for line in process.stdout if (found := re.search(r"listens on (http://\S+)", line)))
            assert put(url, "bucket?restype=container") == 201
            yield url
        finally:
            process.kill()
