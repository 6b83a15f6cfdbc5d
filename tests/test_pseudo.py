"""Pseudo-labels: greedy paths with their confidence, a cache that forgets, and a guard that sees collapse."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2CTCTokenizer

from headstart.objectives.pseudo_labels import Cache, CollapseDetector, PseudoLabel, greedy_labels

BLANK = 0


def logits_of(paths: list[list[int]], entries: int = 5, sure: float = 3.0) -> torch.Tensor:
    """Logits (B, T, V) whose most likely labels are these paths, padded with label 1."""
    size = max(map(len, paths))
    index = torch.tensor([path + [1] * (size - len(path)) for path in paths])
    return sure * torch.nn.functional.one_hot(index, entries).float()


def test_labels_are_paths_without_repeats_and_blanks_and_padding_has_none():
    paths = [[0, 2, 2, 0, 2, 3, 3, 0], [4, 4, 4], [0, 0], []]
    frames = torch.tensor([len(path) for path in paths])
    made = greedy_labels(logits_of(paths), frames, BLANK)
    assert [label.labels for label in made] == [[2, 2, 3], [4], [], []]
    probability = float(torch.softmax(torch.tensor([3.0, 0, 0, 0, 0]), 0)[0])
    assert [label.confidence for label in made] == pytest.approx([probability, probability, 0.0, 0.0])


def test_labels_are_those_of_transformers_tokenizer(tmp_path):
    """An independent decoder, on random paths."""
    characters = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "b": 4, "c": 5}
    (tmp_path / "vocab.json").write_text(str(characters).replace("'", '"'))
    tokenizer = Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"), bos_token=None, eos_token=None)
    logits_BTV = torch.randn(20, 30, 6, generator=torch.Generator().manual_seed(0))
    logits_BTV[..., 1] = -100.0
    made = greedy_labels(logits_BTV, torch.full((20,), 30), BLANK)
    names = {index: c for c, index in characters.items()}
    for path, label in zip(logits_BTV.argmax(-1), made, strict=True):
        text = "".join(names[i] for i in label.labels).replace("|", " ").strip()
        assert text == tokenizer.decode(path.tolist())


def test_confidence_is_the_mean_over_frames_that_speak():
    logits_BTV = torch.tensor([[[5.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 4.0]]])
    probabilities = logits_BTV.softmax(-1)[0].max(-1).values
    (label,) = greedy_labels(logits_BTV, torch.tensor([3]), BLANK)
    assert label.confidence == pytest.approx(float(probabilities[1:].mean()))


def test_a_cache_keeps_labels_for_as_many_updates_as_asked():
    cache = Cache(10)
    cache.put(4, 100, PseudoLabel([1, 2], 0.5))
    assert cache.get(4, 109) == PseudoLabel([1, 2], 0.5)
    assert cache.get(4, 110) is None and cache.get(5, 100) is None
    none = Cache(0)
    none.put(4, 100, PseudoLabel([1], 0.5))
    assert none.get(4, 100) is None


def test_cache_and_guard_are_restored_from_their_state():
    cache, guard = Cache(10), CollapseDetector(0.2)
    for clip, labels in ((7, [1, 2, 3]), (2, []), (9, [4])):
        cache.put(clip, 100 + clip, PseudoLabel(labels, clip / 10))
    guard.see([PseudoLabel([1, 1, 2], 0.9), PseudoLabel([], 0.0)])
    cache_again, guard_again = Cache(10), CollapseDetector(0.2)
    cache_again.restore(cache.state())
    guard_again.restore(guard.state())
    assert cache_again.kept == cache.kept
    assert (guard_again, guard_again.counts) == (guard, guard.counts)
    empty = Cache(10)
    empty.restore(Cache(10).state())
    assert empty.kept == {}


def test_a_guard_tells_collapse_from_speech():
    rng = np.random.default_rng(0)
    speech = [PseudoLabel(rng.integers(1, 20, 30).tolist(), 0.9) for _ in range(20)]
    guard = CollapseDetector(usual=0.1)
    guard.see(speech)
    assert guard.collapsed() is None
    guard.clear()
    guard.see([PseudoLabel([], 0.0)] * 19 + speech[:1])
    assert "19 of 20 pseudo-labels are empty" in guard.collapsed()
    guard.clear()
    guard.see([PseudoLabel([3, 3, 3, 4], 0.9)] * 5)
    assert "one label is 75% of all pseudo-labels" in guard.collapsed()
    guard.clear()
    assert guard.collapsed() is None
