"""Memory of training: flat in the number and the size of corpora, as `benchmarks/memory.py` measures it."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell what was resident")
def test_a_hundred_times_the_corpus_takes_less_than_200_mb_more(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import memory

    (row,) = memory.rows(hours=1.0, copies=100, updates=10)
    assert row["ours"] - row["peer"] < 200
    assert row["peer"] > 100 and row["unit"] == "MB"  # a process with PyTorch: it did run
    assert row["name"] == "resident memory, 100 h against 1 h manifest"
