"""How far fine-tuning moves the representations of a start."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.corpora.manifests import read_columns
from headstart.errors import HeadstartError
from headstart.study.study import Study
from headstart.summarise.statistics import (
    RNG_SEED,
    draw_counts,
    percentile_interval,
)
from headstart.summarise.tables import Row, representation_path


def representations(study: Study, results: Path, target: str, budget: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Similarity of each start to its fine-tuned runs, at one target and budget, as three lists of rows.

    - The similarity of every layer by every measure.
    - The representation gap: one minus the mean, over the Transformer layers, of the similarity by the study's measure.
      These layers are 1 to the last; layer 0 is the input of the first.
    - Paired differences of the gap, treatment minus baseline, for the pairs of `study.comparisons()` whose starts were
      both analysed.

    Similarities are means over seeds. Their intervals are over utterances (drawn in blocks by the stage `analyse`) and
    seeds (drawn here).
    """
    confidence, group = study.report.confidence, {"target": target, "budget": budget}
    layers, gaps, contrasts = [], [], []
    estimated, drawn = {}, {}
    for start in study.analysed():
        path = representation_path(results, study.study, start, target, budget)
        similarity, replicates = read_similarities(path, study.seeds)
        for measure, estimates in similarity.items():
            for layer, estimate in enumerate(estimates):
                interval = percentile_interval(estimate, replicates[measure][:, layer], confidence)
                layers.append(
                    {"start": start, **group, "layer": layer, "measure": measure}
                    | {"similarity": interval.estimate, "low": interval.low, "high": interval.high}
                )
        measure = study.analyse.measure
        estimated[start] = 1 - similarity[measure][1:].mean()
        drawn[start] = 1 - replicates[measure][:, 1:].mean(axis=1)
        interval = percentile_interval(estimated[start], drawn[start], confidence)
        gaps.append(
            {"start": start, **group, "measure": measure}
            | {"gap": interval.estimate, "low": interval.low, "high": interval.high}
        )
    for treatment, baseline in study.comparisons():
        if treatment in drawn and baseline in drawn:
            interval = percentile_interval(
                estimated[treatment] - estimated[baseline], drawn[treatment] - drawn[baseline], confidence
            )
            contrasts.append(
                {"treatment": treatment, "baseline": baseline, **group, "measure": study.analyse.measure}
                | {"difference": interval.estimate, "low": interval.low, "high": interval.high}
                | {"verdict": interval.verdict}
            )
    return layers, gaps, contrasts


def read_similarities(path: Path, seeds: list[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Similarities by measure: estimates `[layers]` and replicates `[replicates, layers]`, means over seeds.

    A replicate contains some utterances more than once, which CCA fits better than distinct ones. Replicates therefore
    exceed the estimate, by more than they vary. To correct this bias, those of each layer and seed are shifted so that
    their mean is the estimate. Seeds are drawn as in `statistics`, with the same draws for every start.

    Raises:
        HeadstartError: the file does not exist.
    """
    if not path.is_file():
        raise HeadstartError(f"{path}: no similarities; run the analysis of this start first")
    by_measure: dict[str, dict[tuple[int, int], tuple[float, list[float]]]] = {}
    for row in read_columns(path, None).to_pylist():
        by_measure.setdefault(row["measure"], {})[row["layer"], row["seed"]] = row["similarity"], row["replicates"]
    similarity, replicates = {}, {}
    for measure, cells in by_measure.items():
        layers = range(1 + max(layer for layer, _ in cells))
        estimates = np.array([[cells[layer, seed][0] for seed in seeds] for layer in layers])
        drawn = np.array([[cells[layer, seed][1] for seed in seeds] for layer in layers])  # [layers, seeds, replicates]
        drawn = np.minimum(drawn - drawn.mean(axis=2, keepdims=True) + estimates[:, :, None], 1.0)
        # A random stream other than the one that drew the blocks.
        draws = draw_counts(np.random.default_rng([RNG_SEED, 1]), drawn.shape[2], len(seeds)) / len(seeds)
        similarity[measure], replicates[measure] = estimates.mean(axis=1), np.einsum("lsr,rs->rl", drawn, draws)
    return similarity, replicates
