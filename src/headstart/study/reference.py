"""The generated documents: the JSON Schema of a study file, its key reference (config/README.md), and docs/corpora.md.

They are generated from the typed study in `study.py` and from the readers of corpora. `headstart docs` writes them;
`headstart docs --check` and a test fail when they are out of date.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from headstart.corpora.catalogue import page
from headstart.corpora.registry import READERS
from headstart.study.corpora import RecordedCorpus
from headstart.study.explain import (
    ADAPTER_PATTERN,
    BUDGET_PATTERN,
    HUB_PATTERN,
    KEEP_PATTERN,
    LANGUAGE_PATTERN,
    NAME_PATTERN,
    PATTERNS,
    REVISION_PATTERN,
)
from headstart.study.reading import parse_study
from headstart.study.study import Study
from headstart.versioning import DEFAULT, dvc_file

INTRODUCTION = """\
# The study file

A study is one YAML file. `config.yaml` beside this page is the study that runs by default; further ones are
in `studies/`. This page lists every key, `headstart check FILE` says whether a file is valid and what it
would run, and an editor with a YAML language server completes and checks keys in a file whose first line is
`# yaml-language-server: $schema=schema.json`.

This page and the schema are generated from `src/headstart/study/` by `make docs`.

## A small study

```yaml
{example}```

It asks whether pre-training on English and Spanish audio helps code-switched speech, and whether more
pre-training on English alone then helps or harms.

## How it is read

**Names.** You choose the names of the study and of its corpora, starts and targets. They become folder
names: {names}. Wherever a key asks for a corpus or a
start, it is one of these names.

**Runs.** Every start is fine-tuned on every target with every budget and every seed, so the study above has
{runs} runs. One more start, target, budget or seed adds runs and leaves the finished ones as they are.

**Starts are a tree.** A start without `from` begins with random weights (`scratch`, `ssl`) or with a
checkpoint (`hub`). An `ssl` start with `from: PARENT` goes on from the weights of its parent, which is
trained once, however many starts come from it. A `hub` start can be a parent too.

**Budgets are nested.** A budget is how much labelled audio of a target's train split a run may learn from: a
number and one of the units `s`, `min` and `h`. For one seed, a smaller budget is a part of every larger one,
and all starts learn from the same utterances. The test split is used whole, whatever the budget.

**Settings of one start.** `pretrain` and `finetune` hold for the whole study. An `ssl` start overrides keys
of `pretrain` under its `settings`, as `more` does above.

**Problems.** An unknown key is an error that names the nearest valid one. The problems of a file are listed
together, each with its key in dots: `starts.more.from` is the key `from` of the start `more`.

In the tables, a key without a default is required, *NAME* stands for a name of yours, and *LANGUAGE* for a BCP 47
tag such as `tr` or `de-AT`.
"""

EXAMPLE = """\
study: small
question: Does pre-training on both languages help code-switched speech?

corpora:
  english: {reader: synthetic, language: en}
  spanish: {reader: synthetic, language: es}
  mixed: {reader: synthetic, language: en-es}

starts:
  scratch: {kind: scratch}
  both: {kind: ssl, corpora: {english: 0.25, spanish: 0.25}}
  more: {kind: ssl, from: both, corpora: {english: 0.5}, settings: {updates: 500}}

targets:
  code-switched: {corpus: mixed, kind: code-switched}

budgets: [3min, 10min]
seeds: [1, 2, 3]
contrasts:
  - {treatment: more, baseline: both}
"""


def _sections_of_readers() -> Iterator[tuple[str, str]]:
    """Title and model of each reader's section, and of the sections in it."""
    for name, reader in READERS.items():
        yield f"`corpora.NAME` with `reader: {name}`", reader.section.__name__
        for key, field in reader.section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield f"`corpora.NAME.{key}` with `reader: {name}`", field.annotation.__name__


# Title and model of each section, in the order of a study file.
SECTIONS = [
    ("The study", "Study"),
    ("`corpora.NAME` of a recorded corpus, whatever its `reader`", "RecordedCorpus"),
    *_sections_of_readers(),
    ("`starts.NAME` with `kind: scratch`", "ScratchStart"),
    ("`starts.NAME` with `kind: hub`", "HubStart"),
    ("`starts.NAME.facts`", "Facts"),
    ("`starts.NAME` with `kind: ssl`", "SslStart"),
    ("`starts.NAME` with `kind: semisup`", "SemisupStart"),
    ("`starts.NAME.select`", "Select"),
    ("`starts.NAME.attention`", "ChunkedAttention"),
    ("`targets.NAME`", "Target"),
    ("`contrasts`, each", "Contrast"),
    ("`claims`, each", "Claim"),
    ("`text`", "Text"),
    ("`text.languages.LANGUAGE`", "LanguageText"),
    ("`model`", "Model"),
    ("`pretrain`", "Pretrain"),
    ("`pretrain.data2vec`", "Data2vec"),
    ("`pretrain.best_rq`", "BestRq"),
    ("`pretrain.hubert`", "Hubert"),
    ("`semisup`", "Semisup"),
    ("`semisup.supervised`, `semisup.pseudo` and `semisup.ssl`", "Loss"),
    ("`finetune`", "Finetune"),
    ("`decoding`", "Decoding"),
    ("`decoding.language_model`", "LanguageModel"),
    ("`analyse`", "Analyse"),
    ("`probe`", "Probe"),
    ("`similarity`", "Similarity"),
    ("`similarity.acoustic`", "Acoustic"),
    ("`convergence`", "Convergence"),
    ("`report`", "Report"),
]

# Pattern of a text -> its type in the tables of the reference.
KINDS = {
    NAME_PATTERN: "name",
    BUDGET_PATTERN: "amount of audio",
    KEEP_PATTERN: "text",
    HUB_PATTERN: "model name",
    REVISION_PATTERN: "text",
    ADAPTER_PATTERN: "text",
    LANGUAGE_PATTERN: "language tag",
}


def json_schema() -> str:
    """JSON Schema (draft 2020-12) of a study file, as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Study.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def key_reference() -> str:
    """Text of config/README.md: an introduction, then one table of keys for each section of the study file."""
    schema = Study.model_json_schema()
    shared = RecordedCorpus.model_json_schema()
    models = {**schema["$defs"], "Study": schema, "RecordedCorpus": shared}
    for reader in READERS.values():
        if issubclass(reader.section, RecordedCorpus):  # only the keys of its own, and those with another default
            own = models[reader.section.__name__]
            own["properties"] = {k: v for k, v in own["properties"].items() if v != shared["properties"].get(k)}
            own["description"] += " It also has the keys of every recorded corpus, above."
    missing = set(models) - {model for _, model in SECTIONS}
    if missing:
        raise ValueError(f"reference.SECTIONS lacks {', '.join(sorted(missing))}")

    runs = len(parse_study(yaml.safe_load(EXAMPLE)).runs())
    introduction = INTRODUCTION.format(example=EXAMPLE, names=PATTERNS[NAME_PATTERN], runs=runs)
    return "\n".join([introduction, *(_section(title, models[model]) for title, model in SECTIONS)])


def documents() -> dict[str, str]:
    """Path in the repository -> generated text."""
    return {
        "config/schema.json": json_schema(),
        "config/README.md": key_reference(),
        "docs/corpora.md": page(),
        "dvc.yaml": dvc_file(DEFAULT, Path(".")),
    }


def outdated(folder: Path) -> list[Path]:
    """The generated documents of the repository `folder` that are missing or out of date."""
    paths = {folder / name: text for name, text in documents().items()}
    return [p for p, text in paths.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]


def write_documents(folder: Path) -> None:
    """Write the generated documents into the repository `folder`."""
    for name, text in documents().items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _section(title: str, model: dict[str, Any]) -> str:
    rows = [
        f"| `{key}` | {_type(field)} | {_default(field)} | {field.get('description', '')} |"
        for key, field in model["properties"].items()
    ]
    lines = [
        f"## {title}",
        "",
        model["description"],
        "",
        "| key | type | default | what it is |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *rows, ""])


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return ""
    if "$ref" in field:  # a section, whose defaults are in its own table
        return "below"
    return f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def _type(field: dict[str, Any]) -> str:
    """The type of a value in words, from its JSON Schema."""
    if "$ref" in field or "oneOf" in field:
        return "section"
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "pattern" in field:
        return KINDS[field["pattern"]]

    kind = field["type"]
    if kind == "array":
        if "prefixItems" in field:
            return f"{len(field['prefixItems'])} {_type(field['prefixItems'][0])}s"
        return f"list, each: {_type(field['items'])}"
    if kind == "object":
        values = next(iter(field.get("patternProperties", {}).values()), field.get("additionalProperties"))
        names = {NAME_PATTERN: "*NAME*", LANGUAGE_PATTERN: "*LANGUAGE*"}
        key = names[next(iter(field["patternProperties"]))] if "patternProperties" in field else "text"
        return f"{key}: {_type(values)}" if isinstance(values, dict) else "keys and values"
    words = {"boolean": "true or false", "integer": "whole number", "number": "number", "string": "text"}
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = ", ".join(f"{sign} {field[limit]:g}" for limit, sign in limits.items() if limit in field)
    return f"{words.get(kind, kind)} {bounds}".strip()
