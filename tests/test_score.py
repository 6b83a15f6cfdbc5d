"""Metrics and score files: from two texts to counts, and from a new metric to the report."""

from collections import Counter
from dataclasses import astuple
from itertools import groupby, pairwise

import jiwer
import numpy as np
import pytest
from scipy import stats
from test_report import Page, fabricate, read, study_of, write_table, written

from headstart.corpora import manifests
from headstart.errors import HeadstartError
from headstart.report.sentences import change, points, rate, span
from headstart.score.alignment import EditCounts, steps
from headstart.score.metrics import METRICS, Metric
from headstart.score.score_file import language_columns, score_columns, score_schema
from headstart.score.score_table import ScoreTable
from headstart.study.text import Text
from headstart.summarise.summary import nested_metrics
from headstart.summarise.tables import read_counts, score_path
from headstart.text.normalisation import normalise, normalised_runs


def random_texts(count: int) -> list[tuple[str, str]]:
    """References and hypotheses of a few words , which give every kind of edit; some hypotheses are empty."""
    rng = np.random.default_rng(0)
    words = ["a", "b", "ab", "ba", "abc", "नमस्ते", "žena"]
    return [
        (" ".join(rng.choice(words, rng.integers(1, 12))), " ".join(rng.choice(words, rng.integers(0, 12))))
        for _ in range(count)
    ]


def table_of(*rows: dict) -> ScoreTable:
    return ScoreTable({name: [row[name] for row in rows] for name in rows[0]})


def totals(name: str, *rows: dict) -> tuple[int, ...]:
    """Hits, substitutions, deletions and insertions by a metric over all rows."""
    return tuple(int(kind.sum()) for kind in METRICS[name].counts(table_of(*rows)))


def test_counts_tell_the_kinds_of_errors_apart():
    wrong = score_columns("the old boat sank", "the cold boat sank now")
    assert totals("wer", wrong) == (3, 1, 0, 1)
    assert totals("cer", wrong) == (17, 0, 0, 5)  # "c", and " now"
    empty = score_columns("old boat", "")
    assert totals("wer", empty) == (0, 0, 2, 0)
    assert totals("cer", empty) == (0, 0, 8, 0)


def chunks(alignment: str) -> list[tuple[str, int, int, int, int]]:
    """An alignment as jiwer has it: kind, and both ends on both sides, of every longest stretch of equal edits."""
    stretches, reference, hypothesis = [], 0, 0
    for edit, stretch in groupby(alignment):
        size = len(list(stretch))
        ends = reference + size * (edit != "I"), hypothesis + size * (edit != "D")
        kind = {"H": "equal", "S": "substitute", "D": "delete", "I": "insert"}[edit]
        stretches.append((kind, reference, ends[0], hypothesis, ends[1]))
        reference, hypothesis = ends
    return stretches


@pytest.mark.parametrize(("unit", "process"), [("word", jiwer.process_words), ("char", jiwer.process_characters)])
def test_a_score_file_holds_jiwers_alignment_from_which_its_counts_follow(unit, process):
    seen = set()
    for reference, hypothesis in random_texts(200):
        row, peer = score_columns(reference, hypothesis), process(reference, hypothesis)
        alignment = row[f"{unit}_alignment"]
        assert chunks(alignment) == [astuple(chunk) for chunk in peer.alignments[0]]
        counts = totals({"word": "wer", "char": "cer"}[unit], row)
        assert counts == tuple(getattr(peer, kind) for kind in EditCounts._fields)
        seen |= set(alignment)
    assert seen == set("HSDI")


def test_steps_name_the_tokens_that_stand_side_by_side():
    assert list(steps("HSDI")) == [("H", 0, 0), ("S", 1, 1), ("D", 2, None), ("I", None, 2)]
    for reference, hypothesis in random_texts(50):
        edits = list(steps(score_columns(reference, hypothesis)["word_alignment"]))
        sides = reference.split(), hypothesis.split()
        assert [step.reference for step in edits if step.edit != "I"] == list(range(len(sides[0])))
        assert [step.hypothesis for step in edits if step.edit != "D"] == list(range(len(sides[1])))
        assert all((sides[0][i] == sides[1][j]) == (edit == "H") for edit, i, j in edits if edit in "HS")


def test_errors_of_each_language_and_at_switch_points_follow_from_a_score_file(tmp_path):
    text = Text()
    tokens = ["Ella", "said", "well-known", "cosas", "!"]
    tags = ["es", "en", "en", "es", "punct"]
    reference = normalise(" ".join(tokens), text, "es")
    languages = language_columns(reference, normalised_runs(" ".join(tokens), text, "es", tokens, tags))
    assert languages["word_languages"] == ["es", "en", "en", "en", "es"]
    facts = {"utterance_id": "u", "language": "es", "duration_s": 1.0, "tokens": tokens, "token_languages": tags}
    row = {**facts, **languages, **score_columns(reference, "ella sad well casas ya")}
    manifests.write_table(tmp_path / "scores.parquet", [row], score_schema())

    (row,) = manifests.read_table(tmp_path / "scores.parquet", score_schema())
    assert (row["tokens"], row["token_languages"]) == (tokens, tags)
    words = [step for step in steps(row["word_alignment"]) if step.reference is not None]
    errors = Counter(row["word_languages"][step.reference] for step in words if step.edit != "H")
    assert errors == {"en": 2, "es": 1}
    switches = {i for i, pair in enumerate(pairwise(row["word_languages"]), 1) if len(set(pair)) == 2}
    assert [step.edit for step in words if step.reference in switches] == ["S", "S"]


def tags_of(text: str, tokens: list[str] | None, tags: list[str] | None) -> dict:
    reference = normalise(text, Text(), "en", tokens, tags)
    return language_columns(reference, normalised_runs(text, Text(), "en", tokens, tags))


def test_words_have_no_languages_where_tags_are_missing_or_do_not_fit():
    nothing = dict.fromkeys(("word_languages", "mixed_languages", "language_source"))
    assert tags_of("a b", None, None) == nothing
    assert tags_of("a b", ["a", "b"], None) == nothing
    assert tags_of("a b", ["a", "c"], ["en", "es"]) == nothing
    assert tags_of("IŞIK light", ["IŞIK", "light"], ["tr", "en"])["word_languages"] == ["tr", "en"]
    with pytest.raises(ValueError, match="tagged 'a' is not 'a b'"):
        language_columns("a b", [("en", "a")])


def test_characters_without_spaces_have_languages_of_their_own():
    row = tags_of("我想去shopping, 好吗?", ["我想", "去", "shopping", ",", "好吗"], ["zh", "zh", "en", "zxx", "zh"])
    assert row["word_languages"] == ["mul", "zh"]
    assert row["mixed_languages"] == ["zh", "zh", "zh", "en", "zh", "zh"]
    assert tags_of("go shopping", ["go", "shopping"], ["en", "en"])["mixed_languages"] is None


@pytest.mark.parametrize(("name", "peer"), [("wer", jiwer.wer), ("cer", jiwer.cer)])
def test_rates_over_several_utterances_are_exactly_those_of_jiwer(name, peer):
    """Learning curves hold them, and no number of a curve may depend on who counts."""
    references, hypotheses = map(list, zip(*random_texts(50), strict=True))
    assert METRICS[name].rate(references, hypotheses) == peer(references, hypotheses)


def sentence_errors(table: ScoreTable) -> EditCounts:
    wrong = (METRICS["wer"].counts(table).errors > 0).astype(int)
    return EditCounts(1 - wrong, wrong, 0 * wrong, 0 * wrong)


def test_a_new_metric_needs_nothing_but_its_entry_in_the_registry(tmp_path, monkeypatch):
    """From the score file to the page: no other module names metrics."""
    metric = Metric("ser", "SER", "sentence error rate", "sentences", sentence_errors)
    monkeypatch.setitem(METRICS, "ser", metric)
    study = study_of()
    fabricate(tmp_path, study)
    wrong = []
    for run in study.runs():
        path = score_path(tmp_path, study.study, run)
        if run[0] == "xlsr":
            wrong.append(np.mean([row["reference"] != row["hypothesis"] for row in read(path)]))

    summary, text = written(study, tmp_path)
    cell = next(row for row in summary["cells"] if row["start"] == "xlsr")
    assert cell["ser"] == pytest.approx(stats.gmean(wrong)) and cell["ser_low"] < cell["ser"] < cell["ser_high"]
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
    shown = {(row[2], row[3]): row[10:12] for row in tables["difference-table"][1:]}
    ends = span(contrast["relative_low"], contrast["relative_high"], signed=True)
    assert shown["xlsr", "scratch"] == [points(contrast["difference"]), f"{change(contrast['relative'])} {ends}"]
    assert text.count("<h3>Sentence error rate (SER)</h3>") == 2
    assert "reference words (WER), characters (CER) or sentences (SER)" in text
    assert f"; SER: {shown_rate(summary)}" in text


def test_a_metric_is_summarised_where_it_applies(tmp_path):
    """One target is tagged and was decoded with a language model, the other is neither."""
    targets = {
        "plain": {"corpus": "sw", "kind": "in-domain"},
        "switched": {"corpus": "sw", "kind": "code-switched"},
    }
    claim = {"claim": "It helps.", "treatment": "xlsr", "baseline": "scratch", "metric": "pier_lm"}
    study = study_of(
        targets=targets, claims=[claim, {**claim, "targets": ["plain"]}, {**claim, "kinds": ["code-switched"]}]
    )
    fabricate(tmp_path, study)
    for run in study.runs():
        path = score_path(tmp_path, study.study, run)
        rows = read(path)
        if run[1] == "switched":
            for row in rows:
                words = row["reference"].split()
                runs = [(("sw", "en")[i // 2 % 2], word) for i, word in enumerate(words)]
                heard = row["hypothesis"].replace("mimi", "mini")
                row |= language_columns(row["reference"], runs)
                row |= score_columns(row["reference"], row["hypothesis"], heard, text=row["reference"].title())
        write_table(path, rows)

    summary, text = written(study, tmp_path)
    cells = {(row["start"], row["target"]): row for row in summary["cells"]}
    assert {"wer", "cer"} == {key.removesuffix("_low") for key in cells["xlsr", "plain"] if key.endswith("_low")}
    tagged = cells["xlsr", "switched"]
    for name in (
        "wer_raw",
        "pier",
        "switch_word",
        "switch_boundary",
        "wer[en]",
        "wer[sw]",
        "switch_word[2]",
        "wer_lm[en]",
    ):
        assert tagged[f"{name}_low"] <= tagged[name] <= tagged[f"{name}_high"]
    assert tagged["pier"] == pytest.approx(tagged["wer[en]"]) and tagged["pier_lm"] > tagged["pier"]
    run = next(row for row in summary["runs"] if row["target"] == "switched")
    rows = read(score_path(tmp_path, study.study, tuple(run[key] for key in ("start", "target", "budget", "seed"))))
    table = table_of(*rows)
    counts = METRICS["pier"].counts(table)
    assert run["pier"] == counts.errors.sum() / counts.reference.sum()
    everywhere, nowhere, there = summary["claims"]
    assert there["verdict"] == "supported" and there["estimate"] < 0
    for row in (everywhere, nowhere):
        assert (row["verdict"], row["reason"]) == ("not tested", "there is no value for xlsr, scratch on plain, 10min")
    assert Page(text).tables["rate-table"][0][3:] == ["CER", "WER"]


def test_a_score_file_of_an_earlier_version_is_named(tmp_path):
    row = {"utterance_id": "u", **score_columns("a b", "a")}
    write_table(tmp_path / "scores.parquet", [{name: row[name] for name in row if not name.startswith("raw")}])
    with pytest.raises(HeadstartError, match="no column 'raw_alignment'; delete the file and run again"):
        read_counts(tmp_path / "scores.parquet")


def shown_rate(summary: dict) -> str:
    """The sentence error rate of the start with the lowest character error rate, as the answer has it."""
    best = min(summary["cells"], key=lambda row: row["cer"])
    return f"{rate(best['ser'])} {span(best['ser_low'], best['ser_high'])}"
