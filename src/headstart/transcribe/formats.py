"""The formats of transcripts. Each is a function from a `Transcript` to the text of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from headstart.transcribe.elan import elan
from headstart.transcribe.recognition import Segment, Word, words_in

CUE_S, CUE_CHARACTERS, LINE_CHARACTERS = 7.0, 84, 42  # of subtitles: common limits of broadcasters
CUE_PAUSE_S = 0.6  # a cue ends before a pause of this length
BRIEFEST_CUE_S = 0.8


@dataclass
class Transcript:
    """What is said in a recording.

    Attributes:
        path: of the recording.
        name: see `Source`.
        seconds: length of the recording.
        segments: those with words, in order; they do not overlap.
    """

    path: Path
    name: str
    seconds: float
    segments: list[Segment]


def text(transcript: Transcript) -> str:
    """A line for each segment."""
    return "".join(f"{segment.text}\n" for segment in transcript.segments)


def json_lines(transcript: Transcript) -> str:
    """A JSON object for each segment: recording, times, text, and the words with times and confidences."""
    return "".join(
        json.dumps(
            {
                "recording": str(transcript.path),
                "start_s": round(segment.start_s, 3),
                "end_s": round(segment.end_s, 3),
                "text": segment.text,
                "confidence": _rounded(segment.confidence),
                "words": [
                    {
                        "text": word.text,
                        "start_s": round(word.start_s, 3),
                        "end_s": round(word.end_s, 3),
                        "confidence": _rounded(word.confidence),
                    }
                    for word in segment.words
                ],
            },
            ensure_ascii=False,
        )
        + "\n"
        for segment in transcript.segments
    )


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)


def ctm(transcript: Transcript) -> str:
    """NIST's CTM: recording, channel, beginning, duration, word and, where it is known, confidence."""
    name = "_".join(transcript.name.split())
    lines = []
    for word in words_in(transcript.segments):
        confidence = "" if word.confidence is None else f" {word.confidence:.4f}"
        lines.append(f"{name} 1 {word.start_s:.3f} {word.end_s - word.start_s:.3f} {word.text}{confidence}\n")
    return "".join(lines)


# ---------------------------------------------------------------------------------------------- subtitles


@dataclass
class Cue:
    """A subtitle."""

    start_s: float
    end_s: float
    lines: list[str]


def cues(transcript: Transcript) -> Iterator[Cue]:
    """Subtitles of at most two lines, which are shown while their words are said, but not too briefly."""
    groups = [group for segment in transcript.segments for group in _groups(segment.words)]
    for group, after in zip_longest(groups, groups[1:]):
        latest = after[0].start_s if after else max(transcript.seconds, group[-1].end_s)
        end = min(max(group[-1].end_s, group[0].start_s + BRIEFEST_CUE_S), max(latest, group[-1].end_s))
        yield Cue(group[0].start_s, end, _lines([word.text for word in group]))


def _groups(words: list[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group:
            characters = sum(len(one.text) + 1 for one in group) + len(word.text)
            long = characters > CUE_CHARACTERS or word.end_s - group[0].start_s > CUE_S
            if long or word.start_s - group[-1].end_s > CUE_PAUSE_S:
                yield group
                group = []
        group.append(word)
    if group:
        yield group


def _lines(words: list[str]) -> list[str]:
    """One line, or two of about the same length."""
    whole = " ".join(words)
    if len(whole) <= LINE_CHARACTERS or len(words) == 1:
        return [whole]
    splits = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return list(min(splits, key=lambda both: max(map(len, both))))


def srt(transcript: Transcript) -> str:
    """SubRip subtitles."""
    return "".join(
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n" + "\n".join(cue.lines) + "\n\n"
        for number, cue in enumerate(cues(transcript), 1)
    )


def vtt(transcript: Transcript) -> str:
    """WebVTT subtitles."""
    escaped = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
    return "WEBVTT\n\n" + "".join(
        f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n" + "\n".join(cue.lines).translate(escaped) + "\n\n"
        for cue in cues(transcript)
    )


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, minutes, rest = milliseconds // 3_600_000, milliseconds // 60_000 % 60, milliseconds % 60_000
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


# ---------------------------------------------------------------------------------------------- Praat


def textgrid(transcript: Transcript) -> str:
    """A TextGrid of Praat with the interval tiers `segments` and `words`; what is between them is empty."""
    words = words_in(transcript.segments)
    tiers = {
        "segments": [(one.start_s, one.end_s, one.text) for one in transcript.segments],
        "words": [(one.start_s, one.end_s, one.text) for one in words],
    }
    end = round(max([transcript.seconds, *(row[1] for rows in tiers.values() for row in rows)]), 4)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end}",
        "tiers? <exists>",
    ]
    lines += [f"size = {len(tiers)}", "item []:"]
    for number, (name, rows) in enumerate(tiers.items(), 1):
        intervals = _intervals(rows, end)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end}", f"        intervals: size = {len(intervals)}"]
        for index, (begin, stop, said) in enumerate(intervals, 1):
            said = said.replace('"', '""')
            lines += [f"        intervals [{index}]:", f"            xmin = {begin}", f"            xmax = {stop}"]
            lines += [f'            text = "{said}"']
    return "\n".join(lines) + "\n"


def _intervals(rows: list[tuple[float, float, str]], end: float) -> list[tuple[float, float, str]]:
    """Intervals without gaps from 0 to `end`: those of `rows`, and empty ones."""
    intervals, at = [], 0.0
    for begin, stop, said in rows:
        begin, stop = max(round(begin, 4), at), round(stop, 4)
        if stop <= begin:  # no interval of Praat is empty
            stop = begin + 0.0001
        if begin > at:
            intervals.append((at, begin, ""))
        intervals.append((begin, round(stop, 4), said))
        at = round(stop, 4)
    if at < end or not intervals:
        intervals.append((at, end, ""))
    return intervals


@dataclass(frozen=True)
class Format:
    """A format of transcripts.

    Attributes:
        suffix: of its files.
        write: makes the text of a file.
        many: whether the transcripts of several recordings can follow one another in one file.
    """

    suffix: str
    write: Callable[[Transcript], str]
    many: bool = False


FORMATS = {
    "text": Format(".txt", text, many=True),
    "json": Format(".jsonl", json_lines, many=True),
    "srt": Format(".srt", srt),
    "vtt": Format(".vtt", vtt),
    "textgrid": Format(".TextGrid", textgrid),
    "elan": Format(".eaf", elan),
    "ctm": Format(".ctm", ctm, many=True),
}
