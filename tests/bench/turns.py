"""What the longest step of loading costs, for the worst documents: `make bench-turns`.

Each document is loaded in a process of its own, natively and as wasm: a VM's memory never shrinks. What the figures are is in
`tests/bench/turns/main.rs`. Those of wasm are of CPU time, so that other programs may run beside.

    python tests/bench/turns.py NATIVE WASM --out tests/bench
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
    _, size, steps, step_ms, sum_ms, free_ms, free_sum_ms, mib, outcome = line.split("|", 8)
    return {
        "MiB": int(size) / 2**20,
        "steps": int(steps),
        "step": float(step_ms),
        "sum": float(sum_ms),
        "free": float(free_ms),
        "free sum": float(free_sum_ms),
        "grown": float(mib),
        "outcome": "taken" if outcome == "taken" else "refused",
    }


def main():
    """Measures, prints the table, and writes it."""
    parser = argparse.ArgumentParser(description="Measure the longest step of loading.")
    parser.add_argument("native", type=Path)
    parser.add_argument("wasm", type=Path)
    parser.add_argument("--out", type=Path, help="the folder of turns.md")
    asked = parser.parse_args()
    wasm = ["node", "--no-warnings", str(TOP / "tests/wasi.mjs"), str(asked.wasm)]
    lines = [
        "| document | MiB | | steps | longest in wasm, ms | all, ms | natively, ms | all, ms | longest of freeing, ms | memory, MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    over = []
    for name in run([str(asked.native)], "--list"):
        native, in_wasm = figures([str(asked.native)], name), figures(wasm, name)
        lines.append(
            f"| {name} | {in_wasm['MiB']:.1f} | {in_wasm['outcome']} | {in_wasm['steps']} | {in_wasm['step']:.1f}"
            f" | {in_wasm['sum']:.0f} | {native['step']:.1f} | {native['sum']:.0f} | {in_wasm['free']:.1f}"
            f" | {in_wasm['grown']:.0f} |"
        )
        print(lines[-1], flush=True)
        if max(in_wasm["step"], in_wasm["free"]) > MOST_STEP_MS or in_wasm["grown"] > MOST_MIB:
            over.append(name)
    if asked.out:
        (asked.out / "turns.md").write_text("\n".join(lines) + "\n")
    print(f"over {MOST_STEP_MS} ms a step, or {MOST_MIB} MiB: {', '.join(over) or 'none'}")


if __name__ == "__main__":
    main()
