"""The rules that messages name are those of the workflow, for every file that a rule makes."""

import re
from pathlib import Path

from headstart.makers import again, maker

RULES = Path(__file__).parent.parent / "rules"
WILDCARDS = {"split": "dev", "shard": "0", "shards": "2", "seed": "1", "language": "swh"}
WILDCARDS |= {"card": "runs/x/x/1h/seed1/README.md"}


def outputs() -> list[tuple[str, str]]:
    """(rule, path) of the outputs of all rules, with values for wildcards."""
    found = []
    for file in RULES.glob("*.smk"):
        for rule, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\w|\Z)", file.read_text(), re.M | re.S):
            block = re.search(r"^    output:\n(.*?)^    \w", body, re.M | re.S)[1]
            paths = re.findall(r'"(\w+/[^"]+)"', block)
            known = {**WILDCARDS, "split": "train"} if rule == "join_shards" else WILDCARDS
            found += [(rule, re.sub(r"{+(\w+)}+", lambda m, known=known: known.get(m[1], "x"), path)) for path in paths]
    return found


def test_every_output_leads_to_its_rule():
    made = outputs()
    assert len({rule for rule, _ in made}) == 17
    for rule, path in made:
        if rule == "synthesise_corpus":  # of the raw corpus, which is read like any other
            assert maker(path) is None
        else:
            assert rule in re.findall(r"\w+", maker(path)), (rule, path)
            assert rule in re.findall(r"\w+", maker(f"/somewhere/{path}"))


def test_a_file_of_nobody_has_no_rule():
    assert maker("starts/xlsr/model.safetensors") is None
    assert again("starts/xlsr/config.json") == "run Snakemake again, which makes it anew"
    assert again("data/subsets/a/1h/seed1.parquet") == "run Snakemake again, whose rule draw_subset makes it anew"
