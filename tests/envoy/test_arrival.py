"""Headers of which `mulkko check` says that they never arrive: Envoy removes them before the plugin looks at a request."""

from explain import decisions, explain_pass
from stage import Stage

# As in `never_arrives` and `of_header` of src/lint/subjects.rs.
NEVER = {
    "transfer-encoding": "chunked",
    "keep-alive": "timeout=5",
    "proxy-connection": "keep-alive",
    "connection": "keep-alive",
}
ARRIVES = {"te": "trailers", "x-else": "1", "host": "shop.example.com"}


def rollout(header):
    """One that tells whether the plugin has seen a header."""
    return {
        "name": f"has-{header}",
        "variants": {"no": {}, "yes": {}},
        "default": "no",
        "strategy": {"dark": {"variant": "yes"}},
        "force": [{"when": {"var": f"request.headers.{header}"}, "variant": "yes"}],
    }


def test_what_is_between_two_hops_never_arrives():
    sent = {**NEVER, **ARRIVES}
    plugin = {
        "name": "arrival",
        "passKeys": [{"env": "MULKKO_PASS_KEY"}],
        "policy": {"rollouts": [rollout(header) for header in sent]},
    }
    with (
        Stage(edit=lambda bootstrap: bootstrap.add_listener("arrival", plugin)) as stage,
        stage.connection_per_worker("arrival") as connections,
    ):
        at = connections[0].write("POST", "/", [*sent.items(), explain_pass()], b"0\r\n\r\n")
        decided = decisions(connections[0].read(sent=at))
    arrived = {name.removeprefix("has-") for name, (variant, _) in decided.items() if variant == "yes"}
    assert len(decided) == len(sent) and arrived == set(ARRIVES)
