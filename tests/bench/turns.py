"""What the longest step of loading costs, for the worst documents: `make bench-turns`.

Each document is loaded as wasm, in a process of its own: a VM's memory never shrinks. What the figures are is in
`tests/bench/turns/main.rs`. They are of CPU time, so that other programs may run beside. Natively, on a machine that does
nothing else, `cargo bench --no-default-features --bench turns` prints the same.

    python tests/bench/turns.py --out tests/bench WASM
"""

import argparse
import os
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
# A turn ends with the step in which its 5 ms are over, and must be over in 10.
MOST_STEP_MS = 5
MOST_MIB = 128


def run(command, *arguments):
    """What the program prints."""
    environment = {**os.environ, "MULKKO_CPU_TIME": "1"}
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True, cwd=TOP, env=environment)
    return done.stdout.splitlines()


def figures(command, name):
    """What is measured of one document, by the names of the table's columns."""
    (line,) = run(command, name)
    _, size, steps, step_ms, sum_ms, free_ms, _, mib, outcome = line.split("|", 8)
    return {
        "MiB": int(size) / 2**20,
        "steps": int(steps),
        "step": float(step_ms),
        "sum": float(sum_ms),
        "free": float(free_ms),
        "grown": float(mib),
        "outcome": "taken" if outcome == "taken" else "refused",
    }


def main():
    """Measures, prints the table, and writes it."""
    parser = argparse.ArgumentParser(description="Measure the longest step of loading.")
    parser.add_argument("wasm", type=Path)
    parser.add_argument("--out", type=Path, help="the folder of turns.md")
    # cargo, which runs this, says `--bench`.
    parser.add_argument("--bench", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    wasm = [str(TOP / ".venv/bin/node"), "--no-warnings", str(TOP / "tests/wasi.mjs"), str(asked.wasm)]
    lines = [
        "| document | MiB | | steps | longest, ms | all, ms | longest of freeing, ms | memory, MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    over = []
    for name in run(wasm, "--list"):
        found = figures(wasm, name)
        lines.append(
            f"| {name} | {found['MiB']:.1f} | {found['outcome']} | {found['steps']} | {found['step']:.1f}"
            f" | {found['sum']:.0f} | {found['free']:.1f} | {found['grown']:.0f} |"
        )
        print(lines[-1], flush=True)
        if max(found["step"], found["free"]) > MOST_STEP_MS or found["grown"] > MOST_MIB:
            over.append(name)
    if asked.out:
        (asked.out / "turns.md").write_text("\n".join(lines) + "\n")
    print(f"over {MOST_STEP_MS} ms a step, or {MOST_MIB} MiB: {', '.join(over) or 'none'}")


if __name__ == "__main__":
    main()
