"""The report's section about transfer: what it shows, and that it is legible with many starts and languages."""

import re

import numpy as np
import pytest
from transfer_tables import FACTORIAL, changes_of, design_of, study_of

from headstart.report.gallery import Gallery
from headstart.report.page import transfer_values
from headstart.report.transfer import MOST_SHADE, advice_rows, heat_maps, question_rows
from headstart.summarise import crossed
from headstart.summarise.transfer import transfer_section

STARTS = {name: FACTORIAL[name] for name in list(FACTORIAL)[:8]}


@pytest.fixture(scope="module")
def shown():
    """The study and its section; no pre-training is worse everywhere but in one cell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossed, "PERMUTATIONS", 199)
        study = study_of(STARTS, targets=["en", "de", "tr", "sw", "fi"], mixed=[("en", "de")])
        truth = changes_of(study)
        truth[1, 2] = truth[0, 2] + 0.2
        return study, transfer_section(study, {"cer": design_of(study, truth)})


def test_a_study_with_few_starts_has_no_section():
    assert transfer_values(None, None) == {"transfer": None}


def test_every_question_has_a_verdict_in_words(shown):
    _, section = shown
    rows = question_rows(section)
    assert len(rows) == len(section["questions"]) == 10
    for row in rows:
        assert row["title"] and row["verdict"] and row["note"].endswith(".")
        assert row["is_clear"] == (row["verdict"] not in ("unclear", "cannot tell"))
    untold = next(row for row in rows if "code-switched" in row["title"])
    assert untold["verdict"] == "cannot tell" and untold["effect"] == "\N{EN DASH}"
    assert any("Indo-European" in row["title"] for row in rows)
    assert any(re.search(r"deviation \(0\.\d+\) more alike, by family and place$", row["title"]) for row in rows)
    (advice,) = advice_rows(section)
    assert advice["similarity"] == "by family and place" and advice["languages"] == 5
    assert advice["verdict"] in ("no better than a plain rule", "clearly better", "better, but not clearly")
    for rule in ("neighbours", "average", "nearest"):
        assert advice[rule] == f"{section['advice'][0][rule]:.1%}"


def test_heat_maps_have_a_cell_for_each_start_and_language(shown):
    study, section = shown
    by_change, by_error = heat_maps(section)
    assert [row["name"] for row in by_change["rows"]] == ["English", "German", "Turkish", "Swahili", "Finnish", "en-de"]
    assert by_change["starts"] == [row["start"] for row in section["ranks"] if row["start"] != "none"]
    assert set(by_error["starts"]) == set(study.starts)
    cells = {
        (row["name"], start): cell
        for row in by_change["rows"]
        for start, cell in zip(by_change["starts"], row["cells"], strict=True)
    }
    worse = cells["Turkish", list(STARTS)[0]]
    assert worse["tone"] == "higher" and worse["text"].startswith("+")
    assert all(cell["tone"] == "lower" for key, cell in cells.items() if cell is not worse)
    assert max(cell["shade"] for cell in cells.values()) == MOST_SHADE
    own = {start for (language, start), cell in cells.items() if language == "English" and cell["own"]}
    assert own == {name for name, (_, tags) in STARTS.items() if "en" in tags}
    both = {start for (language, start), cell in cells.items() if language == "en-de" and cell["own"]}
    assert both == {name for name, (_, tags) in STARTS.items() if {"en", "de"} <= set(tags)}


def test_changes_in_the_map_are_those_of_the_runs(shown):
    study, section = shown
    cell = next(c for c in section["cells"] if c["start"] == "8h-4-0" and c["column"] == 1)
    none = next(c for c in section["cells"] if c["start"] == "none" and c["column"] == 1)
    assert cell["change"] == pytest.approx(cell["error"] / none["error"] - 1)
    mean = [c["change"] for c in section["cells"] if c["start"] == "8h-4-0"]
    row = next(row for row in section["starts"] if row["start"] == "8h-4-0")
    assert row["change"] == pytest.approx(np.expm1(np.log1p(mean).mean()))


def test_charts_show_what_is_known(shown):
    study, section = shown
    gallery = Gallery(study, {"transfer": section, "metric": "cer"})

    def values(spec, layer):
        return spec["datasets"][(spec["layer"][layer].get("data") or spec["data"])["name"]]

    panels = gallery.transfer()
    assert len(panels) == 4
    similarity, hours, _, ranks = (gallery.specs[panel["chart"]] for panel in panels)
    assert len(values(similarity, 1)) == 8 * 6
    assert {row["hours"] for row in values(hours, 0)} == {8, 32}
    assert len(values(ranks, 1)) == 9
    unknown = {**section, "starts": [{**row, "hours": None} for row in section["starts"]]}
    unknown["cells"] = [{**cell, "nearest": {}} for cell in section["cells"]]
    assert len(Gallery(study, {"transfer": unknown, "metric": "cer"}).transfer()) == 1
