"""Advice on the start for a new language, from a finished study."""

from itertools import combinations

import numpy as np
import pytest
import soundfile
import yaml
from test_acoustic import OPTIONS, language, utterances
from transfer_tables import LANGUAGES, design_of, study_of

from headstart import cli
from headstart.advice import AdviceError, Subject, advise, in_words, subject_of
from headstart.files import sealed, write_json
from headstart.languages.acoustic import measurement
from headstart.languages.pairs import Pairs
from headstart.languages.similarity import similarity
from headstart.report.transfer import advice_rows
from headstart.summarise import crossed
from headstart.summarise.neighbours import Known, left_out
from headstart.summarise.transfer import transfer_section

STARTS = {name: (8, [name]) for name in ("de", "es", "ru", "tr", "fi", "ja")}
CATALAN = Subject("Catalan", "ca")


def section_of(study, truth, **measures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossed, "PERMUTATIONS", 19)
        return transfer_section(study, {"cer": design_of(study, truth)}, {"table": similarity, **measures})


@pytest.fixture(scope="module")
def sections():
    """A study in which the nearest language decides, and one in which it does not matter."""
    study = study_of(STARTS)
    rng = np.random.default_rng(0)
    alike = np.array([[similarity(name, tag) for tag in LANGUAGES] for name in STARTS])
    near, far = np.zeros((2, 7, len(LANGUAGES)))
    near[1:] = -0.8 * alike + rng.normal(0, 0.01, alike.shape)
    far[1:] = np.linspace(-0.5, 0, 6)[:, None] + rng.normal(0, 0.02, alike.shape)
    return study, section_of(study, near), section_of(study, far)


def test_neighbours_decide_where_they_matter(sections):
    advice = advise(sections[1], CATALAN)
    assert advice.ranking[0]["start"] == "es"
    assert {row["language"] for row in advice.neighbours[:2]} <= {"es", "fr", "it", "pt"}
    (errors,) = advice.errors
    assert errors["neighbours"] < errors["average"]
    assert errors["high"] >= 0 or errors["difference"] < 0
    for row in advice.ranking:
        assert row["low"] < row["estimate"] < row["high"]


def test_a_plain_rule_is_given_where_neighbours_are_no_better(sections):
    advice = advise(sections[2], CATALAN)
    assert advice.rule == "average"
    assert [row["start"] for row in advice.ranking] == list(STARTS)
    (errors,) = advice.errors
    assert errors["average"] <= errors["neighbours"] and errors["nearest"] > 0.1
    assert errors["plain"] == "average" and errors["difference"] >= 0
    assert "Neighbours are no better a guide than a plain rule" in in_words(advice)


def test_errors_on_languages_left_out_are_those_of_a_loop(sections):
    """The same in plain Python, from the runs."""
    study, section, _ = sections
    spread = np.std([similarity(one, other) for one, other in combinations(LANGUAGES, 2)])
    cells = {(c["start"], c["column"]): np.log(c["error"]) for c in section["cells"]}
    losses = {"neighbours": [], "average": [], "nearest": []}
    for place, tag in enumerate(LANGUAGES):
        others = [(other, name) for other, name in enumerate(LANGUAGES) if name != tag]
        rest = np.std([similarity(a, b) for (_, a), (_, b) in combinations(others, 2)])
        assert rest == pytest.approx(spread, rel=0.2)
        predicted, average = {}, {}
        for start in STARTS:
            relative = [cells[start, n] - np.mean([cells[s, n] for s in STARTS]) for n, _ in others]
            weights = [np.exp(similarity(tag, name) / rest) for _, name in others]
            predicted[start] = np.average(relative, weights=weights)
            average[start] = np.mean(relative)
        near = max(STARTS, key=lambda start: similarity(tag, start))
        best = min(cells[start, place] for start in STARTS)
        for rule, pick in (
            ("neighbours", min(predicted, key=predicted.get)),
            ("average", min(average, key=average.get)),
            ("nearest", near),
        ):
            losses[rule].append(cells[pick, place] - best)
    (row,) = section["advice"]
    for rule, values in losses.items():
        assert row[rule] == pytest.approx(np.expm1(np.mean(values)), abs=1e-9)
        assert row["best"][rule] == sum(value < 1e-12 for value in values)
    assert row["languages"] == len(LANGUAGES)
    difference = np.subtract(losses["neighbours"], losses[row["plain"]])
    half = 2.110 * difference.std(ddof=1) / np.sqrt(18)  # t with 17 degrees of freedom
    assert row["low"] == pytest.approx(np.expm1(difference.mean() - half), abs=1e-4)
    assert advice_rows(section)[0]["similarity"] == "by family and place"


def test_a_measure_that_knows_the_language_is_used_and_the_better_one_wins(sections):
    """A measure that is wrong, one that is right about a language in no table, and one that does not know it."""
    study = sections[0]
    rng = np.random.default_rng(2)
    truth = np.zeros((7, len(LANGUAGES)))
    alike = np.array([[similarity(name, tag) for tag in LANGUAGES] for name in STARTS])
    truth[1:] = -0.8 * alike + rng.normal(0, 0.01, alike.shape)
    rows = [(a, b, similarity(a, b)) for a, b in combinations(LANGUAGES, 2)]
    right = Pairs.of([*rows, *(("xyz", tag, 0.9 if tag == "fi" else 0.3) for tag in LANGUAGES)])
    wrong = Pairs.of(
        [*((a, b, rng.uniform()) for a, b, _ in rows), *(("xyz", tag, rng.uniform()) for tag in LANGUAGES)]
    )
    section = section_of(study, truth, right=right, wrong=wrong, other=Pairs.of(rows))
    advice = advise(section, Subject("xyz", "xyz"))
    assert advice.measure == "right" and [row["measure"] for row in advice.errors] == ["right", "wrong"]
    assert advice.ranking[0]["start"] == "fi" and advice.neighbours[0] == {"language": "fi", "similarity": 0.9}
    with pytest.raises(AdviceError, match="nothing is known of how alike qqq and 4 languages"):
        advise(section, Subject("qqq", "qqq"))


def test_a_language_that_a_measure_does_not_know_has_no_weight(sections):
    known = Known.of(sections[1])
    measure = Pairs.of([("ca", "es", 0.8), ("ca", "tr", 0.1), ("es", "tr", 0.2)])
    assert known.only(measure).tags == ["es", "tr"]
    predicted = known.predicted("ca", measure)
    weight = 1.0  # one pair has no spread: the nearest language decides
    np.testing.assert_allclose(predicted, weight * known.levels[:, known.tags.index("es")])
    np.testing.assert_allclose(known.predicted("xx", measure), known.levels.mean(1))


def test_intervals_hold_for_languages_that_the_study_has_not_seen(sections):
    """Leave a language out of the section altogether, and look whether its numbers lie in the intervals."""
    section, inside = sections[1], []
    for place in range(0, len(LANGUAGES), 3):
        targets = [target for number, target in enumerate(section["targets"]) if number != place]
        cells = [
            {**cell, "column": cell["column"] - (cell["column"] > place)}
            for cell in section["cells"]
            if cell["column"] != place
        ]
        advice = advise({**section, "targets": targets, "cells": cells}, Subject("new", LANGUAGES[place]))
        own = {
            c["start"]: np.log(c["error"]) for c in section["cells"] if c["column"] == place and c["start"] != "none"
        }
        mean = np.mean(list(own.values()))
        inside += [row["low"] < np.expm1(own[row["start"]] - mean) < row["high"] for row in advice.ranking]
    assert np.mean(inside) > 0.85


def test_advice_for_a_folder_is_by_sound(one_thread, tmp_path):
    """Four languages of which two are spoken alike: a folder of audio gets the start that is best in those."""
    tags = ["en", "de", "sw", "ja"]
    chains = [language(21), language(21), language(22), language(23)]
    spoken = {tag: utterances(chain, 12, n) for n, (tag, chain) in enumerate(zip(tags, chains, strict=True))}
    measured = measurement(spoken, OPTIONS, None, {})
    measured.write(tmp_path / "acoustic.safetensors")
    study = study_of({name: (8, [name]) for name in ("de", "es", "ru", "tr")}, targets=tags)
    truth = np.zeros((5, 4))
    truth[1, :2], truth[2, 2:] = -1.0, -0.5
    section = section_of(study, truth, acoustic=measured.pairs())
    folder = tmp_path / "audio"
    (folder / "inner").mkdir(parents=True)
    for number, clip in enumerate(utterances(language(21), 4, 50).clips):
        soundfile.write(folder / "inner" / f"{number}.flac", clip, 16_000)
    subject = subject_of(str(folder), tmp_path / "acoustic.safetensors")
    assert subject.tag is None and subject.sound["en"] > 0.8 > subject.sound["sw"]
    advice = advise(section, subject)
    assert advice.measure == "acoustic" and {row["language"] for row in advice.neighbours[:2]} == {"en", "de"}
    assert advice.ranking[0]["start"] == "de"
    text = in_words(advice)
    assert text.startswith(f"{folder}; most alike in the study by sound: ") and "of another kind" not in text
    other = Subject("a call", None, dict.fromkeys(tags, 0.05) | {"ja": 0.1})
    assert "it is probably of another kind" in in_words(advise(section, other))
    (folder / "metadata.tsv").write_text("path\tlanguage\na.wav\tsw\nb.wav\tsw\nc.wav\ten\n", encoding="utf-8")
    subject = subject_of(str(folder), tmp_path / "acoustic.safetensors")
    assert subject.tag == "sw" and [row["measure"] for row in advise(section, subject).errors] == ["table", "acoustic"]
    subject = subject_of(str(folder), tmp_path / "none.safetensors")
    assert subject.name == f"{folder}, Swahili" and subject.sound is None
    (folder / "metadata.tsv").unlink()
    with pytest.raises(AdviceError, match="give the language's tag instead, or run the study with similarity.acoustic"):
        subject_of(str(folder), tmp_path / "none.safetensors")


def test_what_cannot_be_advised_on_is_said(sections, tmp_path):
    with pytest.raises(AdviceError, match="too few"):
        advise(None, CATALAN)
    subject = subject_of("klingon", tmp_path / "none.safetensors")
    with pytest.raises(AdviceError, match="how alike klingon and 4 languages of the study are; name a close relative"):
        advise(sections[1], subject)


def test_the_command_reads_a_finished_study(sections, tmp_path, capsys):
    study, section, _ = sections
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    arguments = ["advise", "Catalan", "--study", str(path), "--results", str(tmp_path / "results")]
    assert cli.main(arguments) == 2
    assert "run the study first" in capsys.readouterr().err
    summary = tmp_path / "results" / study.study / "summary.json"
    write_json(summary, sealed({"transfer": section}))
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Catalan (Indo-European); most alike in the study by family and place: ")
    assert "  1. es " in printed and "left out in turn" in printed
    content = summary.read_text(encoding="utf-8")
    summary.write_text(content.replace("0.", "1.", 1), encoding="utf-8")
    assert cli.main(arguments) == 2
    assert "summary.json" in capsys.readouterr().err and not summary.exists()


def test_left_out_errors_need_no_more_than_four_languages(sections):
    few = Known.of(sections[1])
    few = Known(few.starts, few.pretrained, few.tags[:4], few.levels[:, :4])
    row = left_out(few, similarity, 0.95)
    assert row["languages"] == 4 and np.isfinite([row["low"], row["high"], *row["misses"].values()]).all()
