"""Whether probes of frozen starts foretell which start will be best after fine-tuning, and what they save.

The candidates are the pre-trained starts. What a probe says of a start is the lowest error rate of its layers; what
fine-tuning says of it is its error rate on the test set, the geometric mean over seeds. docs/transfer.md has the
definitions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from headstart.corpora.manifests import read_columns
from headstart.errors import HeadstartError
from headstart.files import read_sealed
from headstart.study.starts import ScratchStart
from headstart.study.study import Study
from headstart.summarise.design import Design
from headstart.summarise.rank_agreement import rank_agreement
from headstart.summarise.tables import Row, probe_path, run_folder

FEWEST = 4  # starts, for a correlation of ranks
Array = NDArray[np.float64]


def probe_section(study: Study, results: Path, design: Design) -> Row:
    """What probes say, and how it agrees with fine-tuning.

    Args:
        design: the runs by the study's metric.

    Keys of the result:

    - `cells`: `start`, `target`, `budget`; `layer`, the best, and its `cer`; `layers`, the CER of each layer; `seconds`
      that the probe took; and `error`, the error rate after fine-tuning (None if the metric does not apply).
    - `agreement`: for each budget, the row of `rank_agreement` with `budget`, or `reason` where there is none.
    - `picks`: for each target and budget, the start `picked` by the probe and its `error`, the `best` start and its
      `best_error`, and the relative difference of the two, `regret`.
    - `rules`: for each budget and each way to pick a start, the `regret`, the mean over targets, with its interval, and
      on how many of `targets` it picks the best start (`hits`). The ways are `probe`; `elsewhere`, the start with the
      lowest mean error rate on the other targets; and `chance`.
    - `times`: for each budget, the seconds of all fine-tuning and of all probes, and `saved`: those of fine-tuning all
      starts but the picked one, less those of the probes.

    Raises:
        HeadstartError: a table of probes does not exist.
    """
    cells = [_cell(study, results, design, *cell) for cell in _all(study)]
    agreement, picks, rules, times = [], [], [], []
    candidates = [name for name, start in study.starts.items() if not isinstance(start, ScratchStart)]
    for budget in study.budgets:
        targets = [target for target in study.targets if (target, budget) in design.cells]
        by_place = {(c["start"], c["target"]): c for c in cells if c["budget"] == budget}
        probes, errors = (
            np.array([by_place[start, target][key] for start in candidates for target in targets], np.float64).reshape(
                len(candidates), len(targets)
            )
            for key in ("cer", "error")
        )
        agreement.append({"budget": budget, **_agreement(probes, errors, study.report.confidence)})
        if len(candidates) < 2 or not targets:
            continue
        chosen = [
            _pick(target, candidates, *columns) for target, *columns in zip(targets, probes.T, errors.T, strict=True)
        ]
        picks += [{"budget": budget, **row} for row in chosen]
        rules += [{"budget": budget, **row} for row in _rules(probes, errors, study.report.confidence)]
        times.append({"budget": budget, **_times(study, results, by_place, candidates, chosen)})
    return {"cells": cells, "agreement": agreement, "picks": picks, "rules": rules, "times": times}


def _all(study: Study) -> list[tuple[str, str, str]]:
    return [(s, t, b) for s in study.starts for t in study.targets for b in study.budgets]


def _cell(study: Study, results: Path, design: Design, start: str, target: str, budget: str) -> Row:
    path = probe_path(results, study.study, start, target, budget)
    if not path.is_file():
        raise HeadstartError(f"{path}: no probe; run the probes of this start first")
    rows = read_columns(path, None).to_pylist()
    layers = range(1 + max(row["layer"] for row in rows))
    means = [float(np.mean([row["cer"] for row in rows if row["layer"] == layer])) for layer in layers]
    best = int(np.argmin(means))
    known = (target, budget) in design.cells
    return {
        **{"start": start, "target": target, "budget": budget},
        **{"layer": best, "cer": means[best], "layers": means},
        "seconds": sum({row["seed"]: row["seconds"] for row in rows}.values()),
        "error": float(np.exp(design.mean(target, budget, start))) if known else None,
    }


def _agreement(probes: Array, errors: Array, confidence: float) -> Row:
    starts, targets = probes.shape
    row: Row = {"starts": starts, "targets": targets, "reason": None}
    row |= dict.fromkeys(("estimate", "low", "high", "p"))
    if starts < FEWEST or not targets:
        return row | {"reason": f"{starts} pre-trained starts are too few to rank" if targets else "nothing is scored"}
    return row | rank_agreement(probes, errors, confidence)


def _pick(target: str, starts: list[str], probes: Array, errors: Array) -> Row:
    picked, best = int(np.argmin(probes)), int(np.argmin(errors))
    return {
        **{"target": target, "picked": starts[picked], "error": float(errors[picked])},
        **{"best": starts[best], "best_error": float(errors[best])},
        "regret": float(errors[picked] / errors[best] - 1),
    }


def _rules(probes: Array, errors: Array, confidence: float) -> list[Row]:
    """The rows of all ways to pick a start; `probes` and `errors` are `[starts, targets]`."""
    logs = np.log(errors)
    excess = logs - logs.min(0)
    starts, targets = errors.shape
    found = {"probe": np.argmin(probes, axis=0)}
    if targets > 1:
        others = logs.sum(1, keepdims=True) - logs
        found["elsewhere"] = np.argmin(others, axis=0)
    rows = []
    for rule, picked in found.items():
        regrets = excess[picked, np.arange(targets)]
        rows.append({"rule": rule, **_mean(regrets, confidence), "hits": int((regrets == 0).sum())})
    rows.append({"rule": "chance", **_mean(excess.mean(0), confidence), "hits": targets / starts})
    return [{**row, "targets": targets} for row in rows]


def _mean(regrets: Array, confidence: float) -> Row:
    """The mean of log regrets as a relative difference, with a t interval over targets where there are several."""
    mean, count = float(regrets.mean()), len(regrets)
    row = {"regret": float(np.expm1(mean)), "low": None, "high": None}
    if count > 1:
        half = float(stdtrit(count - 1, (1 + confidence) / 2) * regrets.std(ddof=1) / np.sqrt(count))
        row |= {"low": float(np.expm1(max(0.0, mean - half))), "high": float(np.expm1(mean + half))}
    return row


def _times(study: Study, results: Path, by_place: dict, candidates: list[str], picks: list[Row]) -> Row:
    """Seconds of fine-tuning and of probes, and what is saved; None where a recipe does not tell."""
    budget = next(iter(by_place.values()))["budget"]
    total, picked, probing = 0.0, 0.0, 0.0
    for pick in picks:
        for start in candidates:
            probing += by_place[start, pick["target"]]["seconds"]
            for seed in study.seeds:
                path = run_folder(results, study.study, (start, pick["target"], budget, seed)) / "recipe.json"
                seconds = read_sealed(path).get("wall_s") if path.is_file() else None
                if seconds is None:
                    return {"fine_tuning": None, "probing": probing, "saved": None}
                total += seconds
                picked += seconds if start == pick["picked"] else 0.0
    return {"fine_tuning": total, "probing": probing, "saved": total - picked - probing}
