"""Reading and writing files: whole or not at all, with hashes for recipes; damaged files are renamed.

What has its name is on the disk: contents are synchronised before a file is renamed, and the folder after it. Otherwise
a file could be empty after a power failure, though Snakemake takes it for a result.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.makers import again
from headstart.shortages import unwritable

log = logging.getLogger(__name__)

BROKEN = ".broken"  # appended to the name of a damaged file or folder
UMASK = os.umask(0o077)  # can be read only by setting it
os.umask(UMASK)


class BrokenFileError(HeadstartError):
    """A file that the workflow made is missing, unreadable or damaged."""


class UnwritableError(HeadstartError, OSError):
    """A file that cannot be written, because the disk is full or read-only."""


def set_aside(path: str | Path, found: os.stat_result, problem: str) -> BrokenFileError:
    """Rename a damaged file, so that Snakemake finds it missing and makes it again; returns the error to raise.

    Only for files that the workflow makes. When several jobs find the same file damaged, the first one renames it.

    Args:
        found: result of `os.stat` on the file that was read. A different file that has replaced it is not renamed.
        problem: a sentence, without its full stop, that names the file and says what is wrong with it.
    """
    aside = f"{path}{BROKEN}"
    try:
        if not os.path.samestat(os.stat(path), found):
            return BrokenFileError(f"{problem}. Another file has come into its place meanwhile; run Snakemake again")
        os.replace(path, aside)
    except FileNotFoundError:  # another job has renamed it already
        pass
    except OSError as error:
        return BrokenFileError(f"{problem}. Delete it and {again(path)} ({error})")
    return BrokenFileError(f"{problem}. It was renamed to {aside}; {again(path)}")


@contextmanager
def derived(path: str | Path, *errors: type[Exception]) -> Iterator[os.stat_result]:
    """Context for reading a file that the workflow made; yields the file's `os.stat` result.

    Args:
        errors: exceptions that mean damaged content, besides an `OSError` without `errno`.

    Raises:
        BrokenFileError: the file does not exist; or it is damaged and has been renamed; or the system cannot read it.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise BrokenFileError(f"{path}: not a file; remove it and run Snakemake again, which makes a file")
        yield found
    except HeadstartError:
        raise
    except FileNotFoundError:
        raise BrokenFileError(f"{path}: no such file; {again(path)}") from None
    except MemoryError:
        raise
    except (OSError, *errors) as error:
        if isinstance(error, OSError) and error.errno is not None:  # permissions or the disk: the content may be intact
            raise BrokenFileError(
                f"{path}: the file cannot be read ({error}); see to its rights and its disk"
            ) from None
        what = " ".join(str(error).split())
        raise set_aside(path, found, f"{path}: the file is cut short or damaged ({what})") from None


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Context that yields a temporary path beside `path`, and renames it to `path` if the block raises no error.

    The file gets the rights of any new file. safetensors would keep its own to the user, so that nobody else on a
    cluster could load a model.

    Raises:
        UnwritableError: the disk is full or read-only.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if not temporary.is_symlink():
            temporary.chmod(0o666 & ~UMASK)
            synchronise(temporary)
        os.replace(temporary, path)
        synchronise(path.parent)
    except HeadstartError:
        raise
    except Exception as error:
        if reason := unwritable(error):
            raise UnwritableError(f"{path}: cannot be written: {reason}") from None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def synchronise(path: str | Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems cannot synchronise a folder. Of a file, a failure may mean lost content.
        if not os.path.isdir(path):
            raise
    finally:
        os.close(descriptor)


def place_folder(partial: Path, folder: Path) -> None:
    """Rename a folder that has been written, after its content is on the disk. No folder of the new name may exist."""
    for root, _, names in os.walk(partial):
        for path in (os.path.join(root, name) for name in names):
            if not os.path.islink(path):
                synchronise(path)
        synchronise(root)
    partial.rename(folder)
    synchronise(folder.parent)


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Context in which no other process works in a folder; one that does is waited for.

    When Snakemake is killed, its jobs may go on, and the next Snakemake starts them again. Of two processes of the same
    job, the second waits and finds what the first one has done. The lock is one of the system's, which ends with the
    process; where the file system has no locks, nothing is waited for.
    """
    path = Path(folder) / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            log.info("waiting for %s, which does the same job", file.read().strip() or "another process")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        for left in path.parent.glob(".*.tmp"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        yield


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all.

    Raises:
        ValueError: `value` contains NaN or infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The value with a hash of itself as `digest`, by which `read_sealed` detects damage."""
    content = json.loads(json.dumps({key: part for key, part in value.items() if key != "digest"}))
    return {**content, "digest": fingerprint(content)}


def read_sealed(path: str | Path) -> Any:
    """The content of a JSON file that the workflow made; compared with its `digest` where it has one.

    Raises:
        BrokenFileError: the file does not exist; or it is damaged and has been renamed; or the system cannot read it.
    """
    with derived(path, ValueError):
        value = read_json(path)
        if isinstance(value, dict) and value.get("digest") not in (None, sealed(value)["digest"]):
            raise ValueError("its hash is not the one in it")
        return value


def fingerprint(value: Any) -> str:
    """Short hash of a JSON-like value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_state(path: str | Path) -> list[int] | None:
    """Size and modification time, in nanoseconds, of a file; None where it is missing."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    return [status.st_size, status.st_mtime_ns]


def file_digest(path: str | Path) -> str:
    """Short hash of the content of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def fingerprint_rows(rows: Iterable[Any]) -> str:
    """Short hash of a sequence of JSON-like values, read one at a time so that they need not fit into memory."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def set_folder_aside(path: str | Path) -> None:
    """Rename a damaged saved state or result folder, so that it is made again and can still be inspected.

    An older one with the new name is replaced. Nothing happens when another process has already renamed it.
    """
    broken = Path(f"{path}{BROKEN}")
    if broken.is_dir():
        shutil.rmtree(broken, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(path, broken)
