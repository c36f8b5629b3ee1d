"""Runs the targets of libFuzzer, one after another, and says what each did.

    python tests/fuzz/run.py --binaries FOLDER --work FOLDER --seconds 60 [headers …]

The first inputs of a target are in `seeds/<target>`, and gathered from the policies, cases and refusals of the other tests.
What a target has found new ways with stays in `<work>/corpus/<target>`, and is where its next run begins; an input that ends it
is written to `<work>/found/<target>`. The exit code is 0 if no target was ended by a panic, a timeout or its memory.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]

# The longest input of each target, in bytes: longer ones find no more, and take longer.
TARGETS = {
    "documents": 16_384,
    "conditions": 4_096,
    "patterns": 512,
    "ofrep": 4_096,
    "tokens": 4_096,
    "headers": 12_000,
    "shadow": 4_096,
    "access_logs": 4_096,
    "curl": 1_024,
    "edits": 16_384,
}
TIMEOUT_S, MEMORY_MB = 10, 2_048


def documents():
    """Policies by themselves, in cases, and those that are refused."""
    for path in [*ROOT.glob("policies/*.json"), *ROOT.glob("tests/refusals/*.json"), HERE / "policy.json"]:
        yield path.read_bytes()
    for path in ROOT.glob("tests/cases/*.json"):
        policy = json.loads(path.read_bytes())["policy"]
        if isinstance(policy, dict):
            yield json.dumps(policy).encode()


def conditions():
    """Every expression of those policies, on one line, with a context."""
    context = json.loads((HERE / "context.json").read_bytes())
    for document in documents():
        try:
            policy = json.loads(document)
        except ValueError:
            continue
        for expression in expressions(policy):
            yield f"{json.dumps(expression)}\n{json.dumps(context)}".encode()


def expressions(value):
    """What stands where a condition may stand."""
    if isinstance(value, list):
        for item in value:
            yield from expressions(item)
    if isinstance(value, dict):
        for name, member in value.items():
            if name in ("when", "targeting"):
                yield member
            elif name in ("cohorts", "$evaluators") and isinstance(member, dict):
                yield from member.values()
            else:
                yield from expressions(member)


def requests():
    """The requests of the cases."""
    for path in ROOT.glob("tests/cases/*.json"):
        for case in json.loads(path.read_bytes())["cases"]:
            request = case["request"]
            head = [(":method", request["method"]), (":path", request["path"]), *request["headers"]]
            yield "".join(f"{name}: {value}\n" for name, value in head).encode()


def patterns():
    """What stands in policies as a pattern, with itself as a text."""
    for document in documents():
        for pattern in re.findall(rb'"value": *"((?:[^"\\\\]|\\\\.)*)"', document):
            try:
                text = json.loads(b'"%s"' % pattern).encode()
            except (ValueError, UnicodeEncodeError):
                continue
            yield text + b"\n" + text


GATHERED = {
    "documents": documents,
    "conditions": conditions,
    "patterns": patterns,
    "headers": requests,
    "edits": documents,
}


def gather(target, folder):
    """Writes the gathered inputs of a target that are short enough."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    inputs = dict.fromkeys(GATHERED.get(target, lambda: ())())
    for i, text in enumerate(it for it in inputs if len(it) <= TARGETS[target]):
        (folder / f"{i:04}").write_bytes(text)


def run(target, binaries, work, seconds):
    """Runs a target; gives its line of the table, and whether nothing ended it."""
    corpus, gathered, found = (work / name / target for name in ("corpus", "gathered", "found"))
    gather(target, gathered)
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    dictionary = HERE / "dictionaries" / f"{target}.txt"
    command = [
        binaries / target,
        corpus,
        gathered,
        *filter(pathlib.Path.is_dir, [HERE / "seeds" / target]),
        *([f"-dict={dictionary}"] if dictionary.exists() else []),
        f"-max_total_time={seconds}",
        f"-max_len={TARGETS[target]}",
        f"-timeout={TIMEOUT_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    last, slowest_us, stats = collections.deque(maxlen=60), 0, {}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        for line in process.stderr:
            line = line.decode(errors="replace")
            last.append(line)
            if it := re.match(r"slowest: (\d+) us", line):
                slowest_us = int(it[1])
            elif it := re.match(r"stat::(\w+):\s+(\d+)", line):
                stats[it[1]] = int(it[2])
    if process.returncode:
        print(f"{target} was ended, by an input in {found}:\n\n{''.join(last)}")
    figures = [stats.get(name, 0) for name in ("number_of_executed_units", "average_exec_per_sec")]
    figures += [len(list(corpus.iterdir())), round(slowest_us / 1_000), stats.get("peak_rss_mb", 0)]
    return f"{target:<16}{''.join(f'{it:>12,}' for it in figures)}", process.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}: expected {', '.join(TARGETS)}")
    heads = ("executions", "a second", "corpus", "slowest ms", "peak MB")
    print(f"{'target':<16}{''.join(f'{it:>12}' for it in heads)}", flush=True)
    are_good = []
    for target in asked.targets or TARGETS:
        line, is_good = run(target, asked.binaries, asked.work, asked.seconds)
        are_good.append(is_good)
        print(f"{line}{'' if is_good else '  failed'}", flush=True)
    return int(not all(are_good))


if __name__ == "__main__":
    sys.exit(main())
