"""Measure our speed beside that of others, on the same data and machine, and write a table and a JSON file.

Rows come from `training.py`, `scoring.py` and `matmul.py`, and from `decoding.py`, `features.py`, `memory.py` and
`muon.py`: each of these has a function `rows(seconds, threads)` that returns rows with at least the keys `KEYS`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matmul
import scoring
import training
from child import call

from headstart.files import write_json

KEYS = ("name", "ours", "peer", "ratio", "unit", "peer_name")
OTHERS = ["decoding", "features", "memory", "muon"]
TASKS = [f"{stage}-{size}" for size in training.SIZES for stage in training.STAGES]
DEFAULT = ["peak", *(task for task in TASKS if not task.endswith("-tiny")), "scoring", *OTHERS]


def measure(arguments: argparse.Namespace, peak: dict[str, float], folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of what was asked for. What fails is reported, counted in `arguments.failed`, and left out."""
    seconds, rounds, threads = arguments.seconds, arguments.rounds, arguments.threads
    for name in arguments.only:
        try:
            if name == "peak":
                if set(peak) == set(matmul.TYPES):
                    yield matmul.row(peak)
            elif name == "scoring":
                yield from scoring.rows(seconds, rounds, threads)
            elif name in TASKS:
                yield from training.rows(name, seconds, rounds, threads, peak, folder)
            else:
                yield from importlib.import_module(name).rows(seconds, threads)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            arguments.failed.append(name)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [("name", "ours", "peer", "ratio", "unit", "of peak: ours", "peer", "memory MB: ours", "peer", "peer is")]
    extra = ("fraction_of_peak", "peer_fraction_of_peak", "ours_memory_mb", "peer_memory_mb")
    for row in rows:
        shown = ["" if row.get(key) is None else f"{row[key]:.3g}" for key in extra[:2]]
        shown += ["" if row.get(key) is None else f"{row[key]:.0f}" for key in extra[2:]]
        numbers = (f"{row['ours']:.4g}", f"{row['peer']:.4g}", f"{row['ratio']:.2f}")
        lines.append((row["name"], *numbers, row["unit"], *shown, row["peer_name"]))
    lines.insert(1, ("---",) * len(lines[0]))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    cells = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def parse(command: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=["peak", *TASKS, "scoring", *OTHERS], default=DEFAULT,
        help="what to measure, of %(choices)s; by default all but the tiny models, which are for tests",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=6.0, help="least time of a measurement, after its warm-up (default: 6)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each, of which the median (default: 3)")
    parser.add_argument("--threads", type=int, default=cores(), help="CPU threads (default: all, %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/benchmarks.json"), help="default: %(default)s")
    return parser.parse_args(command)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def main() -> int:
    arguments = parse()
    arguments.failed = []
    began = time.monotonic()
    found = call("matmul", "measure", arguments.threads, seconds=arguments.seconds)
    facts = {
        "machine": found["machine"],
        "versions": {name: version(name) for name in ("torch", "transformers", "jiwer", "numpy")},
    }
    if missing := [name for name in matmul.TYPES if name not in found["peak"]]:
        skipped = f"skipped: rows in {' and '.join(missing)}, which this machine has no instructions for"
        print(skipped, file=sys.stderr, flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(arguments, found["peak"], Path(folder)):
            rows.append({key: row[key] for key in KEYS} | row | facts)
            write_json(arguments.output, rows)  # after each row: what was measured stays when the run is cut off
    print(f"{found['machine']}; {arguments.rounds} rounds, medians; {time.monotonic() - began:.0f} s in all\n")
    print(table(rows))
    if missing:
        print(f"\n{skipped}")
    print(f"\nRows: {arguments.output}")
    if arguments.failed:
        print(f"failed: {', '.join(arguments.failed)}", file=sys.stderr)
    return bool(arguments.failed)


if __name__ == "__main__":
    sys.exit(main())
