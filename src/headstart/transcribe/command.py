"""The command `headstart transcribe`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

FORMAT_NAMES = ("text", "json", "srt", "vtt", "textgrid", "elan", "ctm")


def add_transcribe(commands: Any) -> None:
    """Add the command to the subparsers of `headstart`."""
    command = commands.add_parser(
        "transcribe",
        help="transcribe recordings with a fine-tuned run",
        description="Transcribe recordings of any length with a fine-tuned run. Long ones are cut at pauses. Words "
        "have times and confidences; docs/transcribing.md describes the formats. A recording that cannot be decoded is "
        "named and left out, and the exit status is then 1.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="folder of a run, or one that was exported")
    command.add_argument("audio", type=Path, nargs="+", metavar="AUDIO", help="audio files, or folders with some")
    command.add_argument(
        "--format",
        action="append",
        choices=FORMAT_NAMES,
        help="text (default), json (a line for each segment), srt, vtt, textgrid, elan or ctm; may be given again",
    )
    command.add_argument("--output", type=Path, metavar="FOLDER", help="write files here (default: standard output)")
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    command.add_argument(
        "--lm",
        action=argparse.BooleanOptionalAction,
        help="decode with the run's language model, or greedily (default: with it, where there is one)",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns 0, 1 where some recordings could not be transcribed, or 2 for invalid input."""
    from headstart.errors import HeadstartError
    from headstart.transcribe.run import open_run
    from headstart.transcribe.sources import sources
    from headstart.transcribe.transcription import check_formats, in_words, transcribe

    formats = list(dict.fromkeys(options.format or ["text"]))
    try:
        recordings = sources(options.audio)
        check_formats(formats, options.output, len(recordings))
        model = open_run(options.model, options.device, options.lm)
        started = time.monotonic()
        outcome = transcribe(model, recordings, formats, options.output)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    print(in_words(outcome, time.monotonic() - started), file=sys.stderr)
    if outcome.failed:
        count = len(outcome.failed)
        print(f"{count} recording{'s' if count > 1 else ''} not transcribed, see above", file=sys.stderr)
        return 1
    return 0
