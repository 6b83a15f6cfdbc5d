"""Studies drawn at random in which all starts are equal, and studies in which they differ by a known factor.

What varies is set to what the default study showed: runs by 3 % (a standard deviation of the log error rate), test
speakers by 3 % in how much harder a start finds them than the others, a start with one seed by 3 % more, utterances by
30 %, and the errors of an utterance by a Poisson distribution. With unequal variances, the variation of runs differs by
start and by target: its logarithm has a standard deviation of 0.35 over each, so that it differs by a factor of two and
more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from percentile import false_verdict

from headstart.summarise.design import Cell, Design
from headstart.summarise.power import Shape, spread_rows

RUN, SPEAKER, INTERACTION, UTTERANCE = 0.03, 0.03, 0.03, 0.3
UTTERANCES, TOKENS, RATE = 240, 30, 0.35
UNEQUAL = 0.35


@dataclass(frozen=True)
class Setting:
    """A kind of study: numbers of seeds, starts, targets and test speakers, and whether runs vary alike."""

    seeds: int
    starts: int
    targets: int
    speakers: int
    variances: str

    def key(self) -> list[int]:
        """Numbers from which the random draws of this setting are seeded."""
        return [self.seeds, self.starts, self.targets, self.speakers, int(self.variances == "unequal")]


def draw(setting: Setting, rng: np.random.Generator, effect: float = 0.0) -> tuple[Design, dict[str, np.ndarray]]:
    """A study, and the error counts `[starts, seeds, utterances]` of each target.

    The last start's error rate is exp(effect) times that of the others.
    """
    starts, seeds, speakers = setting.starts, setting.seeds, setting.speakers
    spread = UNEQUAL if setting.variances == "unequal" else 0.0
    of_start = np.exp(spread * rng.standard_normal(starts))
    blocks = np.repeat(np.arange(speakers), UTTERANCES // speakers)
    names = [f"s{i}" for i in range(starts)]
    shift = np.zeros(starts)
    shift[-1] = effect
    cells, counts = {}, {}
    for target in range(setting.targets):
        reference = 1 + rng.poisson(TOKENS, len(blocks))
        of_run = RUN * of_start * np.exp(spread * rng.standard_normal())
        log_rate = (
            np.log(RATE)
            + shift[:, None, None]
            + (of_run[:, None] * rng.standard_normal((starts, seeds)))[:, :, None]
            + 0.03 * rng.standard_normal(seeds)[:, None]  # what a label budget does to all starts
            + 0.2 * rng.standard_normal(speakers)  # how hard a speaker is for all starts
            + SPEAKER * rng.standard_normal((starts, 1, speakers))
            + INTERACTION * rng.standard_normal((starts, seeds, speakers))
        )
        expected = np.exp(log_rate[:, :, blocks] + UTTERANCE * rng.standard_normal(len(blocks))) * reference
        counts[f"t{target}"] = rng.poisson(expected)
        cells[f"t{target}", ""] = Cell.of_counts(f"t{target}", names, counts[f"t{target}"], reference, blocks)
    return Design(cells), counts


def comparisons(setting: Setting, design: Design, counts: dict[str, np.ndarray]):
    """Every start against the first one, on every target: the estimate, and the counts of both."""
    for target, errors in counts.items():
        for i in range(1, setting.starts):
            weights = {(target, ""): {f"s{i}": 1.0, "s0": -1.0}}
            yield i, design.difference(weights), errors[[0, i]]


def calibrate(setting: Setting, wanted: int) -> dict:
    """False verdicts and coverage of a setting, over enough studies for `wanted` comparisons.

    Coverage is that of the true difference of the last start, which is 10 %; the other comparisons are of equals. The
    standard error of a rate takes into account that the comparisons of one study are not independent.
    """
    rng = np.random.default_rng(setting.key())
    pairs = setting.targets * (setting.starts - 1)
    studies = max(wanted // 12, -(-wanted // pairs))
    false, covered, percentile = [], [], []
    for number in range(studies):
        effect = float(np.log(0.9)) if number % 2 else 0.0
        design, counts = draw(setting, rng, effect)
        wrong, missed, declared = [], [], []
        for start, estimate, errors in comparisons(setting, design, counts):
            truth = effect if start == setting.starts - 1 else 0.0
            missed.append(not 0.025 <= estimate.below(truth) <= 0.975)  # whether the 95 % interval misses it
            if truth == 0.0:
                wrong.append(estimate.p < 0.05)
                if not declared and number < 600:  # it takes longer than everything else
                    declared.append(false_verdict(errors, rng))
        covered.append(1 - np.mean(missed))
        if wrong:
            false.append(np.mean(wrong))
        percentile += declared
    return {
        "kind": "simulated",
        **{name: getattr(setting, name) for name in ("seeds", "starts", "targets", "speakers", "variances")},
        "studies": studies,
        "false_verdict_rate": float(np.mean(false)),
        "false_verdict_error": float(np.std(false) / np.sqrt(len(false))),
        "coverage": float(np.mean(covered)),
        "coverage_error": float(np.std(covered) / np.sqrt(len(covered))),
        "percentile_false_verdict_rate": float(np.mean(percentile)),
    }


def resolved(setting: Setting) -> float:
    """The relative change that `headstart plan` says is found in 80 % of such studies, from how such studies varied."""
    rng = np.random.default_rng([2, *setting.key()])
    many = replace(setting, seeds=10, starts=8, targets=4)
    spreads = [spread_rows({"": draw(many, rng)[0]}, "speakers")[0] for _ in range(8)]
    seed_sd = float(np.sqrt(np.mean([spread["seed_sd"] ** 2 for spread in spreads])))
    test = float(np.mean([spread["speaker_sd"] ** 2 for spread in spreads])) / setting.speakers
    corpora = {(f"t{i}", ""): f"t{i}" for i in range(setting.targets)}
    names = [f"s{i}" for i in range(setting.starts)]
    shape = Shape(corpora, names, setting.seeds, seed_sd, test, setting.speakers - 1)
    return float(np.expm1(shape.smallest_effect({("t0", ""): {names[-1]: 1.0, "s0": -1.0}}, 0.05)))


def power(setting: Setting, change: float, studies: int) -> float:
    """The share of studies that find a relative `change` of the last start on the first target."""
    rng = np.random.default_rng([1, *setting.key()])
    weights = {("t0", ""): {f"s{setting.starts - 1}": 1.0, "s0": -1.0}}
    verdicts = (draw(setting, rng, float(np.log1p(change)))[0].difference(weights).p < 0.05 for _ in range(studies))
    return float(np.mean(list(verdicts)))
