"""Scoring: transcripts of the test split, and one row of error counts an utterance."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import jiwer
import pyarrow as pa

from headstart.corpora.manifests import write_table
from headstart.encoder.checkpoint_files import checkpoint_content
from headstart.encoder.checkpoints import finetuned_model
from headstart.errors import DataError
from headstart.features.clips import Clips
from headstart.files import read_json
from headstart.jobs import ScoreJob
from headstart.score.transcription import transcribe
from headstart.text.normalisation import normalise, references

log = logging.getLogger(__name__)

COUNTS = ("hits", "substitutions", "deletions", "insertions")
SCORES = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("speaker", pa.string()),
        pa.field("language", pa.string(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("hypothesis", pa.string(), nullable=False),
        *(pa.field(f"{unit}_{count}", pa.int64(), nullable=False) for unit in ("word", "char") for count in COUNTS),
    ]
)


def error_counts(reference: str, hypothesis: str) -> dict[str, int]:
    """Hits, substitutions, deletions and insertions of words and of characters (spaces included), by jiwer."""
    words = jiwer.process_words(reference, hypothesis)
    chars = jiwer.process_characters(reference, hypothesis)
    return {f"{unit}_{c}": getattr(found, c) for unit, found in (("word", words), ("char", chars)) for c in COUNTS}


def score_recipe(job: ScoreJob) -> dict[str, Any]:
    """What the scores of a run follow from."""
    return {
        "stage": job.stage,
        "version": job.version,
        "text": job.text.model_dump(mode="json"),
        "run": checkpoint_content(job.run),
        "content": Clips.open(job.test.features, job.test.audio).content,
    }


def score_run(job: ScoreJob) -> None:
    """Transcribe a test split with a fine-tuned run and write a row of error counts for each utterance.

    References that are empty after normalisation cannot be scored: they are left out and counted in the log.

    Raises:
        DataError: no utterance can be scored.
    """
    clips = Clips.open(job.test.features, job.test.audio)
    scored = [i for i, reference in enumerate(references(clips, job.text)) if reference]
    if len(scored) < len(clips):
        log.warning("%d utterances have no reference after normalisation and are left out", len(clips) - len(scored))
    if not scored:
        raise DataError(f"{job.test.features}: no utterance can be scored, none has a reference after normalisation")
    clips = clips.take(scored)
    network = finetuned_model(job.run).eval()
    vocabulary = read_json(Path(job.run) / "vocab.json")
    rows = []
    keys = ("utterance_id", "speaker", "language", "duration_s")
    transcripts = transcribe(network, clips, vocabulary)
    for values, reference, transcript in zip(clips.rows(*keys), references(clips, job.text), transcripts, strict=True):
        facts = dict(zip(keys, values, strict=True))
        hypothesis = normalise(transcript, job.text, facts["language"])
        rows.append({**facts, "reference": reference, "hypothesis": hypothesis, **error_counts(reference, hypothesis)})
    write_table(job.output, rows, SCORES, recipe=score_recipe(job))
    totals = {key: sum(row[key] for row in rows) for key in rows[0] if "_" in key and isinstance(rows[0][key], int)}
    log.info("%s: %d utterances, %s", job.run, len(rows), json.dumps(totals))
