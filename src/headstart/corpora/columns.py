"""Columns of corpus tables: the study's mapping, and the names that known conventions give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from headstart.corpora.reader import CorpusError
from headstart.study.explain import nearest
from headstart.study.fields import Settings

# Key of `Columns` -> what tables call the column that its default stands for, beside the default itself: Hugging Face
# (`file_name`, `transcription`), Common Voice (`sentence`), NeMo (`audio_filepath`), and what people write.
CONVENTIONS = {
    "audio": ("file_name", "audio", "audio_path", "audio_filepath", "file", "filename", "file_path", "wav", "clip"),
    "text": ("transcription", "sentence", "transcript", "normalized_text", "raw_transcription"),
    "utterance_id": ("utterance_id", "utt_id", "segment_id"),
    "start": ("start_time", "begin", "begin_time", "offset"),
    "end": ("end_time", "stop"),
    "duration": ("length",),
}
# Their defaults may be missing from a table: it then has no ids of its own, or whole files.
OPTIONAL = ("utterance_id", "start", "end", "duration")


class Columns(Settings):
    """Which column of a corpus table holds what. `null` marks what the table does not have.

    The defaults of `audio`, `text`, `utterance_id`, `start`, `end` and `duration` also stand for the usual names of
    such a column, among them Hugging Face's `file_name` and `transcription` and Common Voice's `sentence`. A table that
    lacks ids or times needs no `null` for them.
    """

    audio: str = Field("path", description="Path of the audio file, relative to the corpus folder.")
    utterance_id: str | None = Field(
        "id", description="Unique id; if null or missing, the path of the audio without suffix, with begin and end."
    )
    text: str | None = Field("text", description="Transcript; null for an unlabelled corpus.")
    speaker: str | None = Field(None, description="Speaker label.")
    language: str | None = Field(None, description="BCP 47 language of the utterance.")
    split: str | None = Field(None, description="Split; if null, drawn by speaker (or sentence).")
    start: str | None = Field("start", description="Where the utterance begins in a longer recording.")
    end: str | None = Field(
        "end", description="Where it ends; without this column and a duration, the end of the recording."
    )
    duration: str | None = Field("duration", description="How long it is, where it has a start and no end.")
    channel: str | None = Field(None, description="Channel: a number counted from 0, A or B, left or right.")
    tokens: str | None = Field(None, description="Space-separated tokens, for tagged code-switched text.")
    token_languages: str | None = Field(None, description="Space-separated language tags, one for each token.")
    phonemes: str | None = Field(
        None, description="Phonemic transcript: phones with spaces between them, and ` | ` between words, if at all."
    )


@dataclass(frozen=True, slots=True)
class Places:
    """The column of a table that holds each of our fields; None where there is none. Fields are those of `Columns`."""

    audio: str
    utterance_id: str | None
    text: str | None
    speaker: str | None
    language: str | None
    split: str | None
    start: str | None
    end: str | None
    duration: str | None
    channel: str | None
    tokens: str | None
    token_languages: str | None
    phonemes: str | None


def places(columns: Columns, header: Sequence[str], source: str, transcripts: bool = True) -> Places:
    """The columns of a table with this header.

    Args:
        source: name of the table, for messages.
        transcripts: whether a transcript is wanted.

    Raises:
        CorpusError: a mapped column is missing or occurs twice, or several columns may be meant by a default.
    """
    found, problems = {}, []
    names = Counter(header)
    for key, name in columns.model_dump().items():
        if name is None or (key == "text" and not transcripts):
            found[key] = None
            continue
        if name not in names and name == Columns.model_fields[key].default:
            usual = [own for own in names if own.strip().casefold() in (name, *CONVENTIONS.get(key, ()))]
            if len(usual) > 1:
                problems.append(f"columns.{key}: it may be any of {', '.join(map(repr, usual))}; name one of them")
            name = usual[0] if usual else None if key in OPTIONAL else name
        if name is not None and names[name] > 1:
            problems.append(f"columns.{key}: the table has {names[name]} columns {name!r}; rename all but one of them")
        elif name is not None and name not in names:
            problems.append(f"columns.{key}: the table has no column {name!r}{nearest(name, list(header))}")
        found[key] = name
    if problems:
        raise CorpusError("\n".join([f"{source}: {len(problems)} mapped column(s) not found", *problems]))
    if found["start"] is None:  # whole files: their ends and durations are as the audio is
        found["end"] = found["duration"] = None
    return Places(**found)
