"""How far fine-tuning moves the representations of a start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.corpora.manifests import read_columns
from headstart.errors import HeadstartError
from headstart.study.study import Study
from headstart.summarise.contrasts import judged, paired_difference
from headstart.summarise.design import Cell, Design
from headstart.summarise.tables import Row, representation_path

SMALLEST_GAP = 1e-6  # Similarities are stored with six decimals.


def representation_designs(study: Study, results: Path) -> tuple[Design, dict[str, Design]] | None:
    """The representation gaps of the analysed starts, and by measure the gaps of their single layers.

    The gap of a run is one minus the mean, over the Transformer layers, of the similarity between the start and the
    fine-tuned encoder by the study's measure. These layers are 1 to the last; layer 0 is the input of the first. The
    gap of a layer is one minus its similarity. As rows of a design, layers are named (start, layer).

    None if the study does not analyse representations.

    Raises:
        HeadstartError: a table of similarities does not exist.
    """
    starts = study.analysed()
    if not starts:
        return None
    gaps: dict[tuple[str, str], Cell] = {}
    layers: dict[str, dict[tuple[str, str], Cell]] = {}
    for target in study.targets:
        corpus = study.targets[target].corpus
        for budget in study.budgets:
            tables = {
                start: read_similarities(representation_path(results, study.study, start, target, budget), study.seeds)
                for start in starts
            }
            chosen = [tables[start][study.analyse.measure] for start in starts]
            gaps[target, budget] = _cell(
                corpus, starts, [(1 - s[1:].mean(axis=0), 1 - r[1:].mean(axis=0)) for s, r in chosen]
            )
            for measure in tables[starts[0]]:
                named = [
                    ((start, layer), (1 - similarity, 1 - replicates))
                    for start in starts
                    for layer, (similarity, replicates) in enumerate(zip(*tables[start][measure], strict=True))
                ]
                layers.setdefault(measure, {})[target, budget] = _cell(corpus, *map(list, zip(*named, strict=True)))
    return Design(gaps), {measure: Design(cells) for measure, cells in layers.items()}


def _cell(corpus: str, names: list, gaps: list[tuple[np.ndarray, np.ndarray]]) -> Cell:
    """A cell of log gaps, from estimates `[seeds]` and bootstrap replicates over utterances `[seeds, replicates]`.

    The deviations of the replicates take the place of the influences of speakers: their squares sum to the variance.
    """
    estimates = np.log(np.maximum([estimate for estimate, _ in gaps], SMALLEST_GAP))
    replicates = np.log(np.maximum([replicate for _, replicate in gaps], SMALLEST_GAP))
    count = replicates.shape[2]
    deviations = (replicates - replicates.mean(axis=2, keepdims=True)) / np.sqrt(count)
    return Cell(corpus, names, estimates, deviations, np.zeros(count))


def representation_rows(
    study: Study, gaps: Design, layers: dict[str, Design]
) -> tuple[list[Row], list[Row], list[Row]]:
    """Three lists of rows: the similarity of every layer by every measure, the gaps, and their differences.

    Similarities and gaps are geometric means of the gaps over seeds, with intervals over utterances and seeds. The
    differences are those of the study's comparisons whose starts were both analysed; `relative` is the change of the
    gap, `difference` the same as a number.
    """
    confidence, starts = study.report.confidence, study.analysed()
    layer_rows, gap_rows, contrasts, estimates = [], [], [], []
    for start in starts:
        for target in study.targets:
            for budget in study.budgets:
                group = {"start": start, "target": target, "budget": budget}
                for measure, design in layers.items():
                    for name in design.cells[target, budget].starts:
                        if name[0] == start:
                            similarity, high, low = 1 - _gap(design, target, budget, name, confidence)
                            layer_rows.append(
                                {**group, "layer": name[1], "measure": measure}
                                | {"similarity": float(similarity), "low": float(low), "high": float(high)}
                            )
                gap, low, high = _gap(gaps, target, budget, start, confidence)
                gap_rows.append(
                    {**group, "measure": study.analyse.measure}
                    | {"gap": float(gap), "low": float(low), "high": float(high)}
                )
    for target in study.targets:
        for budget in study.budgets:
            for treatment, baseline in study.comparisons():
                if treatment in starts and baseline in starts:
                    group = {"treatment": treatment, "baseline": baseline, "target": target, "budget": budget}
                    estimate, difference = paired_difference(gaps, **group, confidence=confidence)
                    contrasts.append({**group, "measure": study.analyse.measure, **difference})
                    estimates.append(estimate)
    return layer_rows, gap_rows, judged(study, contrasts, estimates, "measure")


def _gap(design: Design, target: str, budget: str, name: object, confidence: float) -> np.ndarray:
    """A gap and the ends of its interval; a gap is at most 1, since similarities are not negative."""
    level = design.level(target, budget, name)
    return np.minimum(np.exp([level.value, *level.interval(confidence)]), 1.0)


def read_similarities(path: Path, seeds: list[int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By measure: similarities `[layers, seeds]` and bootstrap replicates `[layers, seeds, replicates]`.

    A replicate contains some utterances more than once, which CCA fits better than distinct ones. Replicates therefore
    exceed the estimate, by more than they vary. To correct this bias, those of each layer and seed are shifted so that
    their mean is the estimate.

    Raises:
        HeadstartError: the file does not exist.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no similarities; run the analysis of this start first")
    by_measure: dict[str, dict[tuple[int, int], tuple[float, list[float]]]] = {}
    for row in read_columns(path, None).to_pylist():
        by_measure.setdefault(row["measure"], {})[row["layer"], row["seed"]] = row["similarity"], row["replicates"]
    similarities = {}
    for measure, cells in by_measure.items():
        layers = range(1 + max(layer for layer, _ in cells))
        estimates = np.array([[cells[layer, seed][0] for seed in seeds] for layer in layers])
        replicates = np.array([[cells[layer, seed][1] for seed in seeds] for layer in layers])
        replicates = replicates - replicates.mean(axis=2, keepdims=True) + estimates[:, :, None]
        similarities[measure] = estimates, np.minimum(replicates, 1.0)
    return similarities
