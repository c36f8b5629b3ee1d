"""The tests' stage: a real Envoy for whoever asks, and its log beside every failure."""

import contextlib
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "envoy"))

from config_server import ConfigServer, policy_answer  # noqa: E402
from documents import source  # noqa: E402
from stage import Stage  # noqa: E402

STAGES = pytest.StashKey()


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; `make test-long` runs it")
    config.addinivalue_line("markers", "soak: takes ten minutes, in a target of its own")
    config.addinivalue_line("markers", "alone: measures; no other test runs beside it")


@pytest.fixture
def set_stage(request):
    """Sets stages that last as long as the test: `set_stage(policy=...)`, with the arguments of `Stage`.

    The plugin asks for its policy five times a second unless its `source` says otherwise.
    """
    request.node.stash[STAGES] = []
    with contextlib.ExitStack() as cleanup:

        def enter(plugin=None, **arguments):
            if not isinstance(plugin, str):
                plugin = {"source": source(), **(plugin or {})}
            stage = cleanup.enter_context(Stage(plugin=plugin, **arguments))
            request.node.stash[STAGES].append(stage)
            return stage

        yield enter


@pytest.fixture
def serve():
    """Starts scriptable config servers that last as long as the test: `serve(policy_or_answer, port=0)`."""
    with contextlib.ExitStack() as cleanup:

        def enter(what, port=0):
            answer = policy_answer(what) if isinstance(what, dict) else what
            return cleanup.enter_context(ConfigServer(answer, port))

        yield enter


def stages_of_the_module(item):
    """The stages that a test shares with others, as its fixtures give them: alone, or beside something else."""
    for value in item.funcargs.values():
        yield from (it for it in (value if isinstance(value, tuple) else (value,)) if isinstance(it, Stage))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call" and report.failed:
        for stage in [*item.stash.get(STAGES, []), *stages_of_the_module(item)]:
            report.sections.append(("Envoy's log", stage.log()))
    return report
