"""Label budgets: nested, as long as asked for, different for every seed, and refused when the split is too small."""

import numpy as np
import pytest

from headstart.corpora.manifests import FEATURES, read_table, write_table
from headstart.subsets import SUBSET, BudgetError, draw, draw_subset

SECOND = 16_000


@pytest.fixture
def features(tmp_path) -> str:
    """200 clips of 1 to 5 s; every tenth has no transcript."""
    lengths = np.random.default_rng(0).integers(SECOND, 5 * SECOND, 200).tolist()
    measured = {"loudness_dbfs": -20.0, "snr_db": 20.0, "speech_ratio": 0.8, "content_hash": "x"}
    place = {"audio_path": "x.wav", "offset_s": 0.0, "language": "qu"}
    rows = [
        {**place, **measured, "utterance_id": f"u{i}", "text": None if i % 10 == 0 else "ari", "num_samples": length}
        for i, length in enumerate(lengths)
    ]
    write_table(
        tmp_path / "train.parquet", [{**row, "duration_s": row["num_samples"] / SECOND} for row in rows], FEATURES
    )
    return str(tmp_path / "train.parquet")


def subset(features: str, budget: str, seed: int) -> list[dict]:
    output = f"{features}.{budget}.{seed}"
    draw_subset(features, budget, seed, output)
    return read_table(output, SUBSET)


def test_a_subset_holds_what_was_asked_for_and_only_labelled_clips(features):
    rows = read_table(features, FEATURES)
    for budget, seconds in (("30s", 30), ("2min", 120), ("0.1h", 360)):
        chosen = subset(features, budget, seed=1)
        held = sum(rows[row["index"]]["duration_s"] for row in chosen)
        assert seconds <= held < seconds + 5
        assert all(rows[row["index"]]["utterance_id"] == row["utterance_id"] for row in chosen)
        assert all(rows[row["index"]]["text"] for row in chosen)
        assert len({row["index"] for row in chosen}) == len(chosen)


def test_subsets_of_a_seed_are_nested(features):
    for seed in (1, 2):
        ids = [{row["utterance_id"] for row in subset(features, budget, seed)} for budget in ("30s", "2min", "6min")]
        assert ids[0] < ids[1] < ids[2]


def test_seeds_draw_different_subsets_and_the_same_again(features):
    one, two = subset(features, "2min", 1), subset(features, "2min", 2)
    shared = {row["index"] for row in one} & {row["index"] for row in two}
    assert len(shared) < 0.6 * len(one)
    assert subset(features, "2min", 1) == one


def test_speakers_in_turn_have_equal_shares_of_nested_budgets_as_long_as_theirs_last():
    """One speaker has half of the audio, 19 have the rest but for the last, who has 20 s."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(SECOND, 3 * SECOND, 800)
    speakers = ["loud"] * 400 + [f"s{i % 19}" for i in range(390)] + ["brief"] * 10
    budgets = [draw(lengths, seconds, 1, "", speakers) for seconds in (120, 300, 600)]
    assert set(budgets[0]) < set(budgets[1]) < set(budgets[2])
    for chosen, share in zip(budgets, (6, 14, 30), strict=True):
        held = {name: lengths[[i for i in chosen if speakers[i] == name]].sum() / SECOND for name in set(speakers)}
        brief = held.pop("brief")
        assert max(held.values()) - min(held.values()) <= 3.5  # an utterance has 3 s at most
        assert abs(brief - min(share, 20)) < 4
    assert lengths[[i for i in draw(lengths, 600, 1, "") if speakers[i] == "loud"]].sum() / SECOND > 250
    # Without speakers there is one, and the order is the random one.
    assert draw(lengths, 600, 1, "", [None] * 800).tolist() == draw(lengths, 600, 1, "").tolist()


def test_a_subset_is_not_the_start_of_the_corpus(features):
    indices = [row["index"] for row in subset(features, "1min", 1)]
    assert indices == sorted(indices) and max(indices) > 100


def test_a_budget_beyond_the_split_is_refused_with_both_numbers(features):
    held = sum(row["duration_s"] for row in read_table(features, FEATURES) if row["text"]) / 60
    with pytest.raises(BudgetError, match=rf"'1h'.*train.parquet: 60.0 min .*split holds {held:.1f} min"):
        subset(features, "1h", 1)
    with pytest.raises(BudgetError, match="holds 0.0 min"):
        draw([], 1.0, 0, "nothing")


def test_a_round_budget_may_miss_half_a_per_cent():
    assert draw([SECOND] * 600, 601.0, 0, "ten minutes").tolist() == list(range(600))
    with pytest.raises(BudgetError):
        draw([SECOND] * 600, 604.0, 0, "ten minutes")
