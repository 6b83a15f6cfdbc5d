"""Errors that a user can act on: their message is shown without a traceback."""

from __future__ import annotations


class HeadstartError(ValueError):
    """Something the user can mend. The message says what is wrong, where, and what to do; no traceback is shown."""


class TrainingError(HeadstartError):
    """A run that cannot go on. The message says where and what to change."""


class DataError(HeadstartError):
    """Training or dev data that nothing can be learnt from."""
