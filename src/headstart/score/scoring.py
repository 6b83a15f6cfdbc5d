"""Scoring: transcripts of the test split, and a row of alignments and error counts for each utterance."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from headstart.corpora.manifests import write_table
from headstart.decode.decoder import Decoder
from headstart.encoder.checkpoint_files import checkpoint_content, file_hash
from headstart.encoder.checkpoints import finetuned_model
from headstart.encoder.front_end import frame_stride
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.files import fingerprint_rows, read_json
from headstart.jobs import ScoreJob
from headstart.score.languages import units_of
from headstart.score.metrics import counts_by_metric
from headstart.score.score_file import CORPUS, language_columns, score_columns, score_schema
from headstart.score.score_table import ScoreTable
from headstart.score.transcription import emissions, greedy
from headstart.text.normalisation import TRANSCRIPT, normalise_hypothesis, normalised_runs, references
from headstart.text.summary import log_summary
from headstart.text.token_languages import ScriptLanguages, WordLanguages, measured, monolingual, tagger

log = logging.getLogger(__name__)


def score_recipe(job: ScoreJob) -> dict[str, Any]:
    """What the scores of a run follow from."""
    clips = Clips.open(job.test.features, job.test.audio)
    with_language_model = {}
    if job.language_model:
        with_language_model = {
            "search": job.search.model_dump(mode="json"),
            "language_model": file_hash(job.language_model.arpa)[:16],
            "dev": dev_clips(job).content,
        }
    return {
        "stage": job.stage,
        "version": job.version,
        "text": job.text.model_dump(mode="json"),
        "normalisation": job.normalisation,
        **with_language_model,
        "run": checkpoint_content(job.run),
        "content": clips.content,
        "tokens": fingerprint_rows(clips.rows("tokens", "token_languages")),
        "languages": {tag: fingerprint_rows(texts) for tag, texts in monolingual(job.languages, job.text).items()},
    }


def dev_clips(job: ScoreJob) -> Clips:
    """The dev utterances on which the weights of the language model are tuned."""
    return Clips.open(job.dev.features, job.dev.audio).first(job.search.tuning_minutes)


def run_decoder(job: ScoreJob, network: Any, vocabulary: dict[str, int]) -> Decoder:
    """The decoder of a run; with a language model, its weights are tuned on dev."""
    frame_s = frame_stride(network.config) / SAMPLE_RATE
    decoder = Decoder(vocabulary, frame_s)
    if job.language_model:
        dev = dev_clips(job)
        texts = list(references(dev, job.text))
        spoken = ((logits_TV, texts[index]) for index, logits_TV in emissions(network, dev, vocabulary))
        decoder.use_language_model(job.language_model, job.search, spoken)
    return decoder


def score_run(job: ScoreJob) -> None:
    """Transcribe a test split with a fine-tuned run and write a row of alignments and counts for each utterance.

    References that are empty after normalisation cannot be scored: they are left out and counted in the log.

    Raises:
        CheckpointError: the run's folder is damaged.
        DataError: no utterance can be scored.
    """
    recipe = score_recipe(job)  # first, because it checks what is opened below
    clips = Clips.open(job.test.features, job.test.audio)
    spoken = list(references(clips, job.text))
    scored = [i for i, reference in enumerate(spoken) if reference]
    if len(scored) < len(clips):
        log.warning("%d utterances have no reference after normalisation and are left out", len(clips) - len(scored))
    if not scored:
        raise DataError(f"{job.test.features}: no utterance can be scored, none has a reference after normalisation")
    clips = clips.take(scored)
    log_summary("test", clips, job.text)
    network = finetuned_model(job.run).eval()
    vocabulary = read_json(Path(job.run) / "vocab.json")
    words = _tagger(job, clips)
    decoder = run_decoder(job, network, vocabulary)
    rows: list[dict[str, Any]] = [{} for _ in range(len(clips))]
    keys = ("utterance_id", "speaker", "duration_s", *TRANSCRIPT)
    known = list(zip(clips.rows(*keys), filter(None, spoken), strict=True))
    for index, logits_TV in emissions(network, clips, vocabulary):
        values, reference = known[index]
        facts = dict(zip(keys, values, strict=True))
        text, *tagged = (facts[key] for key in TRANSCRIPT)
        runs, source = normalised_runs(text, job.text, *tagged), CORPUS
        if runs is None and words is not None:
            units = units_of(reference.split())
            runs, source = list(zip(words.tag(units), units, strict=True)), words.source
        hypothesis = normalise_hypothesis(greedy(logits_TV, vocabulary))
        decoded = decoder.columns(logits_TV, hypothesis, reference)
        columns = score_columns(reference, hypothesis, decoded["hypothesis_lm"], text)
        rows[index] = {**facts, **language_columns(reference, runs, source), **decoded, **columns}
    write_table(job.output, rows, score_schema(), recipe=recipe, tuning=decoder.facts())
    table = ScoreTable({name: [row[name] for row in rows] for name in rows[0]})
    totals = {
        name: dict(zip(counts._fields, (int(kind.sum()) for kind in counts), strict=True))
        for name, counts in counts_by_metric(table).items()
    }
    log.info("%s: %d utterances, %s", job.run, len(rows), json.dumps(totals))


def _tagger(job: ScoreJob, clips: Clips) -> ScriptLanguages | WordLanguages | None:
    """What tags the words of references without tags; None where the study names no languages."""
    if not job.languages:
        return None
    texts = monolingual(job.languages, job.text)
    made = tagger(texts)
    share, where = measured(made, texts, clips.rows(*TRANSCRIPT), job.text)
    log.info("languages of words without tags are inferred by %s; accuracy %.3f, on %s", made.source, share, where)
    return made
