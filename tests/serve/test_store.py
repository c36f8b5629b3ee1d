"""Many servers over one store, and servers that die in the middle of it."""

import contextlib
import json
import random
import threading
import time

import azure
import boto3
import pytest
from conftest import AZURITE, Client
from documents import policy
from serve import TOKEN
from stage import wait_until


@contextlib.contextmanager
def at_once(count, act):
    """Runs `act(i)` in so many threads; raises what one of them raised."""
    errors = []

    def run(i):
        try:
            act(i)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def revisions(client):
    """The revisions of all versions, the newest first."""
    found, before = [], ""
    while page := client.get(f"/v1/policies/shop/versions?limit=1000{before}").json()["versions"]:
        found += [it["revision"] for it in page]
        before = f"&before={page[-1]['version']}"
    return found


def test_the_s3_of_these_tests_creates_an_object_once(s3):
    """What all of this rests on."""
    secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    for i in range(20):
        made, start = [], threading.Barrier(8)

        def create(number, i=i, made=made, start=start):
            client = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", **secrets)
            start.wait()
            with contextlib.suppress(client.exceptions.ClientError):
                client.put_object(Bucket="bucket", Key=f"once/{i}", Body=str(number), IfNoneMatch="*")
                made.append(number)

        with at_once(8, create):
            pass
        assert len(made) == 1
        found = boto3.client("s3", endpoint_url=s3, region_name="us-east-1", **secrets).get_object(
            Bucket="bucket", Key=f"once/{i}"
        )
        assert found["Body"].read() == str(made[0]).encode()


@pytest.mark.skipif(not AZURITE, reason="MULKKO_AZURITE names no emulator; `make test-azure` does")
def test_the_azure_of_these_tests_creates_a_blob_once(request):
    """The same of Azure."""
    url = request.getfixturevalue("azure")
    for i in range(20):
        answers, start = [], threading.Barrier(8)

        def create(number, i=i, answers=answers, start=start):
            start.wait()
            options = {"x_ms_blob_type": "BlockBlob", "if_none_match": "*"}
            answers.append(azure.put(url, f"bucket/once/{i}", str(number).encode(), **options))

        with at_once(8, create):
            pass
        assert sorted(answers) == [201] + [409] * 7


def test_pushes_to_two_servers_at_once_are_all_kept(serve, connect, store):
    """Each of eight clients adds its own cohorts, one a push, to what is there: a lost push would be a missing one."""
    servers, clients, pushes = [serve(store) for _ in range(2)], 8, 6
    with connect(servers[0]) as client:
        assert client.push(policy(1)).status_code == 201
    conflicts = []

    def add(i):
        with Client(servers[i % 2]) as client:
            for number in range(pushes):
                while True:
                    newest = client.policy()
                    document = newest.json()
                    document["revision"] += 1
                    document.setdefault("cohorts", {})[f"c-{i}-{number}"] = True
                    answer = client.push(document, newest.headers["etag"])
                    if answer.status_code == 201:
                        break
                    assert answer.status_code == 412, answer.text
                    conflicts.append(i)

    with at_once(clients, add):
        pass
    for server in servers:
        with connect(server) as client:
            wait_until(lambda client=client: client.policy().json()["revision"] == 1 + clients * pushes, "the last")
            assert len(client.policy().json()["cohorts"]) == clients * pushes
            assert revisions(client) == list(range(1 + clients * pushes, 0, -1))
    assert conflicts, "they were at it at once"


def test_who_waits_at_one_server_gets_what_is_pushed_to_another(serve, connect, store):
    first, second = (serve(store, options=["--refresh", "100ms"]) for _ in range(2))
    with connect(first) as here, connect(second) as there:
        etag = here.push(policy(1)).headers["etag"]
        wait_until(lambda: there.policy().status_code == 200, "the first version")
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(there.policy(if_none_match=etag, prefer="wait=60")))
        waiting.start()
        with connect(second) as other:
            wait_until(lambda: "mulkko_serve_waiting 1" in other.get("/metrics").text, "the long poll")
        assert here.push(policy(2), etag).status_code == 201
        waiting.join(10)
        assert answers[0].json() == policy(2)


def test_a_store_that_is_away_is_said_and_borne(serve, connect, tmp_path):
    environment = {
        "AWS_ENDPOINT": "http://127.0.0.1:9", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-store",
    }  # fmt: skip
    server = serve(("s3://bucket/x", environment))
    with connect(server) as client:
        assert client.get("/healthz", timeout=60).status_code == 503
        assert "a-secret-of-the-store" not in server.log()


def test_what_is_known_is_served_while_the_store_is_away(serve, connect, tmp_path):
    server = serve((str(tmp_path / "store"), {}), options=["--refresh", "50ms"])
    with connect(server) as client:
        client.push(policy(1))
        (tmp_path / "store/policies/shop/000000000002").mkdir(parents=True)
        time.sleep(0.1)
        assert client.policy().json() == policy(1)
        assert client.push(policy(2), client.policy().headers["etag"]).status_code in (412, 503)


@pytest.mark.parametrize("pushes", [200])
def test_a_server_that_dies_leaves_the_old_version_or_the_new(serve, store, pushes):
    """Servers are killed at random points of two hundred pushes of 200 kB."""
    server, dice = serve(store), random.Random(1)
    pushed, acknowledged, kills = {}, set(), 0
    with Client(server) as client:
        revision, etag = 0, None
        while len(pushed) < pushes:
            killer = threading.Timer(dice.uniform(0, 0.25), server.kill)
            killer.start()
            with contextlib.suppress(OSError):
                while len(pushed) < pushes:
                    revision += 1
                    pushed[revision] = json.dumps(policy(revision, size=200_000 + revision))
                    answer = client.put(
                        "/v1/policies/shop", data=pushed[revision],
                        headers={"if-match": etag} if etag else {"if-none-match": "*"},
                    )  # fmt: skip
                    assert answer.status_code == 201, answer.text
                    acknowledged.add(revision)
                    etag = answer.headers["etag"]
            killer.join()
            kills += 1
            server.start()
            newest = client.policy()
            if newest.status_code == 404:
                assert not acknowledged
                continue
            # The last that was acknowledged, or the one after it, of which nobody heard; whole in either case.
            etag, found = newest.headers["etag"], newest.json()["revision"]
            assert newest.text == pushed[found]
            assert found in {max(acknowledged, default=0), revision}
            acknowledged.add(found)
        assert acknowledged == set(revisions(client))
        for revision in dice.sample(sorted(acknowledged), 20):
            assert client.get(f"/v1/policies/shop/versions/{revision}").text == pushed[revision]
    assert kills >= 5, kills
    assert TOKEN not in server.log()
