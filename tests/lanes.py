"""Runs targets of make in lanes, side by side, and says how long each took.

    python tests/lanes.py "deps setup" "build plugins" -- "test-native lint" "test-envoy"

An argument is a lane: its targets follow one another, and those after one that fails are run all the same. What stands
after `--` begins when all before it has ended. The output of a target is shown when it has ended, whole; of a lane that
is alone, as it comes. The exit code is 0 if all targets were good.

A lane for what compiles beside one for what waits: two cores are then busy for most of the time.
"""

import itertools
import os
import subprocess
import sys
import threading
import time

OUTPUT = threading.Lock()


class Lane(threading.Thread):
    """The targets of one lane, one after another; `took` says of each its seconds and its exit code, 0 if it was good."""

    def __init__(self, targets, alone):
        super().__init__()
        self.targets, self.alone, self.took = targets, alone, []

    def run(self):
        for target in self.targets:
            begin = time.monotonic()
            try:
                code = self.make(target)
            except OSError as error:
                code = str(error)
            self.took.append((target, time.monotonic() - begin, code))

    def make(self, target):
        command = ["make", "--no-print-directory", target]
        if self.alone:
            say(f"::: {target}\n")
            return subprocess.run(command).returncode
        say(f"::: {target} begins\n")
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        say(f"::: {target}\n", done.stdout)
        return done.returncode


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
    took = []
    for lanes in stages:
        lanes = [Lane(lane.split(), alone=len(lanes) == 1) for lane in lanes]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
            took += lane.took
    print(f"\n{'target':<22}{'seconds':>8}")
    for target, seconds, code in took:
        print(f"{target:<22}{seconds:>8.0f}{'' if code == 0 else '  failed'}")
    print(f"{'in all':<22}{time.monotonic() - begin:>8.0f}", flush=True)
    return int(any(code for _, _, code in took))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
