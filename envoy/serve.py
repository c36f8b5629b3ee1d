"""`mulkko serve` as a process of its own: the config cluster of the demo and of the tests."""

import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

TOKEN = "mulkko_a-token-for-all-policies"
# The one that proxies show, in the environment variable of `source.token`.
PROXY_TOKEN, PROXY_TOKEN_VARIABLE = "mulkko_a-token-for-proxies", "MULKKO_SOURCE_TOKEN"
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def entry(token, name="platform-team", policies=("*",), **members):
    """A token, as the server's file has it."""
    return {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "policies": list(policies), **members}


TOKENS = (entry(TOKEN), entry(PROXY_TOKEN, "proxies", may=["read"]))


class Serve:
    """A server over `store` (a folder or a URL), from `with` to the end of the block.

    command      the binary
    tokens       entries of the file of tokens
    options      of the command line, beside those for store, address and tokens
    listen       the address that it listens at
    environment  beside this process's own
    """

    def __init__(self, store, command, *, tokens=TOKENS, options=(), listen="127.0.0.1", environment=None):
        self.store, self.command, self.options, self.listen = store, command, options, listen
        self.environment = {**os.environ, **(environment or {})}
        self.folder = tempfile.TemporaryDirectory(prefix="mulkko-serve-")
        self.tokens = Path(self.folder.name) / "tokens.json"
        self.tokens.write_text(json.dumps(list(tokens)))
        self.process = self.port = self.scheme = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()
        self.folder.cleanup()

    def start(self):
        """Starts the process and waits until it listens: where it did before, if it did."""
        self.log_file = Path(self.folder.name) / "log"
        with open(self.log_file, "ab") as log:
            start = log.tell()
            command = [
                self.command, "serve", "--store", self.store, "--tokens", self.tokens,
                "--listen", f"{self.listen}:{self.port or 0}", *self.options,
            ]  # fmt: skip
            self.process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                start_new_session=True, preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )  # fmt: skip
        end = time.monotonic() + 20
        while not (found := re.search(r"listening at (https?)://[^:]+:(\d+)", self.log_file.read_text()[start:])):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"mulkko serve does not listen\n{self.log()}")
            time.sleep(0.01)
        self.scheme, self.port = found[1], int(found[2])

    @property
    def url(self):
        """Where it is."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def kill(self):
        """Ends the process as a failing machine would."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds=15):
        """Asks the process to end; gives its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def log(self):
        """What it has logged."""
        return self.log_file.read_text()

    def memory_bytes(self):
        """The most memory that the process has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def run(self, *arguments, check=True, environment=None, **options):
        """Runs the command as a client of this server."""
        environment = {"MULKKO_SERVER": self.url, "MULKKO_TOKEN": TOKEN, **self.environment, **(environment or {})}
        words = [str(word) for word in (self.command, *arguments)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, **options)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def push(self, policy, *options, name="shop", **arguments):
        """Pushes a policy (or any bytes) with the command."""
        text = policy if isinstance(policy, str) else json.dumps(policy)
        return self.run("push", "-", "--name", name, *options, input=text, **arguments)

    def get(self, path):
        """What a GET brings, as JSON."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)
