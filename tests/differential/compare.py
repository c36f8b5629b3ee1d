"""Compares mulkko with flagd's own evaluators, over generated pairs of a flag definition and a context.

    python tests/differential/compare.py --count 10000 --seed 1 -- COMMAND...

COMMAND evaluates as mulkko does: it reads cases, one a line (see `generate.py`), and prints an answer to each, one a
line: `{id, value?, variant?, reason, errorCode?}`. flagd's evaluators are in `reference.mjs` and `reference.py`.

A difference has a reason if the evaluator answers as mulkko does once it follows some rules. A rule is one known
difference: the function that does it, replaced in the evaluator itself. So a reason explains what it is about and
nothing else; a wrong answer of mulkko's remains one, however odd the case. The reasons of a difference are the rules
without any of which it would be there again. Differences that remain are printed, and the exit code is 1.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import generate

HERE = Path(__file__).resolve().parent
# Name, version of `fractional`, command.
EVALUATORS = [
    ("JavaScript", "v2", [HERE.parent.parent / ".venv/bin/node", HERE / "reference.mjs"]),
    ("Python", "v3", [sys.executable, HERE / "reference.py"]),
]
MEMBERS = ("value", "variant", "reason", "errorCode")
MOST_PRINTED = 20


def main():
    """Compares with each evaluator."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", type=Path, metavar="FILE", help="where to write every difference, one a line")
    parser.add_argument("command", nargs="+", help="what evaluates as mulkko does")
    arguments = parser.parse_args()
    cases = list(generate.cases(arguments.count, arguments.seed))
    lines, unexplained = [], 0
    for name, version, command in EVALUATORS:
        differences = compare(arguments.command, version, command, cases)
        print(f"{name}, fractional {version}: {len(cases)} compared, {len(differences)} different")
        unexplained += report(differences, rules_of(command))
        lines += [json.dumps({"evaluator": name, **difference}) + "\n" for difference in differences]
    if arguments.list:
        arguments.list.write_text("".join(lines))
    sys.exit(unexplained > 0)


def compare(mulkko, version, command, cases):
    """The differences between mulkko and an evaluator, with the case, both answers, and the reasons or None."""
    own = answers(mulkko, [{**case, "document": {**case["document"], "fractional": version}} for case in cases])
    other = answers(command, cases)
    different = [case for case in cases if own.get(case["id"]) != other[case["id"]]]
    reasons = explain(command, different, own)
    return [
        {"case": case, "mulkko": own.get(case["id"]), "evaluator's": other[case["id"]], "reasons": reasons[case["id"]]}
        for case in different
    ]


def explain(command, cases, own):
    """By id, the rules that an evaluator must follow to answer as mulkko does; None where all of them do not help."""
    rules = list(rules_of(command))
    found = answers(command, [{**case, "rules": rules} for case in cases])
    needed = {case["id"]: rules if found[case["id"]] == own.get(case["id"]) else None for case in cases}
    for rule in rules:
        asked = [case for case in cases if needed[case["id"]]]
        fewer = {case["id"]: [name for name in needed[case["id"]] if name != rule] for case in asked}
        found = answers(command, [{**case, "rules": fewer[case["id"]]} for case in asked])
        needed.update({key: rules for key, rules in fewer.items() if found[key] == own[key]})
    return needed


def report(differences, rules):
    """Prints how many differences have each reason, and the first of those that have none; gives how many have none."""
    counts = Counter(reason for difference in differences for reason in difference["reasons"] or [])
    for name, reason in rules.items():
        print(f"{counts[name]:6} {name}: {reason}")
    unexplained = [difference for difference in differences if difference["reasons"] is None]
    print(f"{len(unexplained):6} without a reason\n")
    for difference in unexplained[:MOST_PRINTED]:
        print(json.dumps(difference, indent=1, ensure_ascii=False), end="\n\n")
    return len(unexplained)


def answers(command, cases):
    """By id, what a command answers, as JSON in which equal numbers are written alike."""
    if not cases:
        return {}
    lines = run(command, "".join(json.dumps(case) + "\n" for case in cases)).splitlines()
    found = [json.loads(line, parse_float=number) for line in lines]
    return {
        answer["id"]: json.dumps({name: answer[name] for name in MEMBERS if name in answer}, sort_keys=True)
        for answer in found
    }


def rules_of(command):
    """The rules that an evaluator can follow, with their reasons."""
    return json.loads(run([*command, "--rules"], ""))


def run(command, text):
    """What a command prints that is given `text`."""
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True, encoding="utf-8").stdout


def number(text):
    """A JSON number that has a point or an exponent; an integer if it is one all the same."""
    value = float(text)
    return int(value) if value.is_integer() else value


if __name__ == "__main__":
    main()
