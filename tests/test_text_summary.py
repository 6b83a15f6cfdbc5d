"""Summaries of transcripts: nothing that normalisation leaves out is left out in silence."""

import logging

import pytest

from headstart.corpora.manifests import FEATURES, read_table, write_table
from headstart.features.clips import Clips
from headstart.study.text import Text
from headstart.text.normalisation import references
from headstart.text.summary import TextSummary, describe_texts, log_summary

ROWS = [
    ("Col·legi, e-mail e-mail!", "ca", None, None),
    ("[UNK] ñandú (uh)", "ca", ["[UNK]", "ñandú", "(uh)"], ["zxx", "gn", "zxx"]),
    ("sí", "ca", ["no"], ["es"]),
    (None, "ca", None, None),
    ("aaaaa lllll", "ca", None, None),
    ("‘quoted’", "ca", None, None),
]


def test_what_is_dropped_split_rare_and_tagged_is_counted():
    summary = TextSummary.of(ROWS, Text())
    found = summary.findings
    assert found.dropped == {"·": 1, ",": 1, "-": 2, "!": 1, "[": 1, "]": 1, "(": 1, ")": 1, "‘": 1, "’": 1}
    assert (found.joined, found.split) == ({"·": 1}, {"-": 2})
    assert found.examples == {"·": "col·legi,", "-": "e-mail"}
    assert (found.tags, found.tags_dropped, found.mismatched) == ({"[UNK]": 1, "(uh)": 1}, {}, 1)
    assert summary.characters["a"] == 5 + 2 + 1 and summary.characters["ñ"] == 1 and " " not in summary.characters
    assert {"ñ", "ú", "í"} <= set(summary.rare) and not {"a", "l"} & set(summary.rare)
    assert TextSummary.of(ROWS, Text(keep="'-", tags="drop")).findings.tags_dropped == {"[UNK]": 1, "(uh)": 1}


@pytest.fixture
def clips(make_clips, tmp_path):
    """The rows above as clips, and the path of their feature manifest, `<...>/qu/train.parquet`."""
    import numpy as np

    (tmp_path / "raw").mkdir()
    made = make_clips(tmp_path / "raw", [0.1 * np.ones(8000) * np.sin(np.arange(8000) / 9)] * len(ROWS))
    rows = read_table(made.splits[0].features, FEATURES)
    keys = ("text", "language", "tokens", "token_languages")
    rows = [{**row, **dict(zip(keys, own, strict=True))} for row, own in zip(rows, ROWS, strict=True)]
    path = tmp_path / "qu" / "train.parquet"
    path.parent.mkdir()
    write_table(path, rows, FEATURES)
    return Clips.open(path, made.splits[0].audio.path), str(path)


def test_the_log_says_what_training_transcripts_lose(clips, caplog):
    with caplog.at_level(logging.INFO):
        log_summary("training", clips[0], Text(), training=True)
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert len(levels) == 6
    for level, words in (
        ("INFO", "dropped - 2, "),
        ("INFO", "one word: · 1 (as in col·legi,)"),
        ("WARNING", "split in two at - 2 (as in e-mail)"),
        ("WARNING", "2 non-speech tags are spelt as words: [UNK] 1, (uh) 1"),
        ("WARNING", "tokens of 1 utterances are not those"),
        ("WARNING", "fewer than 5 times and will hardly be learnt: "),
    ):
        assert [levels[message] for message in levels if words in message] == [level], words


def test_the_report_gets_a_row_for_each_split_with_transcripts(clips, tmp_path):
    (row,) = describe_texts([clips[1]], Text())
    assert (row["corpus"], row["split"], row["mismatched"]) == ("qu", "train", 1)
    assert (row["joined"], row["split_on"]) == ("· 1 (as in col·legi,)", "- 2 (as in e-mail)")
    assert row["tags"] == "[UNK] 1, (uh) 1" and "ñ 1" in row["rare"]

    untranscribed = [{**row, "text": None} for row in read_table(clips[1], FEATURES)]
    write_table(tmp_path / "qu" / "dev.parquet", untranscribed, FEATURES)
    assert describe_texts([str(tmp_path / "qu" / "dev.parquet")], Text()) == []


def test_references_are_cased_by_the_tags_of_their_tokens(clips, tmp_path):
    rows = read_table(clips[1], FEATURES)[:1]
    tagged = {"text": "Ich bin Isparta da", "language": "tr", "tokens": "Ich bin Isparta da".split()}
    store = clips[0].take([0]).splits[0].audio.path
    for tags, reference in ((["de", "de", "tr", "tr"], "ich bin ısparta da"), (None, "ıch bin ısparta da")):
        write_table(tmp_path / "t.parquet", [{**row, **tagged, "token_languages": tags} for row in rows] * 6, FEATURES)
        made = Clips.open(tmp_path / "t.parquet", store)
        assert set(references(made, Text())) == {reference}


def test_the_hash_of_clips_knows_the_tags_that_decide_about_their_labels(clips, tmp_path):
    rows, store = read_table(clips[1], FEATURES), clips[0].splits[0].audio.path
    rows[1]["token_languages"] = ["zxx", "tr", "zxx"]
    write_table(tmp_path / "t.parquet", rows, FEATURES)
    assert Clips.open(tmp_path / "t.parquet", store).content != clips[0].content
