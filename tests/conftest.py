"""Corpora small enough for tests, made through the library's own stages."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

LONGEST = ("test_workflow.py", "test_slurm.py", "test_versioning.py", "test_dvc.py")  # files whose tests take minutes
SHORT_NOISE = [int(seconds * 16000) for seconds in (0.5, 0.7, 0.9, 1.1, 1.3, 1.5, 0.6, 0.8, 1.0, 1.2)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that processes that share the tests end at about the same time."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Take away the log that a test sets up, which would write the lines of later tests to a stream that is closed."""
    loggers = [logging.getLogger(), logging.getLogger("headstart")]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    hook = sys.excepthook
    yield
    sys.excepthook = hook
    for logger, handlers, level in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Tiny matrices gain nothing from a second thread."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def write_manifest() -> Callable[..., str]:
    """A function that writes clips as wav files and their manifest, and returns the manifest's path."""
    from headstart.corpora.manifests import MANIFEST, write_table

    def write(folder: Path, clips: Sequence[np.ndarray], texts: Sequence[str | None] = (), rate: int = 16000) -> str:
        rows = []
        for number, samples in enumerate(clips):
            path = folder / f"clip{number:03d}.wav"
            soundfile.write(path, samples, rate, subtype="PCM_16")
            row = {
                "utterance_id": path.stem,
                "audio_path": str(path),
                "offset_s": 0.0,
                "duration_s": len(samples) / rate,
                "language": "en",
                "text": texts[number] if texts else None,
            }
            rows.append(row)
        write_table(folder / "manifest.parquet", rows, MANIFEST)
        return str(folder / "manifest.parquet")

    return write


@pytest.fixture(scope="session")
def make_clips(write_manifest) -> Callable[..., object]:
    """A function that takes clips through the feature stage."""
    from headstart.features.clips import Clips
    from headstart.features.extraction import extract_features

    def make(folder: Path, clips: Sequence[np.ndarray], texts: Sequence[str | None] = (), rate: int = 16000) -> Clips:
        manifest = write_manifest(folder, clips, texts, rate)
        audio, features, rejects = (str(folder / name) for name in ("a.arrow", "a.parquet", "a.rejects.parquet"))
        extract_features(manifest, audio, features, rejects)
        return Clips.open(features, audio)

    return make


@pytest.fixture(scope="session")
def noise_clips(make_clips, tmp_path_factory):
    """Ten labelled clips of noise, 0.5 to 1.5 s."""
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(length) for length in SHORT_NOISE]
    texts = ["ab ba", "bad", "a cab", "dab a bad", "abba", "cad", "add", "ca", "dad", "bb"]
    return make_clips(tmp_path_factory.mktemp("noise"), clips, texts)


@pytest.fixture(scope="session")
def tiny_model():
    """An encoder of a few thousand weights with every part of a large one."""
    from headstart.study.model import Model

    return Model(
        hidden_size=32,
        layers=2,
        heads=2,
        intermediate_size=64,
        conv_dim=(16, 24),
        position_kernel=8,
        position_groups=4,
        codebook_entries=8,
        codevector_size=16,
        projection_size=16,
    )


def speech(folder: Path, **hours: float) -> dict[str, dict[str, str]]:
    """Synthetic English after the feature stage: split -> `features` and `audio` paths."""
    from headstart.corpora.reading import read_corpus
    from headstart.corpora.registry import open_reader
    from headstart.corpora.synthetic.reader import SplitHours, SyntheticCorpus
    from headstart.corpora.synthetic.synthesis import synthesise_corpus
    from headstart.features.extraction import extract_features

    synthesise_corpus(folder / "raw", language="en", hours=hours, seed=0)
    corpus = SyntheticCorpus(reader="synthetic", language="en", hours=SplitHours(**hours))
    manifests = {split: (str(folder / f"{split}.m"), str(folder / f"{split}.mr")) for split in hours}
    read_corpus(open_reader(corpus, folder / "raw"), manifests)
    paths = {}
    for split, (manifest, _) in manifests.items():
        paths[split] = {"features": str(folder / f"{split}.parquet"), "audio": str(folder / f"{split}.arrow")}
        extract_features(manifest, **paths[split], rejects=str(folder / f"{split}.fr"))
    return paths


@pytest.fixture(scope="session")
def english(tmp_path_factory) -> dict[str, dict[str, str]]:
    """About a minute of synthetic English."""
    return speech(tmp_path_factory.mktemp("english"), train=0.009, dev=0.003, test=0.004)


@pytest.fixture(scope="session")
def check_advice() -> Callable[..., None]:
    """A function that checks what an objective with a patience of 4 says of rows that differ from healthy ones."""

    def check(objective, healthy: dict[str, float], row: dict[str, float], advice: str) -> None:
        curve = [{"step": step, **healthy, **row} for step in (2, 4)]
        assert objective.collapse_advice(curve[:1]) is None  # too early to say
        with pytest.raises(AssertionError, match=advice):
            raise AssertionError(objective.collapse_advice(curve))
        assert objective.collapse_advice([*curve, {"step": 6, **healthy}]) is None

    return check


@pytest.fixture(scope="session")
def learner(tmp_path_factory, one_thread):
    """A function that pre-trains a small encoder on 0.15 h of English with some settings, and tells what came of it.

    It returns the start's learning curve, and the CTC loss a character on dev speech of a linear probe on its frozen
    frames and of one on those of random weights, both trained on 60 utterances.
    """
    import pyarrow.parquet as pq
    import torch

    from headstart.encoder.checkpoints import ctc_model
    from headstart.encoder.model import encode
    from headstart.features.clips import Clips
    from headstart.jobs import PretrainJob
    from headstart.objectives.ctc import CtcObjective, ctc_loss
    from headstart.pretrain import pretrain_start
    from headstart.score.transcription import clip_features
    from headstart.study.finetune import Finetune
    from headstart.study.model import Model
    from headstart.study.pretrain import Pretrain
    from headstart.study.text import Text
    from headstart.text.normalisation import BLANK, build_vocabulary, references
    from headstart.text.normalisation import encode as encode_text
    from headstart.training import loop as training

    paths = speech(tmp_path_factory.mktemp("speech"), train=0.15, dev=0.01, test=0.003)
    shape = {"hidden_size": 128, "layers": 3, "heads": 2, "intermediate_size": 256, "conv_dim": (160, 128)}
    model = Model(**shape, position_kernel=16, position_groups=8)
    train, dev = (Clips.open(**paths[split]) for split in ("train", "dev"))
    train = train.take(range(60))
    vocabulary = build_vocabulary(references(train, Text()))

    @cache
    def probe(start: str | None) -> float:
        undisturbed = {"dropout": 0.0, "mask_time_share": 0.0, "mask_feature_share": 0.0}
        settings = Finetune(updates=250, batch_seconds=24.0, learning_rate=3e-2, freeze_encoder=1.0, **undisturbed)
        torch.manual_seed(0)
        network = ctc_model(start, model, vocabulary, 0.0)
        ctc = CtcObjective(network, vocabulary, train, dev, Text(), settings, True, seed=0)
        ctc.evaluate = dict
        training.train(
            ctc, ctc.batches, settings, stage="probe", recipe={}, seed=0, state_dir=tmp_path_factory.mktemp("probe")
        )
        ctc.train, ctc.references = dev, ctc.dev_references
        total = characters = 0.0
        with torch.no_grad():
            for index, reference in enumerate(ctc.dev_references):
                features, frames = clip_features(network, dev, [index], 1600)
                logits = network.eval().lm_head(encode(network.base_model, features, frames)[0])
                labels = [encode_text(reference, vocabulary)]
                total += float(ctc_loss(logits, frames, labels, vocabulary[BLANK], 1))
                characters += len(reference)
        return total / characters

    def learn(**settings) -> tuple[list[dict[str, float]], float, float]:
        folder = tmp_path_factory.mktemp("start")
        options = Pretrain(**{"updates": 300, "batch_seconds": 16.0, "crop_seconds": 4.0, "log_every": 10, **settings})
        corpora = [{"name": "en", "train": paths["train"], "hours": 0.15}]
        output, state = str(folder / "start"), str(folder / "state")
        job = {"corpora": corpora, "settings": options, "model": model, "parent": None, "seed": 1}
        pretrain_start(PretrainJob.of(**job, output=output, state=state))
        curve = pq.read_table(folder / "start" / "curve.parquet").to_pylist()
        return curve, probe(output), probe(None)

    return learn
