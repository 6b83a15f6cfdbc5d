"""Annotated recordings, as field workers make them: long recordings, each with a file of labels that have times.

`AnnotatedReader` is the base of the readers of ELAN, Praat and subtitle files, and `labels_of` all that they differ in.
"""

from __future__ import annotations

import logging
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from headstart.audio.suffixes import AUDIO
from headstart.corpora.paths import files_under, utterance_id, without_suffix
from headstart.corpora.reader import AudioReference, CorpusError, CorpusFileError, RecordedReader, Reject, Utterance
from headstart.corpora.recordings import Recordings
from headstart.corpora.tiers import Label, Tier, longest_overlap, matching, overlapping, transcript_tiers
from headstart.study import fields
from headstart.study.corpora import RecordedCorpus
from headstart.study.fields import Split

log = logging.getLogger(__name__)

SILENCE = ["sil", "<sil>", "[sil]", "sp", "spn", "<p:>", "<p>", "(pause)", "[pause]", "<pause>", "[silence]"]
SILENT, OVERLAPPING = "silent", "overlapping"  # what is counted of labels
CHECKED_BYTES = 4 << 20  # files of labels with no more than this are read whenever a study is checked


def _pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if groups != 1:
        raise ValueError("should have one group in parentheses, the speaker, such as ^([^/]+)/")
    return pattern


SpeakerPattern = Annotated[str, AfterValidator(_pattern)]
SPEAKER_PATTERN = Field(
    None,
    description="Regular expression whose one group finds the speaker in the path of a recording, relative to `path`: "
    "`^([^/]+)/` takes the name of the folder, `([A-Z]+)_[^/]*$` the beginning of a file name.",
)


class AnnotatedCorpus(RecordedCorpus):
    """The keys of corpora of recordings with files of labels."""

    audio: fields.Folder | None = Field(
        None, description="Folder of the recordings, relative to `path`, where they are not beside the files of labels."
    )
    speaker_pattern: SpeakerPattern | None = SPEAKER_PATTERN
    silence: list[str] = Field(SILENCE, description="Labels that mark silence, in any case; they are left out.")
    overlaps: Literal["keep", "reject"] = Field(
        "keep", description="What becomes of labels during which somebody else speaks too; they are counted in the log."
    )


class TieredCorpus(AnnotatedCorpus):
    """The keys of corpora whose files of labels have tiers."""

    tiers: list[str] = Field(
        [],
        description="Tiers of transcripts, by name or pattern (`*-text`, `tx@*`); needed where there are several.",
    )
    speakers: dict[str, str] = Field(
        {}, description="Tier, by name or pattern, -> its speaker. By default what the file itself says of a tier."
    )
    languages: dict[str, str] = Field({}, description="Tier, by name or pattern, -> the BCP 47 language of its labels.")
    language_tier: str | None = Field(
        None, description="Tier whose label at the same time names the language of an utterance."
    )
    language_labels: dict[str, str] = Field({}, description="Labels of `language_tier` -> BCP 47 tags.")


class AnnotatedReader(RecordedReader):
    """Base of the readers of annotated recordings."""

    settings: AnnotatedCorpus
    suffixes: ClassVar[tuple[str, ...]]  # of the files of labels, in lower case
    drawn_units = "speakers or recordings"
    split_advice = ("put recordings into folders of the names in `splits`",)

    def __init__(self, settings: AnnotatedCorpus, raw: str | Path = ""):
        super().__init__(settings, raw)
        self.tiering = settings if isinstance(settings, TieredCorpus) else TieredCorpus.model_construct()
        self.silence = {mark.casefold() for mark in settings.silence}

    @abstractmethod
    def tiers_of(self, path: Path) -> list[Tier]:
        """The tiers of a file of labels.

        Raises:
            CorpusError: the file cannot be read. Any other exception of a library means the same.
        """

    def media_of(self, path: Path) -> Sequence[str]:
        """Names of the recordings that a file of labels names itself."""
        return ()

    def check(self) -> None:
        """Raise `CorpusError` when there are no files of labels or, if they are few, when they cannot be used."""
        super().check()
        if sum(path.stat().st_size for path in self.annotations()) <= CHECKED_BYTES:
            self._chosen(self._read())

    def annotations(self) -> list[Path]:
        """The files of labels."""
        return [self.folder / name for name in files_under(self.folder, self.suffixes)]

    def inputs(self) -> list[str]:
        """Nothing but a missing folder: there may be a file of labels for each clip, so all are in `audio_files`."""
        return [] if self.folder.is_dir() else [str(self.folder)]

    def audio_files(self) -> list[str]:
        """The recordings and the files of labels."""
        return [*files_under(self.folder, self.suffixes), *self._recordings()]

    def utterances(self) -> Iterator[Utterance | Reject]:
        """One utterance for each label that is not empty and marks no silence, in the order of files and tiers."""
        super().check()
        files, counts, used = self._read(), Counter(), set()
        chosen = self._chosen(files)
        recordings = Recordings(self._recordings(), self.settings.audio)
        for path, tiers in files.items():
            audio = recordings.of(path, self.media_of(self.folder / path))
            used.add(audio)
            folder = path.split(os.sep)[0] if os.sep in path else ""
            split = self.settings.splits.get(folder)
            if split is None and folder in self.settings.splits:
                continue
            if not any(tier.name in chosen for tier in tiers):
                names = ", ".join(tier.name for tier in tiers) or "none"
                yield Reject(line=1, reason=f"no labels in the tiers of transcripts: {path} has {names}", split=split)
            yield from self._labels(path, tiers, chosen, audio, split, counts)
        self._say(counts, [name for name in recordings.names if name not in used])

    def _read(self) -> dict[str, list[Tier]]:
        """Path of each file of labels, relative to the folder, -> its tiers."""
        files, problems, passing = {}, [], False  # whether a problem may be the disk's, and pass
        for path in self.annotations():
            try:
                files[os.path.relpath(path, self.folder)] = self.tiers_of(path)
            except CorpusError as error:
                problems.append(str(error))
                passing |= isinstance(error, CorpusFileError)
            except MemoryError:
                raise
            except Exception as error:  # whatever the library makes of a damaged file
                what = " ".join(str(error).split()) or type(error).__name__
                problems.append(f"{path}: damaged, or no file of this kind ({what})")
                passing |= isinstance(error, OSError)
        if problems:
            advice = "Save them anew in the program that wrote them, or move them out of the corpus"
            lines = [f"{self.source}: {len(problems)} file(s) of labels cannot be read. {advice}", *problems]
            raise (CorpusFileError if passing else CorpusError)("\n".join(lines))
        return files

    def _chosen(self, files: dict[str, list[Tier]]) -> set[str]:
        """Names of the tiers that hold transcripts."""
        tiers = [tier for own in files.values() for tier in own if any(map(self._spoken, tier.labels))]
        return transcript_tiers(tiers, self.tiering.tiers, self.tiering.language_tier, str(self.source))

    def _labels(
        self,
        path: str,
        tiers: list[Tier],
        chosen: set[str],
        audio: str | None,
        split: Split | None,
        counts: Counter[str],
    ) -> Iterator[Utterance | Reject]:
        """The labels of a file; `counts` says what is left out and what overlaps."""
        labels = [
            (tier, number, label)
            for tier in tiers
            if tier.name in chosen
            for number, label in enumerate(tier.labels, start=1)
        ]
        several = len({tier.name for tier, _, _ in labels}) > 1
        spoken = [entry for entry in labels if self._spoken(entry[2])]
        counts[SILENT] += len(labels) - len(spoken)
        languages = [label for tier in tiers if tier.name == self.tiering.language_tier for label in tier.labels]
        crowded = overlapping([(tier.name, label) for tier, _, label in spoken])
        for (tier, number, label), overlaps in zip(spoken, crowded, strict=True):
            counts[OVERLAPPING] += overlaps
            stem = f"{without_suffix(path)}-{tier.name}." if several else f"{without_suffix(path)}."
            known = {"line": number, "split": split, "utterance_id": utterance_id(stem, label.begin, label.end)}
            if not label.timed:
                reason = (
                    f"malformed times: label {number} of tier {tier.name!r} of {path}, {label.begin} to {label.end} s"
                )
                yield Reject(**known, reason=reason, audio=AudioReference(audio) if audio else None)
                continue
            if audio is None:
                yield Reject(**known, reason=f"audio file not found: no recording, or several, of the name of {path}")
                continue
            stretch = AudioReference(audio, label.begin, label.end - label.begin)
            if overlaps and self.settings.overlaps == "reject":
                yield Reject(**known, reason="overlap: somebody else speaks too", audio=stretch)
                continue
            yield Utterance(
                **known,
                audio=stretch,
                text=" ".join(label.text.split()) if self.settings.transcripts else None,
                speaker=label.speaker or self._speaker(tier, audio),
                language=self._language(tier, label, languages),
            )

    def _speaker(self, tier: Tier, audio: str) -> str | None:
        if (pattern := matching(self.tiering.speakers, tier.name)) is not None:
            return self.tiering.speakers[pattern]
        if self.settings.speaker_pattern and (match := re.search(self.settings.speaker_pattern, audio)):
            return match[1]
        return tier.speaker

    def _language(self, tier: Tier, label: Label, languages: list[Label]) -> str:
        """The language of a label: of the language tier, else of its own tier, else of the corpus."""
        if found := longest_overlap(label, languages):
            return self.tiering.language_labels.get(found, found)
        pattern = matching(self.tiering.languages, tier.name)
        return self.settings.language if pattern is None else self.tiering.languages[pattern]

    def _spoken(self, label: Label) -> bool:
        """Whether a label is neither empty nor a mark of silence."""
        return bool(text := label.text.strip()) and text.casefold() not in self.silence

    def _recordings(self) -> list[str]:
        """The recordings in the corpus folder, and in the folder `audio` where that is elsewhere."""
        names, audio = files_under(self.folder, AUDIO), self.settings.audio
        if audio and os.path.relpath(os.path.join(self.folder, audio), self.folder).startswith(".."):
            names += [os.path.join(audio, name) for name in files_under(self.folder / audio, AUDIO)]
        return names

    def _say(self, counts: Counter[str], unused: list[str]) -> None:
        """Log what was left out, what overlaps, and which recordings have no labels."""
        if counts[SILENT]:
            log.info("%s: %d labels are empty or mark silence and are left out", self.source, counts[SILENT])
        if counts[OVERLAPPING]:
            what = "kept" if self.settings.overlaps == "keep" else "rejected"
            number = counts[OVERLAPPING]
            log.warning("%s: during %d labels somebody else speaks too; they are %s", self.source, number, what)
        if unused:
            log.warning("%s: %d recordings have no file of labels, such as %s", self.source, len(unused), unused[0])
