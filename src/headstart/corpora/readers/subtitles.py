"""Subtitles: recordings, each with an SRT or WebVTT file."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.annotations import AnnotatedCorpus, AnnotatedReader
from headstart.corpora.reader import CorpusError, Description
from headstart.corpora.text_files import read_text
from headstart.corpora.tiers import Label, Tier

TIMES = re.compile(r"^[^\n]*-->[^\n]*$", re.MULTILINE)
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
        text = read_text(path).replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
        labels = _webvtt(text) if path.suffix.lower() == ".vtt" else _srt(text)
        # Both libraries leave out what they cannot read.
        if len(labels) != (said := len(TIMES.findall(text))):
            raise CorpusError(f"{path}: damaged: it has {said} lines with times, of which {len(labels)} can be read")
        return [Tier("subtitles", labels)]


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
