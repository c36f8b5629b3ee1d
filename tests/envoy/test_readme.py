"""What the README shows of flags is what happens: its examples run as they stand there, and print what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stage import TOP, load_policy, wait_until

CLIENTS = Path(__file__).parent / "clients"
NODE = Path(sys.executable).with_name("node")
README = (TOP / "README.md").read_text()
FLAGS = README[README.index("\n## Flags\n") : README.index("\n## How a decision is made\n")]


def example(language):
    """The example in a language, and what it prints: the block after it."""
    return re.search(rf"```{language}\n(.*?)```\n\n```text\n(.*?)```", FLAGS, re.S).groups()


@pytest.fixture
def port(set_stage):
    """The port of an edge proxy as `envoy.yaml` has it, with `policies/flags.json` in force on all workers."""
    stage = set_stage(policy=load_policy("flags"))
    with stage.connection_per_worker() as connections:
        for connection in connections:
            path = "/ofrep/v1/evaluate/flags/page-size"
            wait_until(lambda connection=connection: connection.send("POST", path).status == 200, "the flags")
    return stage.port


def check(port, language, *command):
    """Runs an example with its proxy at another port."""
    program, expected = example(language)
    program = program.replace("localhost:10000", f"127.0.0.1:{port}")
    done = subprocess.run(command, input=program, capture_output=True, text=True, timeout=60, cwd=CLIENTS)
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_example_for_python(port):
    check(port, "python", sys.executable, "-")


def test_the_example_for_javascript(port):
    check(port, "javascript", NODE, "--input-type=module", "-")


@pytest.mark.long
def test_the_example_for_rust(port, tmp_path):
    program, expected = example("rust")
    shutil.copytree(CLIENTS / "rust", tmp_path / "rust", ignore=shutil.ignore_patterns("target"))
    main = tmp_path / "rust/src/main.rs"
    assert main.read_text() == program
    main.write_text(program.replace("localhost:10000", f"127.0.0.1:{port}"))
    done = subprocess.run(
        ["cargo", "run", "--quiet", "--locked"], capture_output=True, text=True, timeout=900, cwd=tmp_path / "rust",
        env={**os.environ, "CARGO_TARGET_DIR": str(TOP / "target/rust-client")},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_example_for_curl(port):
    if not shutil.which("curl"):
        pytest.skip("curl is not there")
    command, expected = re.search(r"```console\n\$ (curl .*?)\n(.*?)\n```", FLAGS, re.S).groups()
    command = shlex.split(command.replace("localhost:10000", f"127.0.0.1:{port}"))
    assert subprocess.run(command, capture_output=True, text=True, timeout=10).stdout == expected


def test_the_flag_that_it_shows_is_that_of_the_example():
    shown = re.search(r'```json\n("new-cart": .*?)```', FLAGS, re.S)[1]
    assert re.sub(r"\s", "", shown) in re.sub(r"\s", "", (TOP / "policies/flags.json").read_text())


def test_the_header_that_it_shows_arrives(set_stage):
    user, header = re.search(r"```text\nx-user-id: (.*?)\nx-mulkko-flags: (.*?)\n```", FLAGS).groups()
    policy = {**load_policy("flags"), "flagKey": "user", "keys": {"user": {"from": [{"header": "x-user-id"}]}}}
    stage = set_stage(policy=policy)
    stage.wait_for_all_workers(lambda echo: echo.header("x-mulkko-flags") == header, headers=[("x-user-id", user)])
