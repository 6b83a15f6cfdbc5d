"""Real runs that differ in nothing but their seed: how often are they declared different, and is the truth covered?

The runs are those of config/studies/calibration.yaml on the default study's code-switched target: forty seeds of random
weights (`scratch`) and of one checkpoint (`mono`), and twenty more of that checkpoint under another name
(`mono-again`), which share the label budgets of the first twenty.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from percentile import false_verdict

from headstart.score.metrics import CURVE_METRICS
from headstart.summarise.contrasts import verdicts_of
from headstart.summarise.design import Cell, Design
from headstart.summarise.tables import read_counts

COUNTS = Path(__file__).resolve().parent.parent / "tests" / "data" / "calibration"
SPLITS, HALVES = 2000, 60


def keep_counts(results: Path, folder: Path) -> None:
    """Keep the error counts of the calibration study's runs as two small tables: its runs and its utterances."""
    rows, first = [], None
    for path in sorted((results / "calibration" / "scores").glob("*/en-es/3min/seed*.parquet")):
        counts = read_counts(path)
        first = first or counts
        errors = {f"{metric}_errors": counts.errors[metric].astype(np.int16).tolist() for metric in CURVE_METRICS}
        rows.append({"start": path.parents[2].name, "seed": int(path.stem.removeprefix("seed")), **errors})
    folder.mkdir(parents=True, exist_ok=True)
    rows.sort(key=lambda row: (row["start"], row["seed"]))
    lists = {f"{metric}_errors": pa.list_(pa.int16()) for metric in CURVE_METRICS}
    schema = pa.schema({"start": pa.string(), "seed": pa.int64(), **lists})
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / "runs.parquet", compression="zstd")
    columns = {f"{metric}_tokens": pa.array(first.reference[metric].astype(np.int16)) for metric in CURVE_METRICS}
    speakers = pa.array(first.speakers).dictionary_encode()
    pq.write_table(pa.table({"speaker": speakers, **columns}), folder / "utterances.parquet", compression="zstd")


class Runs:
    """The kept counts by one metric."""

    def __init__(self, metric: str, folder: Path = COUNTS):
        utterances = pq.read_table(folder / "utterances.parquet")
        self.reference = utterances[f"{metric}_tokens"].to_numpy()
        self.blocks = np.unique(utterances["speaker"].to_pylist(), return_inverse=True)[1]
        self.errors: dict[str, np.ndarray] = {}  # start -> [seeds, utterances]
        for row in pq.read_table(folder / "runs.parquet").to_pylist():
            self.errors.setdefault(row["start"], []).append(row[f"{metric}_errors"])
        self.errors = {start: np.array(errors) for start, errors in self.errors.items()}

    def design(self, errors: np.ndarray) -> Design:
        """A study of one target from counts `[starts, seeds, utterances]`."""
        names = [f"s{i}" for i in range(len(errors))]
        return Design({("", ""): Cell.of_counts("", names, errors, self.reference, self.blocks)})

    def split(self, among: np.ndarray, seeds: int, starts: int, rng: np.random.Generator) -> tuple[bool, np.ndarray]:
        """Whether two sets of runs are declared different, and the errors of both.

        `starts` sets are drawn from the runs `among` `[runs, utterances]`, as if each were another start; the first two
        are compared.
        """
        drawn = rng.permutation(len(among))[: seeds * starts].reshape(starts, seeds)
        estimate = self.design(among[drawn]).difference({("", ""): {"s1": 1.0, "s0": -1.0}})
        return estimate.p < 0.05, among[drawn[:2]]

    def false_verdicts(self, start: str, seeds: int, starts: int, splits: int, halves: int) -> dict:
        """The rate of false verdicts over random splits, with its standard error by the delete-half jackknife."""
        rng = np.random.default_rng([3, seeds, starts, len(start)])
        runs = self.errors[start]
        verdicts, percentile = [], []
        for _ in range(splits):
            verdict, errors = self.split(runs, seeds, starts, rng)
            verdicts.append(verdict)
            percentile.append(false_verdict(errors, rng, 200))
        rate = np.mean(verdicts)
        of_halves = []
        if seeds * starts <= len(runs) // 2:
            for _ in range(halves):
                half = runs[rng.permutation(len(runs))[: len(runs) // 2]]
                of_halves.append(np.mean([self.split(half, seeds, starts, rng)[0] for _ in range(splits // 40)]))
        error = float(np.sqrt(np.mean((np.array(of_halves) - rate) ** 2))) if of_halves else None
        return {
            "false_verdict_rate": float(rate),
            "false_verdict_error": error,
            "percentile_false_verdict_rate": float(np.mean(percentile)),
        }

    def coverage(self, seeds: int, splits: int) -> float:
        """How often the interval of mono against scratch contains the difference over all seeds."""
        rng = np.random.default_rng([4, seeds])
        both = np.stack([self.errors["scratch"], self.errors["mono"]])
        weights = {("", ""): {"s1": 1.0, "s0": -1.0}}
        truth = self.design(both).difference(weights).value
        covered = []
        for _ in range(splits):
            drawn = rng.permutation(both.shape[1])[:seeds]
            estimate = self.design(both[:, drawn]).difference(weights)
            covered.append(0.025 <= estimate.below(truth) <= 0.975)
        return float(np.mean(covered))

    def equal_studies(self, seeds: int) -> list[str]:
        """The verdicts on one checkpoint under two names in studies of their own seeds, beside random weights."""
        verdicts = []
        studies = len(self.errors["mono-again"]) // seeds
        for number in range(studies):
            own = slice(number * seeds, (number + 1) * seeds)
            errors = np.stack([self.errors[start][own] for start in ("scratch", "mono", "mono-again")])
            design = self.design(errors)
            pairs = (("s1", "s0"), ("s2", "s0"), ("s2", "s1"))
            estimates = [design.difference({("", ""): {one: 1.0, other: -1.0}}) for one, other in pairs]
            rows = verdicts_of(estimates, confidence=0.95, smallest_effect=0.03, seeds=seeds)
            verdicts.append(rows[2]["verdict"])
        return verdicts


def rows(quick: bool = False) -> list[dict]:
    """A row for each metric, start, number of seeds and number of sets."""
    splits, halves = (300, 0) if quick else (SPLITS, HALVES)
    table = []
    for metric in CURVE_METRICS:
        runs = Runs(metric)
        coverage = {seeds: runs.coverage(seeds, splits) for seeds in (2, 3, 5)}
        for start in ("scratch", "mono"):
            for seeds in (2, 3, 5):
                for starts in (2, 4):
                    table.append(
                        {"kind": "real", "metric": metric, "start": start, "seeds": seeds, "starts": starts}
                        | {"targets": 1, "speakers": int(runs.blocks.max()) + 1, "variances": "real"}
                        | {**runs.false_verdicts(start, seeds, starts, splits, halves), "coverage": coverage[seeds]}
                    )
    return table
