"""Writing files so that a half-written one is never taken for a result, and so that recipes can be compared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError

BROKEN = ".broken"  # what is added to the name of a file that was set aside


class BrokenFileError(HeadstartError):
    """A file that the workflow made, and that cannot be read as what it should be."""


def set_aside(path: str | Path, found: os.stat_result, problem: str) -> BrokenFileError:
    """Rename a broken file, so that Snakemake finds it missing and makes it again; the error that says so.

    Only for files that the workflow makes. Several jobs may find the same file broken: the first of them renames it.

    Args:
        found: what `os.stat` says of the file that was read. Another one that came into its place meanwhile stays.
        problem: what is wrong with it, with its name, as a whole sentence but for the full stop.
    """
    aside = f"{path}{BROKEN}"
    try:
        if not os.path.samestat(os.stat(path), found):
            return BrokenFileError(f"{problem}. Another file has come into its place meanwhile; run Snakemake again")
        os.replace(path, aside)
    except FileNotFoundError:  # another job was quicker
        pass
    except OSError as error:
        return BrokenFileError(f"{problem}. Delete it and run Snakemake again, which makes it anew ({error})")
    return BrokenFileError(f"{problem}. It was renamed to {aside}; run Snakemake again, which makes it anew")


@contextmanager
def derived(path: str | Path, *errors: type[Exception]) -> Iterator[os.stat_result]:
    """Read a file that the workflow made: yields what `os.stat` says of it.

    Args:
        errors: what reading raises where the content is broken, beside `OSError` without a number of the system.

    Raises:
        BrokenFileError: it is not there; or it is broken, and was set aside; or the system cannot read it.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise BrokenFileError(f"{path}: not a file; remove it and run Snakemake again, which makes a file")
        yield found
    except HeadstartError:
        raise
    except FileNotFoundError:
        raise BrokenFileError(f"{path}: no such file; run Snakemake again, which makes it") from None
    except MemoryError:
        raise
    except (OSError, *errors) as error:
        if isinstance(error, OSError) and error.errno is not None:  # rights, or the disk: the content may be good
            raise BrokenFileError(
                f"{path}: the file cannot be read ({error}); see to its rights and its disk"
            ) from None
        what = " ".join(str(error).split())
        raise set_aside(path, found, f"{path}: the file is cut short or damaged ({what})") from None


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which becomes `path` only when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN and infinity raise `ValueError`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def fingerprint(value: Any) -> str:
    """Short hash of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_rows(rows: Iterable[Any]) -> str:
    """Short hash of JSON-like values in their order, one at a time, so that they need not fit into memory."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def move_aside(path: str | Path) -> None:
    """Rename a damaged state or folder of results, so that it is made again and can still be looked at.

    An older one of that name is replaced. Nothing happens when another process has been quicker.
    """
    broken = Path(f"{path}{BROKEN}")
    if broken.is_dir():
        shutil.rmtree(broken, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(path, broken)
