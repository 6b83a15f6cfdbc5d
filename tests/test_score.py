"""Metrics and score files: from two texts to counts, and from a new metric to the report."""

import csv

import jiwer
import numpy as np
import pytest
from test_report import Page, fabricate, read, study_of, write_table, written

from headstart.report.sentences import points, rate, span
from headstart.score.metrics import METRICS, Metric
from headstart.score.score_file import score_columns, score_schema
from headstart.summarise.summary import nested_metrics, score_path, write_summary


def random_texts(count: int) -> list[tuple[str, str]]:
    """References and hypotheses of a few words , which give every kind of edit; some hypotheses are empty."""
    rng = np.random.default_rng(0)
    words = ["a", "b", "ab", "ba", "abc", "नमस्ते", "žena"]
    return [
        (" ".join(rng.choice(words, rng.integers(1, 12))), " ".join(rng.choice(words, rng.integers(0, 12))))
        for _ in range(count)
    ]


def test_counts_tell_the_kinds_of_errors_apart():
    assert METRICS["wer"].count("the old boat sank", "the cold boat sank now") == (3, 1, 0, 1)
    assert METRICS["cer"].count("the old boat sank", "the cold boat sank now") == (17, 0, 0, 5)  # "c", and " now"
    assert METRICS["wer"].count("old boat", "") == (0, 0, 2, 0)
    assert METRICS["cer"].count("old boat", "") == (0, 0, 8, 0)


@pytest.mark.parametrize(("name", "peer"), [("wer", jiwer.wer), ("cer", jiwer.cer)])
def test_rates_over_several_utterances_are_exactly_those_of_jiwer(name, peer):
    """Learning curves hold them, and no number of a curve may depend on who counts."""
    references, hypotheses = map(list, zip(*random_texts(50), strict=True))
    assert METRICS[name].rate(references, hypotheses) == peer(references, hypotheses)


def sentence_error(reference: str, hypothesis: str) -> str:
    return "H" if reference == hypothesis else "S"


def test_a_new_metric_needs_nothing_but_its_entry_in_the_registry(tmp_path, monkeypatch):
    """From the score file to the page: no other module names metrics."""
    monkeypatch.setitem(METRICS, "ser", Metric("ser", "sentence error rate", "sentence", "sentences", sentence_error))
    assert "sentence_substitutions" in score_schema().names
    study = study_of()
    fabricate(tmp_path, study)
    wrong = []
    for run in study.runs():
        path = score_path(tmp_path, study.study, run)
        write_table(path, [{**row, **score_columns(row["reference"], row["hypothesis"])} for row in read(path)])
        wrong += [row["reference"] != row["hypothesis"] for row in read(path) if run[0] == "xlsr"]

    summary, text = written(study, tmp_path)
    cell = next(row for row in summary["cells"] if row["start"] == "xlsr")
    assert cell["ser"] == pytest.approx(np.mean(wrong)) and cell["ser_low"] < cell["ser"] < cell["ser_high"]
    assert nested_metrics(summary)["xlsr"]["swahili"]["10min"]["ser"] == cell["ser"]
    (contrast,) = [
        row
        for row in summary["contrasts"]
        if (row["treatment"], row["baseline"], row["metric"]) == ("xlsr", "scratch", "ser")
    ]

    tables = Page(text).tables
    assert tables["rate-table"][0][3:] == ["CER", "WER", "SER"]
    shown = {row[2]: row[5] for row in tables["rate-table"][1:]}
    assert shown["xlsr"] == f"{rate(cell['ser'])} {span(cell['ser_low'], cell['ser_high'])}"
    shown = {(row[2], row[3]): row[10] for row in tables["difference-table"][1:]}
    ends = span(contrast["low"], contrast["high"], signed=True)
    assert shown["xlsr", "scratch"] == f"{points(contrast['difference'])} {ends}"
    assert text.count("<h3>Sentence error rate (SER)</h3>") == 2
    assert "reference words (WER), characters (CER) or sentences (SER)" in text
    assert f"; SER: {shown_rate(summary)}" in text

    # Runs that were trained before there was such a metric have no curve of it.
    with (write_summary(study, tmp_path).with_name("curves.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert rows and all(row["dev_ser"] == "" and float(row["dev_cer"]) for row in rows)


def shown_rate(summary: dict) -> str:
    """The sentence error rate of the start with the lowest character error rate, as the answer has it."""
    best = min(summary["cells"], key=lambda row: row["cer"])
    return f"{rate(best['ser'])} {span(best['ser_low'], best['ser_high'])}"
