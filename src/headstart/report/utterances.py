"""Test utterances with what was recognised: samples for the report, and a page with all of them for each start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from headstart.corpora.manifests import read_columns
from headstart.files import written_whole
from headstart.report.sentences import rate
from headstart.score.alignment import DELETION, HIT, INSERTION, SUBSTITUTION, steps
from headstart.score.score_table import LM, suffix
from headstart.study.fields import budget_seconds
from headstart.study.study import Study
from headstart.summarise.tables import read_counts, score_path

KINDS = {HIT: "hit", SUBSTITUTION: "substitution", DELETION: "deletion", INSERTION: "insertion"}  # edit -> name
DIFFICULTY = "cer"  # the metric by whose quantiles sample utterances are chosen
Row = dict[str, Any]


def samples(study: Study, results: Path) -> list[Row]:
    """For each target, sample test utterances with the hypotheses of every start and their errors marked.

    Utterances are sorted by difficulty, which is their character error rate over all starts and seeds at the largest
    budget (ties by utterance id), and taken at evenly spaced quantiles. Hypotheses are those of the first seed.
    """
    budget = max(study.budgets, key=budget_seconds)
    return [
        {"target": target, "budget": budget, "seed": study.seeds[0], "utterances": utterances}
        for target in study.targets
        if (utterances := _sampled(study, results, target, budget))
    ]


def _sampled(study: Study, results: Path, target: str, budget: str) -> list[Row]:
    runs = [
        read_counts(score_path(results, study.study, (start, target, budget, seed)))
        for start in study.starts
        for seed in study.seeds
    ]
    errors = sum(run.errors[DIFFICULTY] for run in runs)
    difficulty = errors / np.maximum(1, sum(run.reference[DIFFICULTY] for run in runs))
    order = np.lexsort((np.arange(len(difficulty)), difficulty))
    wanted = min(study.report.samples, len(order))
    chosen = [int(order[int((i + 0.5) / wanted * len(order))]) for i in range(wanted)]
    texts = {start: _texts(study, results, (start, target, budget, study.seeds[0])) for start in study.starts}
    utterances = []
    for i in chosen:
        first = texts[study.baseline][i]
        hypotheses = [{"start": start, **_scored(rows[i])} for start, rows in texts.items()]
        utterances.append({**first, "difficulty": rate(difficulty[i]), "hypotheses": hypotheses})
    return utterances


def _scored(row: Row) -> Row:
    """The greedy hypothesis of an utterance, and as `with_lm` that of the decoding with a language model, if any."""
    with_lm = _marked(row, suffix(LM)) if row.get(f"hypothesis{suffix(LM)}") is not None else None
    return {**_marked(row, ""), "with_lm": with_lm}


def _marked(row: Row, ending: str) -> Row:
    hypothesis = row[f"hypothesis{ending}"]
    words = marked_words(row["reference"], hypothesis, row[f"word_alignment{ending}"])
    return {"words": words, "errors": sum(word["kind"] != "hit" for word in words), "empty": not hypothesis.strip()}


def marked_words(reference: str, hypothesis: str, alignment: str) -> list[Row]:
    """The words of a hypothesis with their errors marked, by the word alignment from the score file.

    Each word is a dict with `kind` (`hit`, `substitution`, `deletion` or `insertion`), `text`, and, for a
    substitution, `reference`: the reference word that `text` replaces.
    """
    reference_words, hypothesis_words = reference.split(), hypothesis.split()
    words = []
    for edit, i, j in steps(alignment):
        word = {"kind": KINDS[edit], "text": reference_words[i] if j is None else hypothesis_words[j]}
        if edit == SUBSTITUTION:
            word["reference"] = reference_words[i]
        words.append(word)
    return words


# ---------------------------------------------------------------------------------------------- all utterances


def utterance_page(start: str, target: str, budget: str) -> str:
    """Path of the page with the test utterances of a start, relative to the study's folder."""
    return f"utterances/{start}/{target}/{budget}.html"


def write_utterances(study: Study, results: Path, environment: jinja2.Environment) -> None:
    """Write a page for each start, target and budget: every test utterance with what each seed recognised.

    The utterances with the most errors come first.
    """
    template = environment.get_template("utterances.html.j2")
    for start in study.starts:
        for target in study.targets:
            for budget in study.budgets:
                path = results / study.study / utterance_page(start, target, budget)
                group = {"start": start, "target": target, "budget": budget}
                with written_whole(path) as temporary:
                    page = template.render(study=study, **group, utterances=_utterances(study, results, **group))
                    temporary.write_text(page, encoding="utf-8")


def _utterances(study: Study, results: Path, start: str, target: str, budget: str) -> list[Row]:
    by_seed = [_texts(study, results, (start, target, budget, seed)) for seed in study.seeds]
    utterances = []
    for rows in zip(*by_seed, strict=True):
        hypotheses = [{"seed": seed, **_scored(row)} for seed, row in zip(study.seeds, rows, strict=True)]
        errors = sum(hypothesis["errors"] for hypothesis in hypotheses)
        utterances.append({**rows[0], "hypotheses": hypotheses, "errors": errors})
    return sorted(utterances, key=lambda utterance: -utterance["errors"])


def _texts(study: Study, results: Path, run: tuple[str, str, str, int]) -> list[Row]:
    """The rows of a run's score file, sorted by utterance id."""
    return read_columns(score_path(results, study.study, run), None).sort_by("utterance_id").to_pylist()
