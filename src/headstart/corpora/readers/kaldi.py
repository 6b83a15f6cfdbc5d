"""Kaldi data directories: `wav.scp` and `text`, with `segments`, `utt2spk` and `utt2lang` where there are any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from headstart.corpora.reader import AudioReference, CorpusError, Description, RecordedReader, Reject, Utterance
from headstart.corpora.text_files import read_text, says_its_end
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

Table = dict[str, tuple[int, str]]  # first word of a line -> number of the line, and the rest of it


class KaldiCorpus(RecordedCorpus):
    """A Kaldi data directory, or a folder with one for each split."""

    reader: Literal["kaldi"] = Field(description="`kaldi`: a data directory of Kaldi, ESPnet or icefall.")


class KaldiReader(RecordedReader):
    """Reads Kaldi data directories. Nothing that they say is run."""

    section = KaldiCorpus
    description = Description(
        title="Kaldi data directories",
        layout="""
            data/
              train/            or another name in `splits`; or `path` is a data directory itself
                wav.scp         RECORDING  path of an audio file
                text            UTTERANCE  transcript
                segments        UTTERANCE  RECORDING  begin  end    (if recordings hold several utterances)
                utt2spk         UTTERANCE  SPEAKER                  (optional)
                utt2lang        UTTERANCE  LANGUAGE                 (optional)
              dev/ ...
            """,
        example="path: data, language: sw, splits: {train: train, dev: dev, eval: test}, outside: true",
        source="https://kaldi-asr.org/doc/data_prep.html",
        notes=(
            "Relative paths in `wav.scp` are relative to `path`. They are often absolute: set `outside: true` then.",
            "A `wav.scp` may name commands whose output is audio (`sph2pipe ... |`) or places in archives "
            "(`a.ark:123`). Commands of a corpus are never run: write the audio to files once, and name the files.",
            "Where every utterance is its own speaker, as Kaldi asks where speakers are unknown, there is no speaker.",
        ),
    )

    def annotations(self) -> list[Path]:
        """The files of the data directories."""
        names = ("wav.scp", "text", "segments", "utt2spk", "utt2lang")
        if not self.settings.transcripts:
            names = tuple(name for name in names if name != "text")
        paths = [folder / name for folder, _ in self._directories() for name in names]
        return sorted(path for path in paths if path.is_file())

    def audio_files(self) -> Iterator[str]:
        """The files that `wav.scp` names."""
        for folder, _ in self._directories():
            yield from (path for _, path in _table(folder / "wav.scp").values())

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance for each line of `segments`, or of `wav.scp` where there are no segments."""
        self.check()
        for folder, split in self._directories():
            yield from self._directory(folder, split)

    def _directories(self) -> list[tuple[Path, Split | None]]:
        """The data directories that the study uses, each with its split; None where splits are drawn."""
        if (self.folder / "wav.scp").is_file():
            return [(self.folder, None)]
        folders = sorted(path.parent for path in self.folder.glob("*/wav.scp"))
        splits = [(folder, self.split(folder.name, str(folder))) for folder in folders]
        return [(folder, split) for folder, split in splits if split is not None]

    def _directory(self, folder: Path, split: Split | None) -> Iterator[Utterance | Reject]:
        recordings, speakers = _table(folder / "wav.scp"), _optional(folder / "utt2spk")
        languages, segmented = _optional(folder / "utt2lang"), (folder / "segments").is_file()
        texts = _table(folder / "text") if self.settings.transcripts else None
        if all(name == speaker for name, (_, speaker) in speakers.items()):
            speakers = {}
        listed = _table(folder / "segments") if segmented else recordings
        untold = set(listed) - set(texts) if texts is not None else set()
        for name, (line, rest) in listed.items():
            known = {"line": line, "utterance_id": name, "split": split}
            try:
                audio = _segment(rest, recordings) if segmented else AudioReference(_audio(rest))
            except ValueError as error:
                yield Reject(**known, reason=str(error))
                continue
            if speakers and len((speaker := speakers.get(name, (0, ""))[1]).split()) != 1:
                said = repr(speaker) if name in speakers else "nothing of it"
                reason = f"no speaker: utt2spk says {said}"
                yield Reject(**known, reason=reason, audio=audio)
                continue
            text = texts.get(name, (0, ""))[1] if texts is not None else None
            if text and (other := next((other for other in untold if _ends_a_word(other, text)), None)):
                reason = f"two lines in one: the transcript holds {other!r}, which has no line of its own"
                yield Reject(**known, reason=reason, audio=audio)
                continue
            yield Utterance(
                **known,
                audio=audio,
                text=text,
                speaker=speakers.get(name, (0, ""))[1] or None,
                language=languages.get(name, (0, ""))[1] or self.settings.language,
            )
        where = "segments" if segmented else "wav.scp"
        for name, (line, _) in (texts or {}).items():
            if name not in listed:
                yield Reject(
                    line=line, reason=f"transcript without audio: not in {where}", utterance_id=name, split=split
                )


def _table(path: Path) -> Table:
    """The lines of a file by their first word.

    Raises:
        CorpusError: the file is missing or no text, or a first word occurs twice.
    """
    table: Table = {}
    content = read_text(path)
    says_its_end(path, content)
    for line, text in enumerate(content.split("\n"), start=1):
        name, _, rest = text.strip().replace("\t", " ").partition(" ")
        if not name:
            continue
        if name in table:
            raise CorpusError(f"{path}, line {line}: {name!r} is in line {table[name][0]} too; remove one of them")
        table[name] = (line, rest.strip())
    return table


def _ends_a_word(name: str, text: str) -> bool:
    """Whether an id is at the end of a word, as it is where the line before it lost its end."""
    return name in text and any(word.endswith(name) for word in text.split())


def _optional(path: Path) -> Table:
    return _table(path) if path.is_file() else {}


def _audio(path: str) -> str:
    """The path of a recording; raises `ValueError`, with the reason, where it is no file's."""
    if path.endswith("|"):
        raise ValueError(f"a command, which is not run: {path}; write its output to a file, and name the file")
    stem, _, offset = path.rpartition(":")
    if stem.endswith(".ark") and offset.isdigit():
        raise ValueError(f"a place in a Kaldi archive: {path}; write the audio to a file, and name the file")
    return path


def _segment(line: str, recordings: Table) -> AudioReference:
    """The stretch that a line of `segments` names; raises `ValueError`, with the reason, where it is none."""
    recording, *times = line.split() or [""]
    if recording not in recordings:
        raise ValueError(f"unknown recording: {recording!r} is not in wav.scp")
    path = _audio(recordings[recording][1])
    try:
        begin, end, *channel = map(float, times)
    except ValueError:
        raise ValueError(f"malformed segment: {line!r} has no begin and end in seconds") from None
    duration = None if end == -1 else end - begin  # -1: to the end of the recording
    if not begin >= 0 or (duration is not None and not duration > 0):
        raise ValueError(f"malformed segment: begins at {begin:g} s and ends at {end:g} s")
    return AudioReference(path, begin, duration, int(channel[0]) if channel else None)
