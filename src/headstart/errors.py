"""Errors that a user can act on: their message is shown without a traceback."""

from __future__ import annotations

from typing import ClassVar


class HeadstartError(ValueError):
    """Something the user can mend. The message says what is wrong, where, and what to do; no traceback is shown.

    `permanent` says that it follows from data and settings alone, so that the job would fail in the same way if
    Snakemake tried it again. Where a disk, a network, a machine or the time may have been the cause, it is False.
    """

    permanent: ClassVar[bool] = False


class TrainingError(HeadstartError):
    """A run that cannot go on. The message says where and what to change."""


class DivergenceError(TrainingError):
    """Training that collapsed, or whose loss is not finite; it would again."""

    permanent = True


class DataError(HeadstartError):
    """Data that cannot be used as the study asks, such as too little audio or no transcript."""

    permanent = True
