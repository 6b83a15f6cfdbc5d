"""Claims: statements of the study file, each with a verdict and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from headstart.study.claims import Claim
from headstart.study.starts import ScratchStart
from headstart.study.study import Study
from headstart.summarise.contrasts import changes, verdicts_of
from headstart.summarise.design import Design, Weights
from headstart.summarise.estimates import Estimate
from headstart.summarise.power import Needs, needs
from headstart.summarise.tables import Row
from headstart.summarise.training_time import STARTS

ClaimVerdict = Literal["supported", "contradicted", "equal", "inconclusive", "not tested"]


def claim_rows(study: Study, designs: Mapping[str, Design], stages: list[Row]) -> list[Row]:
    """A row for each claim of the study, in its order.

    Args:
        designs: the runs by each metric: error rates, and `updates`, `gap` and `seconds` where there are any.
        stages: training times of starts, the `stages` of the summary.

    Each row repeats the claim (`statement`, `source`, `metric`, `treatment`, `baseline`, `targets`, `budgets`,
    `expect`, `size`, `smallest_effect`) and adds `estimate`, `low` and `high` (a relative change), `p`, `p_adjusted`
    (Holm, over all claims that are tested) and `p_equal`, `degrees_of_freedom`, `runs` (those that it rests on),
    `verdict`, `reason` (why it is not tested) and `needs` (what would decide it, where it is inconclusive). `scope` is
    what the verdict is about: the `method`, if every start was trained for each seed, and otherwise the `checkpoint`.

    A claim is `supported` if the change is clear and in the direction that is expected, and `contradicted` if it is
    clear and in the other one. It is `equal` if the change is surely smaller than the smallest effect that matters;
    where that is what is expected, it is `supported`. Everything else is `inconclusive`.
    """
    rows: list[Row] = []
    tested: list[tuple[int, Estimate, Weights, Design]] = []
    for claim in study.claims:
        metric = claim.metric or study.report.metric
        targets, budgets = cells_of(study, claim)
        cells = cells_compared(study, claim)
        row: Row = {
            "statement": claim.claim,
            "source": claim.source,
            "metric": metric,
            "treatment": claim.treatment,
            "baseline": claim.baseline,
            "targets": targets,
            "budgets": budgets,
            "expect": claim.expect,
            "size": claim.size,
            "smallest_effect": smallest_effect_of(study, claim),
            "scope": "method" if _trained_for_each_seed(study, claim) else "checkpoint",
            **dict.fromkeys(("estimate", "low", "high", "p", "p_adjusted", "p_equal", "degrees_of_freedom")),
            **{"runs": [], "verdict": "not tested", "reason": None, "needs": None},
        }
        rows.append(row)
        if metric == "time":
            row |= _time(claim, stages)
            continue
        row["reason"] = _obstacle(study, claim, targets, designs.get(metric))
        if row["reason"] is None:
            design = designs[metric]
            weights = weights_of(claim, *cells)
            if incomplete := _incomplete(design, weights):
                row["reason"] = incomplete
                continue
            estimate = design.difference(weights)
            row["runs"] = [
                f"starts/{start}/seed{seed}" if cell == STARTS else f"{start}/{'/'.join(cell)}/seed{seed}"
                for cell, starts in weights.items()
                for start in starts
                for seed in study.seeds
            ]
            tested.append((len(rows) - 1, estimate, weights, design))
    verdicts = verdicts_of(
        [estimate for _, estimate, _, _ in tested],
        confidence=study.report.confidence,
        smallest_effect=[rows[i]["smallest_effect"] for i, *_ in tested],
        seeds=len(study.seeds),
    )
    for (i, estimate, weights, design), judged in zip(tested, verdicts, strict=True):
        row, change = rows[i], changes(estimate, study.report.confidence)
        row |= dict(zip(("estimate", "low", "high"), change.values(), strict=True))
        row |= {**judged, "verdict": _verdict(row["expect"], judged["verdict"])}
        if row["verdict"] == "inconclusive" and not estimate.exact:
            wanted: Needs = needs(design, weights, row["smallest_effect"], study.report.confidence, len(tested))
            row["needs"] = {"seeds": wanted.seeds, "test_set": wanted.test_set}
    return rows


def cells_of(study: Study, claim: Claim) -> tuple[list[str], list[str]]:
    """The targets and the budgets that a claim is about."""
    targets = [
        name
        for name, target in study.targets.items()
        if (claim.targets is None or name in claim.targets) and (claim.kinds is None or target.kind in claim.kinds)
    ]
    return targets, [budget for budget in study.budgets if claim.budgets is None or budget in claim.budgets]


def cells_compared(study: Study, claim: Claim) -> tuple[list[str], list[str]]:
    """The targets and the budgets of the design's cells that a claim compares; for training times, its only one."""
    return ([STARTS[0]], [STARTS[1]]) if claim.metric == "seconds" else cells_of(study, claim)


def smallest_effect_of(study: Study, claim: Claim) -> float:
    """The smallest relative change that matters to a claim."""
    if claim.smallest_effect is not None:
        return claim.smallest_effect
    return (study.convergence if claim.metric == "updates" else study.report).smallest_effect


def _trained_for_each_seed(study: Study, claim: Claim) -> bool:
    return all(
        study.per_seed(start) or isinstance(study.starts[start], ScratchStart)
        for start in (*claim.treatment, *claim.baseline)
    )


def weights_of(claim: Claim, targets: list[str], budgets: list[str]) -> Weights:
    """The mean of a claim's comparisons over its targets and budgets, as weights of runs."""
    pairs = claim.comparisons()
    share = 1 / (len(pairs) * len(targets) * len(budgets))
    weights: dict[tuple[str, str], dict[str, float]] = {}
    for target in targets:
        for budget in budgets:
            row = weights.setdefault((target, budget), {})
            for treatment, baseline in pairs:
                row[treatment] = row.get(treatment, 0.0) + share
                row[baseline] = row.get(baseline, 0.0) - share
    return weights


def _obstacle(study: Study, claim: Claim, targets: list[str], design: Design | None) -> str | None:
    """Why a claim cannot be tested, as the end of a sentence; None if it can."""
    if not targets:
        return f"the study has no {' or '.join(claim.kinds or [])} target"
    if len(study.seeds) < 2:
        return "the study has one seed, which says nothing of how much runs vary"
    if claim.metric == "seconds":
        once = [start for start in dict.fromkeys([*claim.treatment, *claim.baseline]) if not study.per_seed(start)]
        if once:
            return f"{' and '.join(once)} is not trained for each seed (per_seed), so that its time was measured once"
        if design is None:
            return "the training times of the starts are not known"
    if design is None:
        missing = {"updates": "the study has no learning curves", "gap": "the study does not set `analyse`"}
        return missing.get(claim.metric, f"{claim.metric} does not apply to any target of the study")
    return None


def _incomplete(design: Design, weights: Weights) -> str | None:
    """Why some runs cannot be compared by the design's metric; None if all can."""
    for key, starts in weights.items():
        cell = design.cells.get(key)
        missing = [start for start in starts if cell is None or start not in cell.starts]
        if missing:
            return f"there is no value for {', '.join(missing)} on {key[0]}, {key[1]}"
        bounds = [] if cell.bounds is None else [s for s in starts if cell.bounds[cell.starts.index(s)]]
        if bounds:
            return (
                f"some times of {', '.join(bounds)} on {key[0]}, {key[1]} are only bounds: a run never reaches the "
                "level, or is there at its first evaluation"
            )
    return None


def _verdict(expect: str, verdict: str) -> ClaimVerdict:
    if verdict == expect:
        return "supported"
    if verdict == "equal":
        return "equal"
    return "inconclusive" if verdict == "unclear" else "contradicted"


def _time(claim: Claim, stages: list[Row]) -> Row:
    """What a claim of training time rests on: one measured time for each start, without an interval."""
    shares = {row["start"]: row["share_of_pretraining"] for row in stages}
    measured = [shares[start] for start in claim.treatment if shares.get(start) is not None]
    if len(measured) < len(claim.treatment):
        return {"reason": "the time of the pre-training before it is not known"}
    share = float(np.mean(measured))
    verdict = "supported" if share <= claim.size else "contradicted"
    return {"estimate": share, "runs": [f"starts/{start}" for start in claim.treatment], "verdict": verdict}
