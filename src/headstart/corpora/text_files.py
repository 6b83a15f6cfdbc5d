"""Text files of corpora: their encodings, and how large they may be."""

from __future__ import annotations

import codecs
import gzip
import logging
import zlib
from pathlib import Path

from headstart.corpora.reader import CorpusError, CorpusFileError

log = logging.getLogger(__name__)

MARKS = {  # byte order mark -> encoding; the longer ones first, because UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
LFS_POINTER = b"version https://git-lfs"
MOST_BYTES = 2 << 30  # of a text file; the transcripts of 100,000 hours have less
# A file may be small and decompress to far more than memory holds. Text shrinks to a tenth, the most regular to a
# hundredth.
MOST_RATIO, FREE_BYTES = 300, 16 << 20
CHUNK = 4 << 20


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; `.gz` files are decompressed.

    Line ends are as in the file.

    Args:
        most: bytes that the file may have, decompressed.

    Raises:
        CorpusError: the file is missing, cannot be read, has another encoding, or has more bytes.
    """
    data = read_bytes(path, most)
    if data.startswith(LFS_POINTER):
        raise CorpusError(f"{path}: a pointer of Git LFS and not the file itself; run `git lfs pull` in its repository")
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        advice = "it looks like UTF-16 without a byte order mark; " if b"\0" in data[:4] else ""
        raise CorpusError(
            f"{path}: not {encoding.removesuffix('-sig').upper()} text ({error}); {advice}save it as UTF-8, for "
            "example with iconv"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CorpusError(f"{path}, line {line}: damaged: there are zeros in the text; copy or download the file anew")
    return text


def says_its_end(path: Path, text: str) -> None:
    """Log a warning where the last line has no end: nothing else shows that a file was cut inside its last cell."""
    if text.strip() and text[-1] not in "\n\r":
        log.warning("%s: the last line has no line end. If the file was cut short, that line is incomplete", path)


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file, decompressed if its name ends in `.gz`; see `read_text`."""
    try:
        size, parts, held = path.stat().st_size, [], 0
        zipped = path.suffix.lower() == ".gz"
        limit = min(most, max(FREE_BYTES, MOST_RATIO * size)) if zipped else most
        with gzip.open(path) if zipped else path.open("rb") as file:
            while held <= limit and (part := file.read(CHUNK)):
                parts.append(part)
                held += len(part)
    except FileNotFoundError:
        raise CorpusFileError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusFileError(f"{path}: cannot be read ({error})") from None
    if held > limit:
        what = f"{size} bytes that decompress to" if zipped else "the file has"
        raise CorpusError(f"{path}: {what} more than {limit >> 20} MB, which no transcript has; is it the right file?")
    return b"".join(parts)


def check_xml(path: Path, data: bytes, root: str) -> None:
    """Raise `CorpusError` unless a file is well-formed XML with this root, and declares no document type or entity.

    Entities that stand for others can make a file of a kilobyte fill the memory, and external ones read other files.
    """
    from xml.parsers import expat

    roots = []

    def refuse(*_: object) -> None:
        raise CorpusError(f"{path}: declares a document type or entities, which are refused; remove the declaration")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.StartElementHandler = lambda name, _: roots.append(name) if not roots else None
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise CorpusError(f"{path}: not well-formed XML, cut short or damaged ({error})") from None
    if roots != [root]:
        raise CorpusError(f"{path}: its root is {roots[0]!r}, not {root!r}: it is a file of another kind")
