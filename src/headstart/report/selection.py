"""What `select:` chose: which audio of its corpora each start was trained on."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
GROUPS = {"speaker": "speakers", "language": "languages"}


def selection_rows(trained: list[Row]) -> list[Row]:
    """A row for each start and corpus of which audio was selected, from the recipes of starts.

    Args:
        trained: `start`, `seed` and `recipe` of each start that was trained; a start with `per_seed` has several.

    Returns:
        Rows of start, seed (None where a start has one), corpus, `how` the audio was chosen, and `chosen` and `of`:
        utterances, hours, mean length in seconds and number of speakers, of what was chosen and of the whole corpus.
    """
    rows = []
    for row in trained:
        data = row["recipe"].get("data") or {}
        how, several = data.get("select"), sum(other["start"] == row["start"] for other in trained) > 1
        for corpus, facts in (data.get("selection") or {}).items() if how else ():
            known = {"start": row["start"], "seed": row["seed"] if several else None, "corpus": corpus}
            rows.append({**known, "how": choice(how), **facts})
    return rows


def choice(how: Row) -> str:
    """The settings of `select` in words."""
    first = "the longest first" if how["order"] == "longest" else "at random"
    if how["by"] is None:
        return first
    groups = GROUPS.get(how["by"]) or f"{how['clusters']} clusters of similar sound"
    if how["temperature"] is None:
        return f"equal shares of {groups}, {first}"
    if how["temperature"] == 1:
        return f"shares of {groups} as in the corpus, {first}"
    return f"shares of {groups} evened out with temperature {how['temperature']:g}, {first}"
