"""Writing files so that a half-written one is never taken for a result, and so that recipes can be compared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


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


def set_aside(path: str | Path) -> Path:
    """Rename a damaged file or folder to `NAME.broken`, so that it is made again and can still be looked at.

    An older one of that name is replaced. Nothing happens when another job has been quicker.
    """
    path = Path(path)
    broken = path.with_name(f"{path.name}.broken")
    if broken.is_dir():
        shutil.rmtree(broken, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(path, broken)
    return broken
