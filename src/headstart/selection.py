"""Selection of audio: which utterances of its corpora a start is trained on (`select` of a study file)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from headstart.corpora.manifests import CLUSTERS, read_columns, write_table
from headstart.errors import DataError
from headstart.features.audio import SAMPLE_RATE
from headstart.features.clips import Clips
from headstart.jobs import CorpusHours
from headstart.study.selection import Select
from headstart.subsets import take_first

log = logging.getLogger(__name__)

FILE = "selection.parquet"  # beside a start's checkpoint
SELECTION = pa.schema(
    [
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("speaker", pa.string()),
        pa.field("language", pa.string(), nullable=False),
    ]
)


@dataclass
class Pool:
    """The utterances of one corpus that a start may be trained on, and how much of them is wanted.

    Attributes:
        clips: the training split.
        places: the utterances that may be chosen, positions in `clips`.
        seconds: of audio to choose.
        what: what the audio is for, as the subject of error messages.
        clusters: the file from `cluster_clips`, for selection by clusters.
    """

    clips: Clips
    places: np.ndarray
    seconds: float
    what: str
    clusters: str | None = None

    @property
    def lengths(self) -> np.ndarray:
        """Samples of each utterance that may be chosen."""
        return self.clips.lengths[self.places]

    def groups(self, by: str) -> np.ndarray:
        """The group of each utterance that may be chosen.

        Raises:
            DataError: some have no speaker, or the clusters are those of other data.
        """
        if by == "clusters":
            names = read_columns(self.clusters, CLUSTERS, ["cluster"])["cluster"].to_numpy()
            if len(names) != len(self.clips):
                raise DataError(f"{self.clusters} is not about {self.what}; delete it and run again")
            return names[self.places]
        names = self.clips.take(self.places).column(by)
        if missing := sum(name is None for name in names):
            raise DataError(
                f"{self.what}: {missing} of {len(names)} utterances have no {by}, so that they cannot be selected by "
                f"{by}; tell the corpus's reader where to find it, or select by clusters"
            )
        return np.array(names)


def select(pools: Sequence[Pool], how: Select, seed: int) -> list[np.ndarray]:
    """Choose the wanted audio of each corpus; by language, that of all corpora together.

    Returns:
        For each pool, positions in its `clips`, ascending.

    Raises:
        BudgetError: there is less audio than wanted.
        DataError: the utterances cannot be grouped as asked for.
    """
    if how.by == "language" and pools:
        lengths = np.concatenate([pool.lengths for pool in pools])
        groups = np.concatenate([pool.groups("language") for pool in pools])
        order = order_of_choice(lengths, how, seed, groups)
        what = " and ".join(pool.what for pool in pools)
        chosen = take_first(order, lengths, sum(pool.seconds for pool in pools), what)
        begins = np.cumsum([0, *(len(pool.places) for pool in pools)])
        parts = np.split(chosen, np.searchsorted(chosen, begins[1:-1]))
        return [pool.places[part - begin] for pool, part, begin in zip(pools, parts, begins, strict=False)]
    selected = []
    for number, pool in enumerate(pools):
        groups = pool.groups(how.by) if how.by else None
        order = order_of_choice(pool.lengths, how, seed + number, groups)
        selected.append(pool.places[take_first(order, pool.lengths, pool.seconds, pool.what)])
    return selected


def order_of_choice(lengths: ArrayLike, how: Select, seed: int, groups: ArrayLike | None = None) -> np.ndarray:
    """The order in which utterances are taken, whatever amount is wanted: a larger choice contains a smaller one.

    With groups, an utterance is due when its group's share is used up to the utterance's middle. The shares of the
    groups in what is taken are then as near to those of `Select` as whole utterances allow.

    Args:
        lengths: samples of each utterance, shape (N,).
        groups: the group of each utterance, shape (N,).

    Returns:
        A permutation of the N utterances.
    """
    lengths = np.asarray(lengths, np.float64)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    if how.order == "longest":
        order = order[np.argsort(-lengths[order], kind="stable")]  # random among equally long ones
    if groups is None:
        return order
    _, group = np.unique(groups, return_inverse=True)
    order = order[np.argsort(group[order], kind="stable")]
    group, lengths = group[order], lengths[order]
    held = np.bincount(group, lengths)
    weights = np.ones(len(held)) if how.temperature is None else held ** (1 / how.temperature)
    before = np.cumsum(held) - held
    middle = np.cumsum(lengths) - lengths / 2 - before[group]
    return order[np.lexsort((rng.permutation(len(order)), middle / weights[group]))]


def selection_recipe(how: Select | None, corpora: Sequence[CorpusHours], clips: Clips) -> dict[str, Any]:
    """What a recipe says of a selection: its settings, and what was chosen of each corpus, which is logged, too.

    Empty if nothing was to be selected. The file from `write_selection` lists the utterances.

    Args:
        corpora: the corpora of `clips`, in their order.
    """
    if how is None:
        return {}
    owners, facts = _owners(corpora, clips), {}
    for number, corpus in enumerate(corpora):
        whole = Clips.open(corpus.train.features, corpus.train.audio)
        chosen, of = _summary(clips.take(np.flatnonzero(owners == number))), _summary(whole)
        facts[corpus.name] = {"chosen": chosen, "of": of}
        log.info(
            "%s: %d of %d utterances chosen, %.2f of %.2f h, %.2f s long on average (all: %.2f s), %d of %d speakers",
            corpus.name,
            *(part[key] for key in ("utterances", "hours", "mean_seconds", "speakers") for part in (chosen, of)),
        )
    return {"select": how.model_dump(mode="json"), "selection": facts}


def _owners(corpora: Sequence[CorpusHours], clips: Clips) -> np.ndarray:
    """The number of the corpus of each utterance, shape (N,). A corpus has several splits if its audio is in shards."""
    splits = [len(Clips.open(corpus.train.features, corpus.train.audio).splits) for corpus in corpora]
    return np.repeat(np.arange(len(corpora)), splits)[clips.split]


def _summary(clips: Clips) -> dict[str, Any]:
    """Of some utterances: their number, hours, mean length in seconds, and number of known speakers."""
    return {
        "utterances": len(clips),
        "hours": round(clips.seconds / 3600, 4),
        "mean_seconds": round(clips.seconds / max(1, len(clips)), 3),
        "speakers": len(set(clips.column("speaker")) - {None}),
    }


def write_selection(folder: Path, corpora: Sequence[CorpusHours], clips: Clips) -> None:
    """Write the list of the chosen utterances, with the columns of `SELECTION`, into a checkpoint folder."""
    rows = (
        {
            "corpus": corpora[number].name,
            "utterance_id": name,
            "seconds": int(samples) / SAMPLE_RATE,
            "speaker": speaker,
            "language": language,
        }
        for number, samples, (name, speaker, language) in zip(
            _owners(corpora, clips), clips.lengths, clips.rows("utterance_id", "speaker", "language"), strict=True
        )
    )
    write_table(folder / FILE, rows, SELECTION)
