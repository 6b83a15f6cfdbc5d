"""What the system refuses a job, in words: a full disk, a read-only folder, or too little memory.

Libraries report these in many ways, often as an error of their own, or as one of a library that cannot be loaded.
"""

from __future__ import annotations

import errno
import re

FULL = "free some space"
WRITING = {
    errno.ENOSPC: f"the disk is full; {FULL}",
    errno.EDQUOT: f"your quota on this disk is used up; {FULL}",
    errno.EFBIG: "the file would be larger than this process may write; raise the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only; write to another one, or see to its rights",
}
MEMORY = (  # parts of the messages of errors that mean too little memory, in lower case
    "can't allocate memory",  # torch
    "cannot allocate memory",  # the system
    "out of memory",  # torch on GPUs
    "unable to allocate",  # numpy
    "failed to map segment from shared object",  # the loader of libraries
    "can't start new thread",  # whose stack has no room
    "std::bad_alloc",
)
ADVICE = (
    "Give the job more memory (mem_mb in the profile, --mem of Slurm, ulimit -v), or run fewer jobs at a time "
    "(--cores); a training job needs less with a smaller batch_seconds or a larger `accumulate`"
)


def system_code(error: BaseException) -> int | None:
    """The system's number of an error; of libraries in Rust, such as safetensors, it is in the message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def unwritable(error: BaseException) -> str | None:
    """Why a file could not be written, with the remedy; None where the error means something else."""
    return WRITING.get(system_code(error))


def shortage(error: BaseException) -> str | None:
    """What a job lacked, with the remedy; None where the error means something else."""
    if reason := unwritable(error):
        name = getattr(error, "filename", None)
        return f"{name}: {reason}, and run again" if name else f"{reason}, and run again"
    message = " ".join(str(error).split())
    lacking = isinstance(error, MemoryError) or system_code(error) == errno.ENOMEM
    if lacking or any(part in message.lower() for part in MEMORY):
        return f"too little memory ({type(error).__name__}{': ' * bool(message)}{message[:200]}). {ADVICE}"
    return None
