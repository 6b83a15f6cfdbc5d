"""Model cards: what the hub reads in them, and what they say."""

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData
from test_report import CORPORA, fabricate, study_of

from headstart.files import write_json
from headstart.report.cards import ancestry, licence_of, write_cards
from headstart.report.sentences import rate, span
from headstart.summarise.summary import summarise
from headstart.summarise.tables import run_folder

RUN = ("ssl-multi", "swahili", "10min", 2)


def study_with_licences():
    licensed = {"sw": {"reader": "folder", "path": "sw", "language": "sw", "licence": "cc-by-4.0"}}
    return study_of(corpora=licensed)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    results, study = tmp_path_factory.mktemp("results"), study_with_licences()
    fabricate(results, study)
    for run in study.runs():
        write_json(run_folder(results, study.study, run) / "config.json", {"model_type": "wav2vec2"})
    summary = summarise(study, results)
    write_cards(study, summary, results, CORPORA)
    return study, results, summary


def card(results: Path, run=RUN) -> ModelCard:
    return ModelCard.load(run_folder(results, "tiny", run) / "README.md", ignore_metadata_errors=False)


def test_every_run_has_a_card_that_the_hub_can_read(cards):
    study, results, summary = cards
    for run in study.runs():
        data = card(results, run).data
        assert isinstance(data, ModelCardData)
        assert data.library_name == "transformers" and data.pipeline_tag == "automatic-speech-recognition"
        assert data.language == ["sw"] and "headstart" in data.tags
        # What huggingface_hub makes of the model-index, and what it writes of that, is the same again.
        assert len(data.eval_results) == 2 and data.model_name
        again = ModelCardData(**ModelCard(f"---\n{data.to_yaml()}\n---\n").data.to_dict(), ignore_metadata_errors=False)
        assert again.to_dict() == data.to_dict()
        (own,) = [r for r in summary["runs"] if (r["start"], r["target"], r["budget"], r["seed"]) == run]
        found = {result.metric_type: result.metric_value for result in data.eval_results}
        assert found == {name: pytest.approx(100 * own[name], abs=0.01) for name in ("wer", "cer")}
        assert {(r.dataset_type, r.dataset_split, r.task_type) for r in data.eval_results} == {
            ("sw", "test", "automatic-speech-recognition")
        }


def test_a_card_says_rates_with_intervals_data_and_licences(cards):
    _, results, summary = cards
    text = card(results).text
    (cell,) = [row for row in summary["cells"] if row["start"] == "ssl-multi"]
    assert f"| {rate(cell['wer'])} | {span(cell['wer_low'], cell['wer_high'])} |" in text
    assert "mean of 4 seeds" in text and "95% interval" in text
    rows = re.findall(r"^\| sw \| (.+?) \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert rows == [
        ("1.5 h", "pre-training", "cc-by-4.0"),
        ("3 h", "pre-training", "cc-by-4.0"),
        ("10min", "fine-tuning with transcripts", "cc-by-4.0"),
    ]
    assert "The encoder began with random weights" in text
    assert 'transformers.pipeline("automatic-speech-recognition"' in text and "headstart transcribe" in text


def test_a_licence_is_claimed_only_where_all_are_known_and_the_same(cards):
    _, results, _ = cards
    assert card(results).data.license == "cc-by-4.0"
    # The licence of this start's checkpoint is not in the study.
    other = card(results, ("xlsr", "swahili", "10min", 1))
    assert other.data.license == "unknown" and "not all stated" in other.text and "models/xlsr" in other.text
    assert licence_of(["mit", "cc0-1.0"])["license"] == "other"
    assert licence_of(["Of my own", "Of my own"]) == {"license": "other", "license_name": "see-the-section-licences"}
    assert licence_of(["MIT", "MIT"]) == {"license": "mit"}
    assert licence_of([]) == licence_of(["mit", None]) == {"license": "unknown"}


def test_ancestors_come_oldest_first_and_no_path_of_a_machine_is_told():
    start = {"kind": "hub", "path": "/home/somebody/models/xlsr", "facts": {"licence": "apache-2.0"}}
    more = {"kind": "ssl", "from": "xlsr", "corpora": {"sw": 1}}
    steps = ancestry(
        study_of(
            starts={"scratch": {"kind": "scratch"}, "xlsr": start, "ssl-mono": more},
            contrasts=[],
            claims=[],
            analyse=None,
        ),
        "ssl-mono",
    )
    assert [step["name"] for step in steps] == ["xlsr", "ssl-mono"]
    assert steps[0]["origin"] == "xlsr" and steps[0]["licence"] == "apache-2.0" and not steps[0]["random"]
