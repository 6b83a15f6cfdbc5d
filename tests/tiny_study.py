"""A study that plans in no time, and whose corpus takes a second to synthesise."""

STUDY = {
    "study": "tiny",
    "corpora": {
        "en": {"reader": "synthetic", "language": "en", "hours": {"train": 0.002, "dev": 0.001, "test": 0.001}}
    },
    "starts": {"scratch": {"kind": "scratch"}},
    "targets": {"en": {"corpus": "en", "kind": "in-domain"}},
    "budgets": ["2s"],
}
TABLE = "data/raw/en/metadata.tsv"
