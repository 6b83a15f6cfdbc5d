"""Readers of annotated recordings: ELAN, Praat and subtitles, written by other programs and by hand."""

import logging
from pathlib import Path

import pytest
from miniature import entries, reading, recording, write
from praatio import textgrid
from praatio.utilities.constants import Interval
from pympi.Elan import Eaf

from headstart.corpora.reader import AudioReference, CorpusError, Reject

LABELS = [(0.5, 1.5, "mana kanchu"), (1.5, 2.0, "sil"), (2.25, 3.0, 'ñuka "wasi"')]
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 4
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "utterance"
        xmin = 0
        xmax = 4
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 1e0
            text = "one ""two"" item [2]: size = 9
three"
        intervals [2]:
            xmin = 1
            xmax = 2.5
            text = ""
        intervals [3]:
            xmin = 2.5
            xmax = 4
            text = "four"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 4
        points: size = 1
        points [1]:
            number = 1.5
            mark = "!"
"""


def write_textgrid(path: Path, form: str, **tiers: list[tuple[float, float, str]]) -> None:
    """A TextGrid as praatio writes it."""
    grid = textgrid.Textgrid()
    for name, labels in tiers.items():
        grid.addTier(textgrid.IntervalTier(name, [Interval(*label) for label in labels], 0, 4))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(str(path), form, includeBlankSpaces=True)


@pytest.mark.parametrize("form", ["short_textgrid", "long_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_textgrids_of_every_text_form_are_read(tmp_path, form, encoding):
    recording(tmp_path / "anna/story.wav", seconds=4)
    path = tmp_path / "anna/story.TextGrid"
    write_textgrid(path, form, utterance=LABELS)
    path.write_bytes(path.read_text(encoding="utf-8").replace("\n", "\r\n").encode(encoding))
    found = entries("textgrid", tmp_path, speaker_pattern="^([^/]+)/")
    assert [(e.utterance_id, e.audio, e.text, e.speaker) for e in found] == [
        ("anna/story-0000500-0001500", AudioReference("anna/story.wav", 0.5, 1.0), "mana kanchu", "anna"),
        ("anna/story-0002250-0003000", AudioReference("anna/story.wav", 2.25, 0.75), 'ñuka "wasi"', "anna"),
    ]


def test_a_textgrid_is_its_values_and_not_its_words(tmp_path):
    recording(tmp_path / "a.wav", seconds=4)
    write(tmp_path / "a.TextGrid", LONG)
    assert [(e.audio.offset_s, e.audio.duration_s, e.text) for e in entries("textgrid", tmp_path)] == [
        (0.0, 1.0, 'one "two" item [2]: size = 9 three'),
        (2.5, 1.5, "four"),
    ]


DAMAGE = {
    "cut": lambda text: text[: text.index("intervals [3]")],
    "an open quote": lambda text: text.replace('"four"', '"four'),
    "another count": lambda text: text.replace("intervals: size = 3", "intervals: size = 2"),
    "times that go back": lambda text: text.replace(
        "xmin = 2.5\n            xmax = 4", "xmin = 0.5\n            xmax = 4"
    ),
    "a longer tier": lambda text: text.replace("            xmax = 4\n", "            xmax = 40\n"),
    "another kind": lambda text: text.replace('"TextGrid"', '"Pitch 1"'),
    "no text": lambda text: "ooBinaryFile\x08TextGrid" + text,
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_textgrid_is_named(tmp_path, damage):
    recording(tmp_path / "a.wav", seconds=4)
    write_textgrid(tmp_path / "b.TextGrid", "short_textgrid", utterance=LABELS)
    write(tmp_path / "a.TextGrid", DAMAGE[damage](LONG))
    with pytest.raises(CorpusError, match=r"1 file\(s\) of labels cannot be read.*\n.*a.TextGrid: "):
        entries("textgrid", tmp_path)


def test_several_tiers_are_listed_and_chosen_by_name_or_pattern(tmp_path, caplog):
    recording(tmp_path / "train/talk.flac", seconds=4)
    anna, ben = [(0.5, 2.0, "ari")], [(1.5, 3.0, "mana"), (3.2, 3.8, "sí")]
    write_textgrid(
        tmp_path / "train/talk.TextGrid",
        "short_textgrid",
        **{"Anna-txt": anna, "Ben-txt": ben, "Ben-gloss": [(1.5, 3.0, "no")], "lang": [(3.0, 4.0, "ES")]},
    )
    with pytest.raises(CorpusError) as caught:
        entries("textgrid", tmp_path)
    assert "Name them in `tiers`" in str(caught.value)
    assert "\n  Anna-txt: 1 file(s), 1 labels, such as 'ari'\n" in str(caught.value)
    settings = {
        "tiers": ["*-txt"],
        "speakers": {"Anna-*": "anna", "Ben-*": "ben"},
        "languages": {"Ben-*": "quw"},
        "language_tier": "lang",
        "language_labels": {"ES": "es"},
    }
    with caplog.at_level(logging.INFO):
        found = entries("textgrid", tmp_path, language="qu", **settings)
    assert [(e.text, e.speaker, e.language, e.split) for e in found] == [
        ("ari", "anna", "qu", "train"),
        ("mana", "ben", "quw", "train"),
        ("sí", "ben", "es", "train"),
    ]
    assert found[0].utterance_id == "train/talk-Anna-txt-0000500-0002000"
    assert "during 2 labels somebody else speaks too; they are kept" in caplog.text
    kept = entries("textgrid", tmp_path, **settings, overlaps="reject")
    assert [isinstance(entry, Reject) for entry in kept] == [True, True, False]
    with pytest.raises(CorpusError, match="no file has a tier with labels that is called 'txt'"):
        entries("textgrid", tmp_path, tiers=["txt"])


def write_eaf(path: Path, media: str = "file:///C:/field/session.wav") -> Eaf:
    """Two speakers with a reference tier each, as Toolbox and ELAN templates have it."""
    file = Eaf(author="test")
    file.remove_tier("default")
    file.add_linguistic_type("ref")
    file.add_linguistic_type("tx", constraints="Symbolic_Association", timealignable=False)
    file.add_linguistic_type("wd", constraints="Symbolic_Subdivision", timealignable=False)
    for who, begin, text in (("anna", 500, "mana kanchu"), ("ben", 2000, "ñuka wasi")):
        file.add_tier(f"ref@{who}", "ref", part=who)
        file.add_tier(f"tx@{who}", "tx", parent=f"ref@{who}", part=who)
        file.add_tier(f"wd@{who}", "wd", parent=f"ref@{who}", part=who)
        file.add_annotation(f"ref@{who}", begin, begin + 1000, f"{who}.001")
        file.add_ref_annotation(f"tx@{who}", f"ref@{who}", begin + 500, text)
        for word in text.split():
            file.add_ref_annotation(f"wd@{who}", f"ref@{who}", begin + 500, word)
    file.add_linked_file(media, mimetype="audio/x-wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    file.to_file(str(path))
    return file


def test_elan_files_name_speakers_and_recordings(tmp_path):
    recording(tmp_path / "audio/session.wav", seconds=4)
    write_eaf(tmp_path / "elan/s1-final.eaf")
    with pytest.raises(CorpusError, match="ref@anna: ref, anna, 1 file.s., 1 labels, such as 'anna.001'"):
        entries("elan", tmp_path)
    found = entries("elan", tmp_path, tiers=["tx@*"])
    assert [(e.utterance_id, e.audio, e.text, e.speaker) for e in found] == [
        ("elan/s1-final-tx@anna-0000500-0001500", AudioReference("audio/session.wav", 0.5, 1.0), "mana kanchu", "anna"),
        ("elan/s1-final-tx@ben-0002000-0003000", AudioReference("audio/session.wav", 2.0, 1.0), "ñuka wasi", "ben"),
    ]
    words = entries("elan", tmp_path, tiers=["wd@*"])  # the words of one annotation are one utterance
    assert [e.text for e in words] == ["mana kanchu", "ñuka wasi"]
    (tmp_path / "audio/session.wav").rename(tmp_path / "audio/other.wav")
    gone = entries("elan", tmp_path, tiers=["tx@*"])
    assert [e.reason for e in gone] == [
        "audio file not found: no recording, or several, of the name of elan/s1-final.eaf"
    ] * 2


def test_an_elan_file_with_one_tier_needs_no_settings(tmp_path):
    recording(tmp_path / "a.wav", seconds=4)
    file = Eaf(author="test")
    for begin, end, text in LABELS:
        file.add_annotation("default", int(begin * 1000), int(end * 1000), text)
    file.to_file(str(tmp_path / "a.eaf"))
    text = (tmp_path / "a.eaf").read_text()
    write(
        tmp_path / "a.eaf", text.replace(' TIME_VALUE="1500"', "")
    )  # ELAN leaves inner times out where nobody set them
    rows = reading("elan", tmp_path)
    assert [row["text"] for row in rows.rows["train"]] == ['ñuka "wasi"']
    assert [row["reason"] for row in rows.rejects["train"]] == [
        "malformed times: label 1 of tier 'default' of a.eaf, 0.5 to None s"
    ]


BOMB = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "lol"}">' for i in range(10))
EAF = {
    "entities": lambda text: text.replace("?>", f"?><!DOCTYPE ANNOTATION_DOCUMENT [{BOMB}]>", 1),
    "files": lambda text: text.replace("?>", '?><!DOCTYPE x [<!ENTITY e SYSTEM "/etc/passwd">]>', 1),
    "cut": lambda text: text[: len(text) // 2],
    "no times": lambda text: text.replace("TIME_SLOT_ID", "TIME_SLOT"),
    "another root": lambda text: "<html/>",
    "an origin": lambda text: text.replace("MIME_TYPE", 'TIME_ORIGIN="2000" MIME_TYPE'),
}


@pytest.mark.parametrize("damage", EAF)
def test_a_damaged_or_dangerous_elan_file_is_named(tmp_path, damage):
    recording(tmp_path / "a.wav", seconds=4)
    write_eaf(tmp_path / "a.eaf")
    text = (tmp_path / "a.eaf").read_text()
    assert EAF[damage](text) != text
    write(tmp_path / "a.eaf", EAF[damage](text))
    with pytest.raises(CorpusError, match=r"1 file\(s\) of labels cannot be read.*\n.*a.eaf: "):
        entries("elan", tmp_path, tiers=["tx@*"])


SRT = """1
00:00:00,500 --> 00:00:01,500
<i>Mana</i> kanchu,
{\\an8}wasi

2
00:00:01,500 --> 00:00:02,000
♪

3
00:00:02,250 --> 00:00:03,000
Ari
"""
VTT = """WEBVTT - a title

NOTE nothing

STYLE
::cue { color: red }

first
00:00.500 --> 00:01.500 align:start
<v Anna>Mana <b>kanchu</b>

00:00:02.250 --> 00:00:03.000
<v Ben>Ari
"""


def test_subtitles_are_stretches_of_their_recordings(tmp_path):
    recording(tmp_path / "one.mp3", seconds=4)
    write(tmp_path / "one.srt", SRT, encoding="utf-8-sig", end="\r\n")
    recording(tmp_path / "two.ogg", seconds=4)
    write(tmp_path / "two.vtt", VTT)
    found = entries("subtitles", tmp_path)
    assert [(e.utterance_id, e.audio, e.text, e.speaker) for e in found] == [
        ("one-0000500-0001500", AudioReference("one.mp3", 0.5, 1.0), "Mana kanchu, wasi", None),
        ("one-0002250-0003000", AudioReference("one.mp3", 2.25, 0.75), "Ari", None),
        ("two-0000500-0001500", AudioReference("two.ogg", 0.5, 1.0), "Mana kanchu", "Anna"),
        ("two-0002250-0003000", AudioReference("two.ogg", 2.25, 0.75), "Ari", "Ben"),
    ]
    for name, text in {
        "one.srt": SRT.replace("00:00:02,250", "00:00:02;x"),
        "two.vtt": VTT.replace("02.250", "02:250"),
    }.items():
        before = (tmp_path / name).read_text(encoding="utf-8-sig")
        write(tmp_path / name, text)
        with pytest.raises(CorpusError, match=f"{name}: damaged"):
            entries("subtitles", tmp_path)
        write(tmp_path / name, before)


def test_a_recording_with_labels_in_another_folder_or_of_another_case_is_found(tmp_path):
    recording(tmp_path / "corpus/wav/STORY.WAV", seconds=4)
    write_textgrid(tmp_path / "corpus/tg/story.TextGrid", "short_textgrid", utterance=LABELS)
    assert [e.audio.path for e in entries("textgrid", tmp_path / "corpus")] == ["wav/STORY.WAV"] * 2
    assert [e.audio.path for e in entries("textgrid", tmp_path / "corpus", audio="wav")] == ["wav/STORY.WAV"] * 2
    recording(tmp_path / "corpus/old/story.wav", seconds=4)
    assert all("or several" in e.reason for e in entries("textgrid", tmp_path / "corpus"))
    (tmp_path / "corpus/wav").rename(tmp_path / "wav")
    (tmp_path / "corpus/old/story.wav").unlink()
    with pytest.raises(CorpusError, match="lies outside the corpus folder.*`outside: true`"):
        reading("textgrid", tmp_path / "corpus", audio="../wav")
    assert len(reading("textgrid", tmp_path / "corpus", audio="../wav", outside=True).rows["train"]) == 2


def test_references_of_an_elan_file_lead_to_times_or_an_error(tmp_path):
    """Through dependent tiers with times of their own, which pympi cannot follow; not in a circle, nor to nothing."""
    recording(tmp_path / "a.wav", seconds=4)
    file = Eaf(author="test")
    file.add_linguistic_type("in", constraints="Included_In")
    file.add_linguistic_type("of", constraints="Symbolic_Association", timealignable=False)
    file.add_tier("phrase", "in", parent="default")
    file.add_tier("tx", "of", parent="phrase")
    file.add_annotation("default", 500, 3000, "turn")
    file.add_annotation("phrase", 750, 1750, "p1")
    (phrase,) = file.tiers["phrase"][0]
    own = file.generate_annotation_id()
    for refers, expected in ((phrase, None), (own, f"annotation {own} refers to itself"), ("a99", "it lacks a99")):
        file.tiers["tx"][1][own] = (refers, "ari mana", None, None)
        file.annotations[own] = "tx"
        file.to_file(str(tmp_path / "a.eaf"))
        if expected is None:
            (found,) = entries("elan", tmp_path, tiers=["tx"])
            assert (found.audio, found.text) == (AudioReference("a.wav", 0.75, 1.0), "ari mana")
        else:
            with pytest.raises(CorpusError, match=f"a.eaf: damaged.*{expected}.* Save it anew in ELAN"):
                entries("elan", tmp_path, tiers=["tx"])
