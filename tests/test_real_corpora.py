"""Real recordings, where they lie beside the checkout, read in the form that they have there: tables and clips.

The Kichwa ones are also put into the layout that their authors distribute, from the same texts, times and tags.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from killkan import Sentence, write_chapter, write_treebank
from miniature import reading

from headstart.corpora.manifests import MANIFEST
from headstart.features.audio import SAMPLE_RATE, load_audio
from headstart.text.tags import NO_SPEECH, SEVERAL, UNDETERMINED

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


CODES = {"KC": "qu", "ES": "es", "MIXED": SEVERAL, "LANG3": UNDETERMINED, "OTHER": NO_SPEECH}


def chapters(count: int) -> dict[int, list[dict]]:
    """Rows of the first sentences of two episodes of the Kichwa corpus."""
    with open(DATA / "kichwa_spanish/metadata.tsv", encoding="utf-8") as file:
        table = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {n: [row for row in table if row["speaker"] == f"ep{n:02d}"][:count] for n in (1, 7)}


def joined(rows: list[dict], path: Path) -> list[Sentence]:
    """Write the clips of an episode one after the other, with pauses, as a recording; the sentences have its times."""
    parts, sentences, at = [], [], 0
    for row in rows:
        pause = np.zeros(SAMPLE_RATE // 4 - at % 16, np.int16)  # sentences begin at whole milliseconds
        clip = load_audio(str(DATA / "kichwa_spanish" / row["path"]))
        begin, at = at + len(pause), at + len(pause) + len(clip)
        parts += [pause, clip]
        words = zip(row["tokens"].split(), row["token_languages"].split(), strict=True)
        facts = [(word, f"CSID={code}") for word, code in words]
        sentences.append(Sentence(begin // 16, at // 16, row["text"], facts))
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.concatenate(parts), SAMPLE_RATE, subtype="PCM_16")
    return sentences


@pytest.mark.parametrize("form", ["treebank", "elan"])
def test_real_sentences_in_the_layout_of_killkan_are_what_the_table_says(form, tmp_path):
    episodes = chapters(40)
    sentences = {n: joined(rows, tmp_path / f"Chapter{n}" / f"{n:02d} MASTER.flac") for n, rows in episodes.items()}
    if form == "treebank":
        write_treebank(tmp_path / "kc_killkan-ud-train.conllu", sentences)
    for n in sentences if form == "elan" else ():
        write_chapter(tmp_path / f"Chapter{n}" / f"Chapter{n}.eaf", sentences[n])
    found = reading("killkan", tmp_path, min_seconds=0.05)
    assert not any(found.rejects.values())
    expected = [(n, place, row) for n, rows in episodes.items() for place, row in enumerate(rows)]
    assert {tag for *_, row in expected for tag in row["token_languages"].split()} >= {"KC", "ES", "MIXED", "OTHER"}
    for own, (n, place, row) in zip(found.rows["train"], expected, strict=True):
        assert own["utterance_id"] == f"{n}_{place}" and own["speaker"] == f"chapter{n}"
        assert own["text"] == row["text"] and own["tokens"] == row["tokens"].split()
        assert own["token_languages"] == [CODES[code] for code in row["token_languages"].split()]
        assert own["duration_s"] == pytest.approx(float(row["duration_s"]), abs=0.002)
    for own, (*_, row) in list(zip(found.rows["train"], expected, strict=True))[::16]:
        whole = load_audio(str(DATA / "kichwa_spanish" / row["path"]))
        part = load_audio(own["audio_path"], own["offset_s"], own["duration_s"])
        assert np.abs(part.astype(int) - whole[: len(part)]).max() <= 1  # written in 16 bits once more
        assert len(whole) - len(part) < 16


def test_real_sentences_as_files_of_their_own_are_those_of_the_treebank(tmp_path):
    episodes = chapters(25)
    for n, rows in episodes.items():
        for place, row in enumerate(rows):
            folder = tmp_path / f"Chapter{n}" / str(place + 1)
            folder.mkdir(parents=True)
            (folder / f"{n:02d} MASTER K{n}{place + 1}.ogg").symlink_to(DATA / "kichwa_spanish" / row["path"])
    said = {
        n: [Sentence(0, 1, row["text"], [(w, "CSID=KC") for w in row["tokens"].split()]) for row in rows]
        for n, rows in episodes.items()
    }
    write_treebank(tmp_path / "kc_killkan-ud-train.conllu", said)
    found = reading("killkan", tmp_path, min_seconds=0.05, outside=True)
    expected = [row for rows in episodes.values() for row in rows]
    assert [row["text"] for row in found.rows["train"]] == [row["text"] for row in expected]
    assert [row["duration_s"] for row in found.rows["train"]] == pytest.approx(
        [float(row["duration_s"]) for row in expected], abs=0.01
    )
