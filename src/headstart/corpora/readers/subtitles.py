"""Subtitles: recordings, each with an SRT or WebVTT file."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.annotations import AnnotatedCorpus, AnnotatedReader
from headstart.corpora.reader import CorpusError, Description
from headstart.corpora.text_files import read_text, says_its_end
from headstart.corpora.tiers import Label, Tier

CLOCK = r"\d+:\d+[.,]\d+"
TIMES = re.compile(rf"-->|{CLOCK}.*{CLOCK}")  # in a line with times, also a damaged one
PLACES = re.compile(r"(\s*[A-Za-z]\w*:\S+)*\s*")  # on the screen, after the times
MARKUP = re.compile(r"</?[a-zA-Z][^<>\n]*>|\{\\[^{}\n]*\}")  # <i>, </font>, {\an8}


class SubtitlesCorpus(AnnotatedCorpus):
    """Recordings with subtitles."""

    reader: Literal["subtitles"] = Field(description="`subtitles`: recordings, each with an .srt or .vtt file.")
    silence: list[str] = Field(
        ["♪", "♫", "[music]", "(music)", "[silence]"],
        description="Subtitles in which nothing is said, in any case; they are left out.",
    )


class SubtitlesReader(AnnotatedReader):
    """Reads subtitles through the libraries srt and webvtt."""

    section = SubtitlesCorpus
    suffixes = (".srt", ".vtt")
    description = Description(
        title="Recordings with subtitles (SRT, WebVTT)",
        layout="""
            my_corpus/
              talk1.mp3
              talk1.srt         or talk1.vtt; each subtitle is an utterance
              talk2.mp3
              talk2.srt
              ...
            """,
        example="path: my_corpus, language: sw, speaker_pattern: '([^/]+)[.]'",
        source="https://www.w3.org/TR/webvtt1/",
        notes=(
            "Markup of letters and places on the screen is removed, and the voice of a WebVTT cue (`<v Anna>`) is its "
            "speaker. Marks of sounds, such as [laughter], stay in the transcript: see `text` of the study.",
            "Subtitles for viewers follow speech loosely and are often shortened; transcripts for training should be "
            "verbatim.",
        ),
    )

    def tiers_of(self, path: Path) -> list[Tier]:
        """The subtitles of a file, as one tier."""
        text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
        says_its_end(path, text)
        try:
            said = _check_blocks(text)
            labels = _webvtt(text) if path.suffix.lower() == ".vtt" else _srt(text)
            if len(labels) != said:  # the libraries leave out what they cannot read
                raise ValueError(f"it has {said} lines with times, of which {len(labels)} can be read")
            for before, label in pairwise(labels):
                if label.begin < before.begin:
                    raise ValueError(f"times go back from {before.begin:g} s to {label.begin:g} s")
        except ValueError as error:
            raise CorpusError(f"{path}: damaged: {' '.join(str(error).split())}") from None
        return [Tier("subtitles", labels)]


def _check_blocks(text: str) -> int:
    """Raise `ValueError` unless each block of lines has its times in its first or second line; returns how many do."""
    count, number = 0, None
    for block in re.split(r"\n[ \t]*\n+", text.strip()):
        lines = block.split("\n")
        times = [place for place, line in enumerate(lines) if TIMES.search(line)]
        if lines[0].strip().isdecimal() and (times != [1] or lines[0] == number):
            raise ValueError(f"subtitle {lines[0]} has no times of its own, or is there twice")
        if times not in ([], [0], [1]):
            raise ValueError(f"an empty line is missing in {block[:60]!r}")
        if times:
            count, number = count + 1, lines[0]
            after = re.split(rf"-->\s*(?:\d+:)?{CLOCK}", lines[times[0]])
            if len(after) != 2 or not PLACES.fullmatch(after[1]):
                raise ValueError(f"a line with times that cannot be read: {lines[times[0]]!r}")
    return count


def _srt(text: str) -> list[Label]:
    import srt

    return [
        Label(line.start.total_seconds(), line.end.total_seconds(), MARKUP.sub("", line.content))
        for line in srt.parse(text)
    ]


def _webvtt(text: str) -> list[Label]:
    import webvtt

    captions = webvtt.WebVTT.from_buffer(io.BytesIO(text.encode()), format="vtt")
    return [
        Label(
            caption.start_time.in_milliseconds() / 1000,
            caption.end_time.in_milliseconds() / 1000,
            MARKUP.sub("", caption.text),
            caption.voice,
        )
        for caption in captions
    ]
