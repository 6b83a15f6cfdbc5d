"""Shows how often Headstart's verdicts are wrong: in simulated studies, and in real runs that differ by chance alone.

    make calibrate                  all tables of docs/statistics.md (half an hour on two cores)
    make calibrate ARGS=--quick     a few rows of them (a minute)

Writes results/calibration.json, a list of rows. Each has the kind of study (seeds, starts, targets, speakers,
variances) and how often it is wrong: `false_verdict_rate` at a nominal 5 %, `coverage` of the 95 % intervals, and
`percentile_false_verdict_rate`, that of percentile bootstrap intervals. Simulated rows also have the relative change
that the plan of such a study says it `resolves`, and its `power` at that change.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from pathlib import Path

# One process for each core, each with one thread; set before NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import real
from simulated import Setting, calibrate, power, resolved

from headstart.files import write_json

SHAPES = [(2, 1), (5, 1), (15, 1), (2, 3), (5, 2), (3, 18)]  # starts, targets
KINDS = [(40, "equal"), (40, "unequal"), (6, "unequal")]  # test speakers, variances
SETTINGS = [
    Setting(seeds, starts, targets, speakers, variances)
    for seeds in (2, 3, 5, 10)
    for starts, targets in SHAPES
    for speakers, variances in KINDS
]
QUICK = [s for s in SETTINGS if (s.starts, s.targets) in ((2, 1), (5, 2)) and s.speakers == 40 and s.seeds < 10]
COMPARISONS = {False: 8_000, True: 1_000}
STUDIES = {False: 1_000, True: 100}  # of the power


def row(job: tuple[Setting, bool]) -> dict:
    setting, quick = job
    change = resolved(setting)
    planned = {"resolves": change, "power": power(setting, change, STUDIES[quick])}
    return {**calibrate(setting, COMPARISONS[quick]), **planned}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows, with fewer studies each")
    parser.add_argument("--output", type=Path, default=Path("results/calibration.json"), help="file to write")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="processes side by side")
    parser.add_argument("--counts", type=Path, metavar="RESULTS", help="first keep the counts of the study's runs here")
    options = parser.parse_args()
    if options.counts:
        real.keep_counts(options.counts, real.COUNTS)
    settings = QUICK if options.quick else SETTINGS
    rows = []
    print("seeds starts targets speakers variances   false  percentile  coverage  resolves  power")
    with multiprocessing.Pool(options.processes) as pool:
        for number, one in enumerate(pool.imap(row, [(setting, options.quick) for setting in settings]), 1):
            rows.append(one)
            print(
                f"{one['seeds']:5d} {one['starts']:6d} {one['targets']:7d} {one['speakers']:8d} {one['variances']:9s} "
                f"{one['false_verdict_rate']:7.3f} {one['percentile_false_verdict_rate']:11.3f} {one['coverage']:9.3f} "
                f"{one['resolves']:9.3f} {one['power']:6.2f}   {number} of {len(settings)}",
                flush=True,
            )
    for one in real.rows(options.quick):
        rows.append(one)
        print(
            f"real runs of {one['start']} by {one['metric']}, {one['seeds']} seeds, {one['starts']} sets: "
            f"false {one['false_verdict_rate']:.3f}, percentile {one['percentile_false_verdict_rate']:.3f}, "
            f"coverage {one['coverage']:.3f}",
            flush=True,
        )
    write_json(options.output, rows)
    print(f"{options.output}: {len(rows)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
