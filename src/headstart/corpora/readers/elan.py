"""ELAN: recordings, each with an .eaf file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from headstart.corpora.annotations import AnnotatedReader, TieredCorpus
from headstart.corpora.reader import CorpusError, Description
from headstart.corpora.text_files import check_xml, read_bytes
from headstart.corpora.tiers import Label, Tier


class ElanCorpus(TieredCorpus):
    """Recordings with ELAN files."""

    reader: Literal["elan"] = Field(description="`elan`: recordings, each with an .eaf file of ELAN.")


class ElanReader(AnnotatedReader):
    """Reads ELAN files through pympi."""

    section = ElanCorpus
    suffixes = (".eaf",)
    description = Description(
        title="Recordings with ELAN files",
        layout="""
            my_corpus/
              session1.wav
              session1.eaf      a tier, or one for each speaker, whose annotations are utterances
              session2.wav
              session2.eaf
              ...
            """,
        example="path: my_corpus, language: quw, tiers: ['*_Transcription-txt-*'], language_tier: Language",
        source="https://archive.mpi.nl/tla/elan",
        notes=(
            "With one tier that has annotations, `tiers` is not needed. With several, the error lists them with their "
            "types and participants.",
            "The speaker of a tier is its participant, unless `speakers` names another. Annotations of a tier that "
            "depends on another one have the times of those that they refer to; words of one annotation are joined.",
            "The recording is the one of the same name beside the .eaf file or in `audio`, or else one of the media "
            "that the file names. Their paths are those of another computer, so only their names are used.",
            "A file that declares a document type or entities is refused: ELAN writes none, and they can make a small "
            "file fill the memory.",
        ),
    )

    def tiers_of(self, path: Path) -> list[Tier]:
        """The tiers of an .eaf file."""
        file, tiers = opened(path), []
        for name, (aligned, references, attributes, _) in file.tiers.items():
            facts = [attributes.get("LINGUISTIC_TYPE_REF", ""), attributes.get("PARTICIPANT", "")]
            with sound(path):
                labels = [Label(*_times(file, annotation), text) for annotation, (_, _, text, _) in aligned.items()]
                refers = [Label(*_times(file, annotation), text) for annotation, (_, text, _, _) in references.items()]
            kind = ", ".join(fact for fact in facts if fact)
            tiers.append(Tier(name, labels + _joined(refers), attributes.get("PARTICIPANT", "").strip() or None, kind))
        return tiers

    def media_of(self, path: Path) -> Sequence[str]:
        """The media files that an .eaf file names."""
        keys = ("RELATIVE_MEDIA_URL", "MEDIA_URL")
        return [media[key] for media in opened(path).media_descriptors for key in keys if media.get(key)]


def opened(path: Path) -> Any:
    """An .eaf file as pympi reads it.

    Raises:
        CorpusError: the file is damaged, is of another kind, declares entities, or begins at another time.
    """
    from pympi.Elan import Eaf

    check_xml(path, read_bytes(path), "ANNOTATION_DOCUMENT")
    with warnings.catch_warnings(), sound(path):
        warnings.simplefilter("ignore")  # about versions of the format
        file = Eaf(str(path))
    origins = [media.get("TIME_ORIGIN", "0") for media in file.media_descriptors]
    if any(origin.strip("0") for origin in origins):
        raise CorpusError(
            f"{path}: a recording begins at another time than its annotations (TIME_ORIGIN). Export recording and "
            "annotations together in ELAN, so that both begin at 0"
        )
    return file


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Raise `CorpusError` for what pympi raises where an .eaf file lacks something that others of its parts need."""
    try:
        yield
    except KeyError as error:
        raise CorpusError(f"{path}: damaged: it lacks {error.args[0]}. Save it anew in ELAN") from None
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise CorpusError(f"{path}: damaged, or no file of ELAN: {error}. Save it anew in ELAN") from None


def _times(file: Any, annotation: str) -> tuple[float | None, float | None]:
    """Begin and end of an annotation in seconds, or those of the one that it refers to, perhaps through others.

    pympi finds them only where every annotation of a dependent tier refers to another, and never where they refer to
    each other in a circle.
    """
    passed = set()
    while annotation not in passed:
        passed.add(annotation)
        aligned, references, *_ = file.tiers[file.annotations[annotation]]
        if annotation in aligned:
            begin, end, *_ = aligned[annotation]
            return _seconds(file.timeslots[begin]), _seconds(file.timeslots[end])
        annotation = references[annotation][0]
    raise ValueError(f"annotation {annotation} refers to itself")


def _joined(labels: list[Label]) -> list[Label]:
    """The annotations of a dependent tier; those that divide the same annotation, as words do, become one label."""
    return [
        Label(*times, " ".join(label.text.strip() for label in group))
        for times, group in groupby(labels, key=lambda label: label[:2])
    ]


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
