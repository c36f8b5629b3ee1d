"""Who asks for all flags again is told when nothing has changed: the ETag is that of what was evaluated."""

import pytest
from ofrep import ALL, HALVES, IN_KOREA, Number, ask, body_of, by_key, configuration, flag, unharmed
from stage import Stage

ANN = {"targetingKey": "ann"}
BOB = {"targetingKey": "bob"}
KOREAN = {"region": "kr"}

FLAGS = {
    "static": flag(defaultVariant="on"),
    "korea": flag({"if": [IN_KOREA, "on", "off"]}),
    "halves": flag(HALVES),
    "key": flag({"if": [{"==": [{"var": "targetingKey"}, "ann"]}, "on", "off"]}),
}


@pytest.fixture(scope="module")
def mesh():
    """A proxy of the mesh that has the flags above."""
    with Stage(plugin=configuration({"metadata": {"team": "shop"}, "flags": FLAGS})) as stage, unharmed(stage):
        yield stage


def etag_of(response):
    """The ETag of an answer for all, which must be a strong one in its quotes."""
    etag = response.header("etag")
    assert response.status == 200 and etag and etag[0] == etag[-1] == '"' and len(etag) > 2, response
    return etag


def test_who_has_the_answer_is_told_so(mesh):
    etag = etag_of(ask(mesh, None, ANN))
    for tags in etag, f"W/{etag}", f'"other", {etag}', f'W/"other",W/{etag} , "third"', f'"with, comma",{etag}':
        response = ask(mesh, None, ANN, ("if-none-match", tags))
        assert (response.status, response.body, response.header("etag")) == (304, b"", etag), tags
        assert response.header("content-type") is None
    response = ask(mesh, None, ANN, ("if-none-match", '"other"'), ("if-none-match", etag))
    assert response.status == 304, "repeated headers are one list"
    for tags in '"other"', etag.strip('"'), f'{etag[:-1]}x"', f'"{etag[1:-2]}"', '""', "", "W/":
        response = ask(mesh, None, ANN, ("if-none-match", tags))
        assert (response.status, etag_of(response)) == (200, etag), tags


def test_the_etag_tells_what_was_evaluated(mesh):
    etags = {}
    for context in {}, ANN, BOB, KOREAN, {**ANN, **KOREAN}, {**BOB, **KOREAN}:
        etag = etag_of(ask(mesh, None, context))
        response = ask(mesh, None, context, ("if-none-match", ", ".join(etags)))
        assert response.status == 200, f"{context} has been answered as {etags[etag]}"
        etags[etag] = context
    # What no flag looks at changes nothing.
    unchanged = ask(mesh, None, {**ANN, "shoe size": 43}, ("if-none-match", etag_of(ask(mesh, None, ANN))))
    assert unchanged.status == 304


def test_all_workers_give_the_same_etag(mesh):
    with mesh.connection_per_worker() as connections:
        etags = {connection.send("POST", ALL, (), body_of(ANN)).header("etag") for connection in connections}
    assert len(etags) == 1 and None not in etags


def test_one_flag_is_always_answered(mesh):
    first = ask(mesh, "static", ANN)
    tags = first.header("etag") or etag_of(ask(mesh, None, ANN))
    assert ask(mesh, "static", ANN, ("if-none-match", tags)).body == first.body


def test_a_changed_policy_is_told_to_who_has_the_old_answer(set_stage):
    def policy(revision, **metadata):
        own = {"mulkko.export": "in-force", **metadata}
        exported = flag(variants={"it": revision}, defaultVariant="it", metadata=own)
        return {"revision": revision, "flags": {"static": flag(defaultVariant="on"), "exported": exported}}

    def in_force(revision):
        return lambda echo: echo.header("x-mulkko-flags") == f"in-force={revision}"

    stage = set_stage(policy=policy(1), plugin={"ofrep": {"prefix": "/ofrep/v1"}, "trust": "mesh"})
    stage.wait_for_all_workers(in_force(1))
    tags = [etag_of(ask(stage))]
    for revision, changed in [(2, policy(2)), (3, policy(3, note="new"))]:
        stage.push(changed)
        stage.wait_for_all_workers(in_force(revision))
        response = ask(stage, None, None, ("if-none-match", ", ".join(tags)))
        assert by_key(response)["exported"]["value"] == Number(str(revision))
        tags.append(etag_of(response))
    # Under another revision the same flags are the same answer.
    stage.push({**policy(3, note="new"), "revision": 4})
    stage.wait_for_metric("policy_revision", 4)
    assert ask(stage, None, None, ("if-none-match", tags[-1])).status == 304
