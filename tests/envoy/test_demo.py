"""The demo's tour, as `make demo` gives it."""

import subprocess
import sys

from stage import TOP


def test_the_tour_goes_as_it_says(tmp_path):
    tour = subprocess.run([sys.executable, TOP / "envoy/demo.py"], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert [line[:1] for line in tour.stdout.splitlines() if line[1:3] == ". "] == list("123456789"), tour.stdout
    assert "users have moved, as foretold" in tour.stdout
    # Of the shadow's requests, and of those during the switch.
    assert tour.stdout.count("failed: 0") == 2, tour.stdout
