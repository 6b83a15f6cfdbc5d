"""Advice on the start for a new language, from a finished study."""

import numpy as np
import pytest
import yaml
from transfer_tables import LANGUAGES, design_of, study_of

from headstart import cli
from headstart.advice import AdviceError, advise, language_to_advise
from headstart.files import write_json
from headstart.languages.similarity import similarity
from headstart.languages.table import language_of
from headstart.summarise import crossed
from headstart.summarise.transfer import transfer_section

STARTS = {name: (8, [name]) for name in ("de", "es", "ru", "tr", "fi", "ja")}


@pytest.fixture(scope="module")
def sections():
    """A study in which the nearest language decides, and one in which it does not matter."""
    study = study_of(STARTS)
    rng = np.random.default_rng(0)
    alike = np.array([[similarity(name, tag) for tag in LANGUAGES] for name in STARTS])
    near, far = np.zeros((2, 7, len(LANGUAGES)))
    near[1:] = -0.8 * alike + rng.normal(0, 0.01, alike.shape)
    far[1:] = np.linspace(-0.5, 0, 6)[:, None] + rng.normal(0, 0.02, alike.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossed, "PERMUTATIONS", 19)
        return study, *(transfer_section(study, {"cer": design_of(study, truth)}) for truth in (near, far))


def test_neighbours_decide_where_they_matter(sections):
    advice = advise(sections[1], language_of("ca"))
    assert advice.ranking[0]["start"] == "es"
    assert {row["language"] for row in advice.neighbours[:2]} <= {"es", "fr", "it", "pt"}
    assert advice.tested.errors["neighbours"] < advice.tested.errors["average"]
    for row in advice.ranking:
        assert row["low"] < row["estimate"] < row["high"]


def test_a_plain_rule_is_given_where_neighbours_are_no_better(sections):
    advice = advise(sections[2], language_of("ca"))
    assert advice.tested.rule == "average"
    assert [row["start"] for row in advice.ranking] == list(STARTS)
    assert advice.tested.errors["average"] <= advice.tested.errors["neighbours"]
    assert advice.tested.errors["nearest"] > 0.1


def test_the_summary_has_the_error_on_each_language_left_out(sections):
    """The rule of the best start on average, by hand: its mean without a language, and what it costs there."""
    section = sections[1]
    tags = [target["languages"][0] for target in section["targets"]]
    names = [row["start"] for row in section["starts"]]
    errors = {(cell["start"], cell["column"]): np.log(cell["error"]) for cell in section["cells"]}
    table = np.array([[errors[name, column] for column in range(len(tags))] for name in names])
    table -= table.mean(0)
    losses = []
    for place in range(len(tags)):
        picked = np.delete(table, place, axis=1).mean(1).argmin()
        losses.append(table[picked, place] - table[:, place].min())
    rows = {row["rule"]: row for row in section["advice"]["rules"]}
    assert section["advice"]["languages"] == len(tags)
    assert section["advice"]["rule"] == min(rows, key=lambda rule: rows[rule]["error"])
    assert rows["average"]["error"] == pytest.approx(np.expm1(np.mean(losses)))
    assert rows["average"]["best"] == losses.count(0.0)
    assert 0 <= rows["neighbours"]["error"] < rows["average"]["error"]
    assert rows["neighbours"]["best"] > rows["average"]["best"]


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
        advice = advise({**section, "targets": targets, "cells": cells}, language_of(LANGUAGES[place]))
        own = {
            c["start"]: np.log(c["error"]) for c in section["cells"] if c["column"] == place and c["start"] != "none"
        }
        mean = np.mean(list(own.values()))
        inside += [row["low"] < np.expm1(own[row["start"]] - mean) < row["high"] for row in advice.ranking]
    assert np.mean(inside) > 0.85


def test_what_cannot_be_advised_on_is_said(sections, tmp_path):
    with pytest.raises(AdviceError, match="too few"):
        advise(None, language_of("ca"))
    with pytest.raises(AdviceError, match="'klingon' is not in the package's table"):
        language_to_advise("klingon")
    with pytest.raises(AdviceError, match="give the language's tag instead"):
        language_to_advise(str(tmp_path))
    (tmp_path / "metadata.tsv").write_text("path\tlanguage\na.wav\tsw\nb.wav\tsw\nc.wav\ten\n", encoding="utf-8")
    assert language_to_advise(str(tmp_path)).name == "Swahili"


def test_the_command_reads_a_finished_study(sections, tmp_path, capsys):
    study, section, _ = sections
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json", by_alias=True)), encoding="utf-8")
    arguments = ["advise", "Catalan", "--study", str(path), "--results", str(tmp_path / "results")]
    assert cli.main(arguments) == 2
    assert "run the study first" in capsys.readouterr().err
    write_json(tmp_path / "results" / study.study / "summary.json", {"transfer": section})
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("Catalan (Indo-European); most alike in the study: ")
    assert "  1. es " in printed and "left out in turn" in printed
