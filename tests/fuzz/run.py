"""Fuzzes for a while: each target for so many seconds, from the seeds of the repository on.

    python tests/fuzz/run.py --seconds 60 --binaries FOLDER --out FOLDER [TARGET...]

The table says of each target how many inputs were tried, how many of them went somewhere new, how long the longest took
and how much memory there was at most. What breaks a promise is kept in the folder `found`, and the exit code is 1: it becomes a
test beside the code that it broke.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
TOP = FUZZ.parent.parent
# The longest input of each target in bytes.
LONGEST = {
    "policies": 8_192,
    "conditions": 2_048,
    "patterns": 512,
    "ofrep": 4_096,
    "signatures": 4_096,
    "headers": 4_096,
    "shadows": 4_096,
    "access_logs": 4_096,
    "curl_lines": 1_024,
    "edits": 8_192,
}


def documents():
    """Policies: good ones and bad ones."""
    for path in [*TOP.glob("policies/*.json"), *TOP.glob("tests/refusals/*.json")]:
        yield path.read_bytes()
    for path in TOP.glob("tests/cases/*.json"):
        policy = json.loads(path.read_text())["policy"]
        if isinstance(policy, dict):
            yield json.dumps(policy).encode()


def members(value, name):
    """All values of a name, however deep."""
    if isinstance(value, dict):
        for key, member in value.items():
            if key == name:
                yield member
            yield from members(member, name)
    elif isinstance(value, list):
        for item in value:
            yield from members(item, name)


def parsed(texts):
    """Those that are JSON."""
    for text in texts:
        try:
            yield json.loads(text)
        except ValueError:
            pass


def conditions():
    """What stands in policies as a condition."""
    for document in parsed(documents()):
        for name in ("when", "targeting"):
            for condition in members(document, name):
                yield json.dumps(condition).encode()
        cohorts = document.get("cohorts") if isinstance(document, dict) else None
        for condition in cohorts.values() if isinstance(cohorts, dict) else ():
            yield json.dumps(condition).encode()


def patterns():
    """What stands in policies as a pattern, with a text."""
    for document in parsed(documents()):
        for match in members(document, "matches"):
            for value in members(match, "value"):
                if isinstance(value, str):
                    yield f"{value}\n{value}".encode()


SEEDS = {"policies": documents, "edits": documents, "conditions": conditions, "patterns": patterns}


def sow(target, folder):
    """Puts the seeds of a target into a folder: its own, and those that stand elsewhere in the repository."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    own = [path.read_bytes() for path in sorted((FUZZ / "seeds" / target).glob("*"))]
    for i, seed in enumerate([*own, *SEEDS.get(target, list)()]):
        if len(seed) <= LONGEST[target]:
            (folder / f"{i:04}").write_bytes(seed)
    return len(list(folder.iterdir()))


def fuzz(target, asked):
    """Fuzzes one target; what libFuzzer says at the end, by name, and its exit code."""
    corpus, found = asked.out / "corpus" / target, asked.out / "found" / target
    seeds = sow(target, asked.out / "seeds" / target)
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        asked.binaries / target, f"-max_total_time={asked.seconds}", f"-max_len={LONGEST[target]}", "-timeout=10",
        "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={found}/",
    ]  # fmt: skip
    if target != "shadows":
        command.append(f"-dict={FUZZ / 'dictionaries' / 'policy.dict'}")
    # New inputs are kept in the first folder.
    done = subprocess.run([*command, corpus, asked.out / "seeds" / target], capture_output=True, text=True, errors="replace")
    said = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", done.stderr, re.M))
    if done.returncode:
        print(done.stderr[-4_000:], file=sys.stderr)
    return done.returncode, {**said, "seeds": seeds, "corpus": len(list(corpus.iterdir()))}


def main():
    """Fuzzes what is asked for, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="what is kept from one run to the next, and what is found")
    parser.add_argument("targets", nargs="*", metavar="TARGET", choices=[*LONGEST, []])
    asked = parser.parse_args()
    asked.out = asked.out.resolve()
    print("| target | seeds | inputs | a second | kept | longest, s | MB | |\n|---|---|---|---|---|---|---|---|")
    failed = []
    for target in asked.targets or LONGEST:
        code, said = fuzz(target, asked)
        told = [said.get(name, "?") for name in (
            "seeds", "number_of_executed_units", "average_exec_per_sec", "corpus", "slowest_unit_time_sec", "peak_rss_mb",
        )]  # fmt: skip
        print(f"| {target} | {' | '.join(map(str, told))} | {'FOUND' if code else 'good'} |", flush=True)
        failed += [target] if code else []
    if failed:
        sys.exit(f"{', '.join(failed)}: see {asked.out / 'found'}")


if __name__ == "__main__":
    main()
