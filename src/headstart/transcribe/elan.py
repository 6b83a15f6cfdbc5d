"""Transcripts as ELAN's .eaf files (annotation format 3.0)."""

from __future__ import annotations

import mimetypes
from typing import TYPE_CHECKING
from xml.etree import ElementTree as Xml

if TYPE_CHECKING:
    from headstart.transcribe.formats import Transcript

SEGMENTS, WORDS = "segments", "words"  # tiers; each word lies within its segment
SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"


def elan(transcript: Transcript) -> str:
    """An annotation document that names the recording, with a tier of segments and one of the words within them."""
    root = Xml.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "Headstart",
            "DATE": "1970-01-01T00:00:00Z",  # the same recording and model give the same file
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": SCHEMA,
        },
    )
    header = Xml.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    path = transcript.path.absolute()
    kind = mimetypes.guess_type(path.name)[0] or "audio/*"
    kind = "audio/x-wav" if path.suffix.lower() == ".wav" else kind
    media = {"MEDIA_URL": path.as_uri(), "MIME_TYPE": kind, "RELATIVE_MEDIA_URL": f"./{path.name}"}
    Xml.SubElement(header, "MEDIA_DESCRIPTOR", media)

    slots = Xml.SubElement(root, "TIME_ORDER")
    times: list[int] = []  # milliseconds of each slot
    tiers = {
        SEGMENTS: Xml.SubElement(root, "TIER", {"TIER_ID": SEGMENTS, "LINGUISTIC_TYPE_REF": SEGMENTS}),
        WORDS: Xml.SubElement(root, "TIER", {"TIER_ID": WORDS, "LINGUISTIC_TYPE_REF": WORDS, "PARENT_REF": SEGMENTS}),
    }
    annotations = 0

    def add(tier: str, begin: int, end: int, said: str) -> None:
        nonlocal annotations
        annotations += 1
        times.extend((begin, end))
        names = {"ANNOTATION_ID": f"a{annotations}"}
        names |= {"TIME_SLOT_REF1": f"ts{len(times) - 1}", "TIME_SLOT_REF2": f"ts{len(times)}"}
        annotation = Xml.SubElement(Xml.SubElement(tiers[tier], "ANNOTATION"), "ALIGNABLE_ANNOTATION", names)
        Xml.SubElement(annotation, "ANNOTATION_VALUE").text = said

    at = 0  # annotations of a tier may not overlap, and none is empty
    for segment in transcript.segments:
        begin = max(at, _milliseconds(min([segment.start_s, *(word.start_s for word in segment.words)])))
        word_end, placed = begin, []
        for word in segment.words:
            start = max(word_end, _milliseconds(word.start_s))
            word_end = max(start + 1, _milliseconds(word.end_s))
            placed.append((start, word_end, word.text))
        at = max(begin + 1, word_end, _milliseconds(segment.end_s))
        add(SEGMENTS, begin, at, segment.text)
        for start, end, said in placed:
            add(WORDS, start, end, said)
    order = sorted(range(len(times)), key=times.__getitem__)
    for index in order:
        Xml.SubElement(slots, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{index + 1}", "TIME_VALUE": str(times[index])})

    kinds = {"GRAPHIC_REFERENCES": "false", "TIME_ALIGNABLE": "true"}
    Xml.SubElement(root, "LINGUISTIC_TYPE", {**kinds, "LINGUISTIC_TYPE_ID": SEGMENTS})
    Xml.SubElement(root, "LINGUISTIC_TYPE", {**kinds, "LINGUISTIC_TYPE_ID": WORDS, "CONSTRAINTS": "Included_In"})
    Xml.SubElement(
        root,
        "CONSTRAINT",
        {
            "DESCRIPTION": "Time alignable annotations within the parent annotation's time interval, gaps are allowed",
            "STEREOTYPE": "Included_In",
        },
    )
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
