"""The files of transcripts, read back by other people's libraries; and the names of recordings and their files."""

import html
import io
import json
import xml.etree.ElementTree as Xml
from pathlib import Path

import pympi
import pytest
import srt
import textgrid
import webvtt
from praatio import textgrid as praat

from headstart.errors import HeadstartError
from headstart.score.files import read_transcripts
from headstart.transcribe.command import FORMAT_NAMES
from headstart.transcribe.formats import CUE_CHARACTERS, FORMATS, LINE_CHARACTERS, Transcript
from headstart.transcribe.recognition import Segment, Word
from headstart.transcribe.sources import sources

LONG = "ñuka ayllullaktata riksichikrinimi mana alli shimikuna tiyashkamanta jaboneropa nishpa riksinkuna".split()


def words(texts: list[str], begin: float, confidence: float | None = 0.5) -> list[Word]:
    return [Word(text, begin + i, begin + i + 0.75, confidence) for i, text in enumerate(texts)]


@pytest.fixture
def transcript() -> Transcript:
    """Four segments; the last but one is long, and the last has a word of no known confidence."""
    segments = [
        Segment(0.5, 3.5, words(["क्या", "l'été", "r<b>&amp;d"], 0.625)),
        Segment(5.0, 7.0, words(['say"so"', "مرحبا"], 5.0)),
        Segment(10.0, 21.0, words(LONG, 10.0)),
        Segment(3599.0, 3601.0, words(["後"], 3599.75, None)),
    ]
    return Transcript(Path("folder/a b.wav"), "a b", 3605.0, segments)


def spoken(transcript: Transcript) -> list[tuple[str, float, float]]:
    return [(w.text, w.start_s, w.end_s) for segment in transcript.segments for w in segment.words]


def test_the_command_offers_every_format():
    assert tuple(FORMATS) == FORMAT_NAMES


def test_text_has_a_line_for_each_segment(transcript):
    assert FORMATS["text"].write(transcript).splitlines() == [segment.text for segment in transcript.segments]


def test_json_lines_hold_words_with_times_and_confidences(transcript):
    lines = [json.loads(line) for line in FORMATS["json"].write(transcript).splitlines()]
    assert [line["recording"] for line in lines] == ["folder/a b.wav"] * 4
    found = [(w["text"], w["start_s"], w["end_s"]) for line in lines for w in line["words"]]
    assert found == spoken(transcript)
    assert [line["confidence"] for line in lines] == [0.5, 0.5, 0.5, None]
    assert [line["text"] for line in lines] == [segment.text for segment in transcript.segments]


def test_ctm_is_read_by_our_scoring_and_has_five_or_six_fields(transcript, tmp_path):
    path = tmp_path / "a.ctm"
    path.write_text(FORMATS["ctm"].write(transcript), encoding="utf-8")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(r[4], float(r[2]), round(float(r[2]) + float(r[3]), 3)) for r in rows] == spoken(transcript)
    assert [len(row) for row in rows] == [6] * (len(rows) - 1) + [5]
    assert {(row[0], row[1]) for row in rows} == {("a_b", "1")}
    (read,) = read_transcripts(path).values()
    assert read.text.split() == [word for word, *_ in spoken(transcript)]


def cues(text: str, kind: str) -> list[tuple[float, float, str]]:
    if kind == "srt":
        found = list(srt.parse(text, ignore_errors=False))
        assert [cue.index for cue in found] == list(range(1, len(found) + 1))
        return [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in found]
    found = webvtt.from_buffer(io.StringIO(text)).captions
    return [(in_seconds(cue.start), in_seconds(cue.end), cue.text) for cue in found]


def in_seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_hold_all_words_in_lines_that_can_be_read(transcript, kind):
    text = FORMATS[kind].write(transcript)
    found = cues(text, kind)
    said = " ".join(content for *_, content in found).replace("\n", " ")
    if kind == "vtt":
        said = html.unescape(said)  # WebVTT writes & and < as in HTML, and webvtt-py leaves that as it is
        assert "r&lt;b&gt;&amp;amp;d" in text
    assert said.split() == [word for word, *_ in spoken(transcript)]
    for (start, end, content), after in zip(found, [*found[1:], None], strict=True):
        lines = content.split("\n")
        assert len(lines) <= 2 and sum(map(len, lines)) <= CUE_CHARACTERS + 10 and start < end
        assert len(lines) == 1 or max(map(len, lines)) <= LINE_CHARACTERS + 15
        assert after is None or end <= after[0]
    assert found[0][0] == pytest.approx(0.625, abs=1e-3) and found[-1][0] == pytest.approx(3599.75, abs=1e-3)
    if kind == "srt":
        assert "00:59:59,750 --> 01:00:00,550" in text  # no cue is shorter than 0.8 s


def test_textgrids_are_read_by_two_libraries(transcript, tmp_path):
    path = tmp_path / "a.TextGrid"
    path.write_text(FORMATS["textgrid"].write(transcript), encoding="utf-8")
    grid = textgrid.TextGrid.fromFile(str(path))
    assert [tier.name for tier in grid] == ["segments", "words"] and grid.maxTime == 3605.0
    found = [(i.mark, i.minTime, i.maxTime) for i in grid.getFirst("words") if i.mark]
    assert found == spoken(transcript)
    for tier in grid:  # Praat wants intervals without gaps
        assert tier[0].minTime == 0 and tier[-1].maxTime == 3605.0
        assert all(a.maxTime == b.minTime for a, b in zip(tier, tier[1:], strict=False))
    again = praat.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="error")
    entries = again.getTier("segments").entries
    assert [(e.label, e.start, e.end) for e in entries] == [(s.text, s.start_s, s.end_s) for s in transcript.segments]


def test_elan_files_are_read_by_pympi_with_words_inside_segments(transcript, tmp_path):
    path = tmp_path / "a.eaf"
    path.write_text(FORMATS["elan"].write(transcript), encoding="utf-8")
    read = pympi.Elan.Eaf(str(path))
    segments, said = (sorted(read.get_annotation_data_for_tier(tier)) for tier in ("segments", "words"))
    assert [row[2] for row in segments] == [segment.text for segment in transcript.segments]
    assert [(text, start / 1000, end / 1000) for start, end, text in said] == spoken(transcript)
    for start, end, _ in said:
        assert sum(a <= start and end <= b for a, b, _ in segments) == 1
    assert read.get_parameters_for_tier("words")["PARENT_REF"] == "segments"
    assert read.get_linked_files()[0]["RELATIVE_MEDIA_URL"] == "./a b.wav"
    times = [int(slot.get("TIME_VALUE")) for slot in Xml.parse(path).getroot().iter("TIME_SLOT")]
    assert times == sorted(times)


@pytest.mark.parametrize("name", FORMATS)
def test_a_recording_without_words_has_a_valid_file(name, tmp_path):
    made = FORMATS[name].write(Transcript(Path("a.wav"), "a", 2.0, []))
    path = tmp_path / "a"
    path.write_text(made, encoding="utf-8")
    if name == "textgrid":
        assert [len(tier) for tier in textgrid.TextGrid.fromFile(str(path))] == [1, 1]
    elif name == "elan":
        assert pympi.Elan.Eaf(str(path)).get_annotation_data_for_tier("words") == []
    elif name == "vtt":
        assert webvtt.from_buffer(io.StringIO(made)).captions == []
    else:
        assert made == ""


def test_words_that_touch_or_overlap_still_make_intervals_in_order(tmp_path):
    """The two sides of a cut may each place a word a frame into the other, and a word may have a single frame."""
    said = [Word("a", 1.0, 1.3, 0.9), Word("b", 1.28, 1.3, 0.9), Word("c", 1.3, 1.30004, 0.9), Word("d", 1.4, 1.6, 0.9)]
    both = Transcript(Path("a.wav"), "a", 1.5, [Segment(1.0, 1.35, said[:3]), Segment(1.34, 1.5, said[3:])])
    path = tmp_path / "a"
    path.write_text(FORMATS["textgrid"].write(both), encoding="utf-8")
    grid = textgrid.TextGrid.fromFile(str(path))
    assert [i.mark for i in grid.getFirst("words") if i.mark] == list("abcd")
    path.write_text(FORMATS["elan"].write(both), encoding="utf-8")
    rows = sorted(pympi.Elan.Eaf(str(path)).get_annotation_data_for_tier("words"))
    assert [row[2] for row in rows] == list("abcd") and all(a[1] <= b[0] for a, b in zip(rows, rows[1:], strict=False))
    assert all(start < end for start, end, _ in rows)


# ---------------------------------------------------------------------------------------------- recordings


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_are_searched_and_names_tell_recordings_apart(tmp_path):
    touched(tmp_path, "a/x.wav", "a/x.MP3", "a/deep/x.flac", "a/notes.txt", "a/.hidden/y.wav", "z.m4a", "odd.data")
    found = sources([tmp_path / "a", tmp_path / "z.m4a", tmp_path / "odd.data", tmp_path / "a/deep"])
    assert {source.name for source in found} == {"deep/x", "x.MP3", "x.wav", "z", "odd"}
    assert len(found) == 5  # the recording of a folder that was named twice comes once


def test_what_is_no_recording_is_named(tmp_path):
    with pytest.raises(HeadstartError, match="missing.wav: no such file"):
        sources([tmp_path / "missing.wav"])
    touched(tmp_path, "a/notes.txt", "b/x.wav", "c/x.wav")
    with pytest.raises(HeadstartError, match="a: no audio file in this folder"):
        sources([tmp_path / "a"])
    with pytest.raises(HeadstartError, match=r"b/x.wav and .*c/x.wav would have transcripts of the same name"):
        sources([tmp_path / "b/x.wav", tmp_path / "c/x.wav"])
    assert [source.name for source in sources([tmp_path])] == ["b/x", "c/x"]
