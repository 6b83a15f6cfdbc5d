"""The rules of the workflow by the files that they make, for messages about a file that is missing or damaged."""

from __future__ import annotations

import re
from pathlib import Path

# The first pattern that is found in a path counts. tests/test_makers.py compares them to the rules.
MAKERS = (
    (r"data/manifests/", "read_corpus"),
    (r"data/features/[^/]+/shards/", "extract_shard"),
    (r"data/features/[^/]+/train\.", "extract_features (or join_shards)"),
    (r"data/features/", "extract_features"),
    (r"data/subsets/", "draw_subset"),
    (r"data/clusters/", "cluster_clips"),
    (r"data/models/.*/adapter\.[^/]*$", "fetch_adapter"),
    (r"data/models/", "fetch_model"),
    (r"results/[^/]+/starts/", "pretrain_start (or refine_start)"),
    (r"results/[^/]+/runs/.*/README\.md$", "write_report"),
    (r"results/[^/]+/runs/", "finetune_run"),
    (r"results/[^/]+/language_models/", "train_language_model"),
    (r"results/[^/]+/scores/", "score_run"),
    (r"results/[^/]+/representation/", "analyse_start"),
    (r"results/[^/]+/similarity/", "measure_similarity"),
    (r"results/[^/]+/(summary\.json|metrics\.json|curves\.csv)$", "summarise_study"),
    (r"results/[^/]+/(report\.html|utterances|comparisons)(/|$)", "write_report"),
)


def maker(path: str | Path) -> str | None:
    """The rule that makes a file; None for one that the workflow does not make."""
    return next((rule for pattern, rule in MAKERS if re.search(f"(^|/){pattern}", str(path))), None)


def again(path: str | Path) -> str:
    """What to do about a file that is missing or damaged, as the end of a sentence."""
    rule = maker(path)
    return f"run Snakemake again, {f'whose rule {rule}' if rule else 'which'} makes it anew"
