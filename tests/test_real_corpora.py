"""Real recordings, where they lie beside the checkout, read in the form that they have there: tables and clips."""

from pathlib import Path

import pytest
from miniature import reading

from headstart.corpora.manifests import MANIFEST

DATA = Path(__file__).parents[2] / "shared" / "data"
FACTS = {  # folder -> language, utterances, hours and speakers, by the README beside the data
    "kichwa_spanish": ("qu", 3528, 3.5, None),
    "german": ("de", 583, 0.75, 1),
    "dutch": ("nl", 657, 0.4, 1),
    "swahili": ("sw", 233, 1.0, 1),
    "english_digits": ("en", 808, 0.1, 6),
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings are not beside the checkout")


@pytest.mark.parametrize("folder", FACTS)
def test_the_table_of_a_real_corpus_is_read_whole(folder):
    language, count, hours, speakers = FACTS[folder]
    columns = {"speaker": "speaker", "split": "split", "language": "language"}
    found = reading("folder", DATA / folder, language=language, columns=columns, min_seconds=0.05, max_seconds=60)
    rows = [row for split in found.rows.values() for row in split]
    assert len(rows) == count and not any(found.rejects.values())
    assert sum(row["duration_s"] for row in rows) / 3600 == pytest.approx(hours, abs=0.06)
    assert speakers is None or len({row["speaker"] for row in rows}) == speakers
    assert all(row["text"] and row.keys() <= set(MANIFEST.names) for row in rows)
    if folder == "kichwa_spanish":  # some sentences are in train and dev
        assert any("sentences also occur in train" in note for note in found.notes)


def test_real_clips_are_read_alone_as_audio():
    found = reading("clips", DATA / "english_digits", language="en", transcripts=False, min_seconds=0.05)
    rows = found.rows["train"]
    assert len(rows) == FACTS["english_digits"][1] and {row["text"] for row in rows} == {None}
    assert len({row["utterance_id"] for row in rows}) == len(rows)
