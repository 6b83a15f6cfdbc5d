"""Training of n-gram language models on training text: transcripts of the training split, and text files."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from headstart.corpora.manifests import FEATURES
from headstart.decode.arpa import BEGIN, END, UNKNOWN
from headstart.decode.fusion import tokens
from headstart.errors import DataError, HeadstartError
from headstart.files import derived, file_digest, fingerprint_rows, read_json, write_json, written_whole
from headstart.jobs import LanguageModelFiles, LanguageModelJob
from headstart.makers import again
from headstart.text.normalisation import normalise, transcript_rows

log = logging.getLogger(__name__)

RARE_WORDS = 0.25  # share of dev words that the training text lacks, above which `auto` takes characters
MOST_DISCOUNT = 0.9  # where no n-gram occurs twice, it would be 1, and what was seen once would be impossible
ORDERS = {"words": 3, "characters": 6}  # of a model whose order the study does not set


def transcripts(job: LanguageModelJob, features: str) -> Iterator[str]:
    """Normalised transcripts of a split, without empty ones."""
    for text, *facts in transcript_rows(features, FEATURES):
        if sentence := normalise(text or "", job.text, *facts):
            yield sentence


def sentences(path: str) -> Iterator[str]:
    """The lines of a text file, which may be compressed by gzip.

    Raises:
        DataError: the file is not UTF-8.
        HeadstartError: it is missing or unreadable.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
            yield from file
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error}); convert it, for example with iconv") from None
    except (OSError, EOFError) as error:
        raise HeadstartError(f"{path}: the text cannot be read ({error})") from None


def training_text(job: LanguageModelJob) -> list[str]:
    """All training sentences, normalised; none of them is empty."""
    spoken = list(transcripts(job, job.train))
    written = [normalise(line, job.text, job.language) for path in job.files for line in sentences(path)]
    reserved = {BEGIN, END, UNKNOWN}
    both = (" ".join(word for word in text.split() if word not in reserved) for text in (*spoken, *written))
    return [text for text in both if text]


def language_model_recipe(job: LanguageModelJob) -> dict[str, Any]:
    """What a language model follows from."""
    return _recipe(job, training_text(job), transcripts(job, job.dev))


def _recipe(job: LanguageModelJob, training: list[str], dev: Iterable[str]) -> dict[str, Any]:
    return {
        "stage": job.stage,
        "version": job.version,
        "normalisation": job.normalisation,
        "settings": job.settings.model_dump(mode="json"),
        "content": fingerprint_rows([*training, None, *dev]),
    }


def train_language_model(job: LanguageModelJob) -> None:
    """Train a language model; write it as an ARPA file, and what it was made from beside it.

    Raises:
        DataError: there is no training text, or a text file cannot be read.
    """
    text = training_text(job)
    if not text:
        raise DataError(f"{job.train}: no transcript to train a language model on, nor text files with text")
    words = {word for sentence in text for word in sentence.split()}
    dev = list(transcripts(job, job.dev))
    dev_words = [word for sentence in dev for word in sentence.split()]
    unknown = sum(word not in words for word in dev_words) / len(dev_words) if dev_words else 0.0
    units = job.settings.units
    if units == "auto":
        units = "characters" if unknown > RARE_WORDS else "words"
    order = job.settings.order or ORDERS[units]
    write_arpa(job.output, (tokens(sentence, units == "characters") for sentence in text), order)
    facts = {"units": units, "order": order, "sentences": len(text), "distinct_words": len(words)}
    facts["unknown_dev_words"] = round(unknown, 4)
    log.info("%s: %s", job.output, json.dumps(facts))
    facts["arpa"] = file_digest(job.output)
    write_json(job.recipe, {**_recipe(job, text, dev), "facts": facts})


def write_arpa(path: str | Path, sentences: Iterable[list[str]], order: int) -> None:
    """Train an n-gram model with Kneser-Ney smoothing and write it in ARPA format.

    `<unk>` has the probability of a word that was seen once. An order that no sentence is long enough for is lowered.
    """
    from kaldingram.train import NgramCounts

    sentences = list(sentences)
    order = min(order, max(map(len, sentences)) + 2)
    with redirect_stderr(StringIO()):  # progress bars
        counts = NgramCounts(order)
        for words in sentences:
            counts.add_raw_counts_from_line(" ".join(words))
        counts.add_count((), UNKNOWN, UNKNOWN, 1)
        counts.cal_discounting_constants()
        counts.d = [min(discount, MOST_DISCOUNT) for discount in counts.d]
        counts.cal_f()
        counts.cal_bow()
        with written_whole(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
            counts.print_as_arpa(file)


def language_model_units(files: LanguageModelFiles) -> str:
    """`words` or `characters`: the tokens of a trained model, by its recipe.

    Raises:
        HeadstartError: the recipe or the model is damaged.
    """
    with derived(files.recipe, ValueError, KeyError, TypeError):
        facts = read_json(files.recipe)["facts"]
        units, expected = facts["units"], facts.get("arpa")
    if expected not in (None, file_digest(files.arpa)):
        raise HeadstartError(
            f"{files.arpa}: the file is damaged or was replaced, its hash is not the one in {files.recipe}. Delete it "
            f"and {again(files.arpa)}"
        )
    return units
