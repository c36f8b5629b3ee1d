"""An S3 for the tests: moto, which answers one request after the other, so that its conditional puts are atomic.

With threads they are not: it looks whether an object is there, and writes it later.
"""

import logging
import threading

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Handler(WSGIRequestHandler):
    """Who opens a connection and says nothing must not keep all others waiting."""

    timeout = 5


def make_bucket(url):
    """Makes the tests' bucket, and says so."""
    secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    boto3.client("s3", endpoint_url=url, region_name="us-east-1", **secrets).create_bucket(Bucket="bucket")
    print(url, flush=True)


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, application, threaded=False, request_handler=Handler)
    threading.Thread(target=make_bucket, args=(f"http://127.0.0.1:{server.port}",), daemon=True).start()
    server.serve_forever()
