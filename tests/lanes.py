"""Runs targets of make in lanes, side by side, and says how long each took.

    python tests/lanes.py "deps setup" "build plugins" -- "test-native lint" "test-envoy"

An argument is a lane: its targets follow one another, and those after one that fails are run all the same. What stands
after `--` begins when all before it has ended. The output of a target is shown when it has ended, whole; of a lane that
is alone, as it comes. The exit code is 0 if all targets were good. Ctrl-C and SIGTERM end what runs, and start nothing more.

A lane for what compiles beside one for what waits: two cores are then busy for most of the time.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

OUTPUT = threading.Lock()
STARTING = threading.RLock()
STOPPED = threading.Event()


class Lane(threading.Thread):
    """The targets of one lane, one after another; `took` says of each its seconds and its exit code, 0 if it was good."""

    def __init__(self, targets, alone):
        super().__init__()
        self.targets, self.alone, self.took = targets, alone, []
        self.process = None

    def run(self):
        for target in self.targets:
            if STOPPED.is_set():
                return
            begin = time.monotonic()
            try:
                code = self.make(target)
            except OSError as error:
                code = str(error)
            self.took.append((target, time.monotonic() - begin, code))

    def make(self, target):
        command = ["make", "--no-print-directory", target]
        say(f"::: {target}{'' if self.alone else ' begins'}\n")
        output = {} if self.alone else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        # In a group of its own, so that whatever it has started can be ended with it.
        with STARTING:
            if STOPPED.is_set():
                return "not run"
            self.process = subprocess.Popen(command, start_new_session=True, **output)
        shown = self.process.communicate()[0]
        if not self.alone:
            say(f"::: {target}\n", shown)
        return self.process.returncode

    def end(self, sent):
        """Passes a signal on to all that runs."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, sent)


def say(text, output=b""):
    """Prints what belongs together, all of it: whoever reads may be slow."""
    os.set_blocking(sys.stdout.fileno(), True)
    with OUTPUT, open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(text.encode() + output)


def main(arguments):
    """Runs the stages; gives the exit code."""
    begin = time.monotonic()
    stages = [list(lanes) for is_end, lanes in itertools.groupby(arguments, lambda it: it == "--") if not is_end]
    if not any(lane.split() for lanes in stages for lane in lanes):
        sys.exit(__doc__)
    took, lanes = [], []

    def stop(sent, _):
        with STARTING:
            STOPPED.set()
            for lane in lanes:
                lane.end(sent)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    for named in stages:
        lanes[:] = [Lane(lane.split(), alone=len(named) == 1) for lane in named]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
            took += lane.took
    print(f"\n{'target':<22}{'seconds':>8}")
    for target, seconds, code in took:
        print(f"{target:<22}{seconds:>8.0f}{'' if code == 0 else '  failed'}")
    print(f"{'in all':<22}{time.monotonic() - begin:>8.0f}", flush=True)
    return int(STOPPED.is_set() or any(code for _, _, code in took))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
