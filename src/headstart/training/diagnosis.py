"""Diagnosis of CTC fine-tuning: why a run writes nothing or only errors, and what to do about it.

CTC networks learn in stages. They first write nothing, because the blank is the safest label of every frame; then
single characters come right, then word boundaries, and whole words last. A word error rate near 100 % therefore does
not tell whether a run is stuck, or at what. The rules below do, from the learning curve and the transcripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headstart.study.finetune import Finetune

Curve = Sequence[dict[str, float]]

UNSEEN = 0.02  # share of dev characters that training transcripts lack, above which error rates suffer visibly
EMPTY = 0.3  # characters written for each one of the references, below which a run is in the stage of blanks
RARE_BOUNDARIES = 0.5  # word boundaries for each one of the references, below which words are written as one
BLANK_STAGE = 2000  # updates after which a network should have left the stage of blanks
UNREADABLE = 0.9  # error rate above which next to nothing is right
STILL_FALLING = 0.95  # of an earlier value
SKIPPED = 0.05  # share of skipped updates that is too many
DIVERGED = 2.0  # times the lowest training loss; it depends on the batches, by half for a few of them


@dataclass(frozen=True)
class Finding:
    """What is wrong with a run.

    Attributes:
        key: one of `alphabet`, `boundaries`, `skipped`, `diverged`, `flat`, `blank`, `glued`, `updates`.
        sentence: what is wrong, why, and what to do.
    """

    key: str
    sentence: str


@dataclass(frozen=True)
class Transcripts:
    """What is known of a run's transcripts before training.

    Attributes:
        unseen: characters of dev transcripts that no training transcript has, the most frequent first.
        unseen_share: their share of the characters in dev transcripts, spaces left out.
        train_boundaries: spaces for each other character in training transcripts.
        dev_boundaries: the same in dev transcripts.
    """

    unseen: str
    unseen_share: float
    train_boundaries: float
    dev_boundaries: float


def diagnose(curve: Curve, settings: Finetune, transcripts: Transcripts) -> list[Finding]:
    """The findings about a run so far; an empty list for one that learns as it should.

    Before half of the updates, only what is clear early is found: the keys `alphabet`, `boundaries`, `skipped` and
    `diverged`. `updates` is found at the end only.

    Args:
        curve: rows of the learning curve, so far; `CtcObjective.evaluate` describes the columns `dev_*`. A rule whose
            columns are missing is left out.
        settings: of the run.
        transcripts: of the run.
    """
    findings = [_alphabet(transcripts), _boundaries(transcripts)]
    if curve:
        findings += [_skipped(curve, settings), _diverged(curve, settings)]
        if curve[-1]["step"] >= settings.updates / 2 and not any(findings[2:]):
            # The first one that applies hides the others, which would be consequences of it.
            rules = [_flat, _blank] if findings[1] else [_flat, _blank, _glued, _updates]
            found = (rule(curve, settings, transcripts) for rule in rules)
            findings.append(next(filter(None, found), None))
    return [finding for finding in findings if finding]


def boundaries(texts: Iterable[str]) -> float:
    """Spaces for each other character of texts; 0 without any character."""
    spaces = characters = 0
    for text in texts:
        spaces += text.count(" ")
        characters += len(text) - text.count(" ")
    return spaces / max(1, characters)


def _alphabet(transcripts: Transcripts) -> Finding | None:
    if transcripts.unseen_share <= UNSEEN:
        return None
    shown = " ".join(transcripts.unseen[:10]) + (" …" if len(transcripts.unseen) > 10 else "")
    return Finding(
        "alphabet",
        f"{transcripts.unseen_share:.0%} of the characters in dev transcripts occur in no training transcript "
        f"({shown}), so that the run can never write them: use one script and one spelling in both splits, or train "
        "on more transcripts.",
    )


def _boundaries(transcripts: Transcripts) -> Finding | None:
    if transcripts.train_boundaries >= RARE_BOUNDARIES / 2 * transcripts.dev_boundaries:
        return None
    return Finding(
        "boundaries",
        f"Training transcripts have {_spacing(transcripts.train_boundaries)}, dev transcripts "
        f"{_spacing(transcripts.dev_boundaries)}, so that the run does not learn where words end and writes them as "
        "one: put spaces between the words of training transcripts.",
    )


def _spacing(share: float) -> str:
    return f"one space for {1 / share:.0f} characters" if share else "no spaces"


def _skipped(curve: Curve, settings: Finetune) -> Finding | None:
    skipped, step = curve[-1].get("skipped", 0), curve[-1]["step"]
    if skipped <= SKIPPED * step:
        return None
    return Finding(
        "skipped",
        f"The loss or gradient of {skipped:.0f} of {step} batches was not finite, and they were left out: lower "
        f"finetune.learning_rate (now {settings.learning_rate:g}), or look at the utterances that the log names.",
    )


def _diverged(curve: Curve, settings: Finetune) -> Finding | None:
    losses = [row["train_loss"] for row in curve if "train_loss" in row]
    if not losses or losses[-1] - min(losses) <= 1.0 or losses[-1] <= DIVERGED * min(losses):
        return None
    return Finding(
        "diverged",
        f"The training loss rose from {min(losses):.3g} to {losses[-1]:.3g} nats for each character: lower "
        f"finetune.learning_rate (now {settings.learning_rate:g}) or lengthen finetune.warmup.",
    )


def _flat(curve: Curve, settings: Finetune, transcripts: Transcripts) -> Finding | None:
    """The network writes as much as it should, but hardly a character is right."""
    row = curve[-1]
    if row.get("dev_cer", 0.0) < UNREADABLE or _writes_nothing(row):
        return None
    first, last = curve[0].get("train_loss", float("nan")), row.get("train_loss", float("nan"))
    return Finding(
        "flat",
        f"After {row['step']} updates, hardly a character is right (character error rate {row['dev_cer']:.0%}, "
        f"training loss {first:.3g} at first and {last:.3g} now): raise finetune.learning_rate "
        f"(now {settings.learning_rate:g}) or finetune.updates (now {settings.updates}), and check that the "
        "transcripts belong to their audio.",
    )


def _blank(curve: Curve, settings: Finetune, transcripts: Transcripts) -> Finding | None:
    row = curve[-1]
    if not _writes_nothing(row):
        return None
    what = (
        f"The best label of {row['dev_blank']:.1%} of the dev frames is the blank, so that hypotheses have "
        f"{row['dev_length']:.0%} of the characters of references"
    )
    middle = _row_at(curve, row["step"] / 2)
    falls = row.get("train_loss", 0.0) < STILL_FALLING * middle.get("train_loss", 0.0)
    if row["step"] >= BLANK_STAGE and not falls:
        return Finding(
            "blank",
            f"{what}, and the training loss no longer falls after {row['step']} updates: raise finetune.learning_rate "
            f"(now {settings.learning_rate:g}), and check that the transcripts belong to their audio.",
        )
    return Finding(
        "blank",
        f"{what}: CTC training begins like this, and needs some hundred to two thousand updates to go on, so raise "
        f"finetune.updates (now {settings.updates}), or finetune.learning_rate (now {settings.learning_rate:g}) if the "
        "training loss does not fall.",
    )


def _writes_nothing(row: dict[str, float]) -> bool:
    return "dev_blank" in row and row.get("dev_length", 1.0) < EMPTY


def _glued(curve: Curve, settings: Finetune, transcripts: Transcripts) -> Finding | None:
    row, expected = curve[-1], transcripts.dev_boundaries
    written = row.get("dev_boundaries", expected)
    if written >= RARE_BOUNDARIES * expected:
        return None
    return Finding(
        "glued",
        f"Hypotheses have {_spacing(written)}, references {_spacing(expected)}: words are written as one, and each of "
        f"them counts as an error; boundaries are learnt late, so raise finetune.updates (now {settings.updates}).",
    )


def _updates(curve: Curve, settings: Finetune, transcripts: Transcripts) -> Finding | None:
    """At the end, hardly a word is right, but characters still become better."""
    row = curve[-1]
    if row["step"] < settings.updates or row.get("dev_wer", 0.0) < UNREADABLE or "dev_cer" not in row:
        return None
    earlier = _row_at(curve, 0.75 * row["step"])
    if earlier is row or row["dev_cer"] >= STILL_FALLING * earlier.get("dev_cer", 0.0):
        return None
    return Finding(
        "updates",
        f"The word error rate is still {row['dev_wer']:.0%}, but the character error rate falls "
        f"({earlier['dev_cer']:.0%} after {earlier['step']} updates, {row['dev_cer']:.0%} after {row['step']}): the "
        f"run learns and ended too early, so raise finetune.updates (now {settings.updates}).",
    )


def _row_at(curve: Curve, step: float) -> dict[str, float]:
    """The last row up to `step`, or the first of all."""
    return ([row for row in curve if row["step"] <= step] or [curve[0]])[-1]
