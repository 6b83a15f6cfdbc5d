"""The catalogue of readers: what `headstart corpora` prints, and docs/corpora.md, both from the readers themselves."""

from __future__ import annotations

import textwrap

from headstart.corpora.reader import Description
from headstart.corpora.registry import READERS
from headstart.study.corpora import RecordedCorpus, WithText

PAGE = """\
# Corpora

Each kind of corpus that Headstart reads has a *reader*. A study names it in the entry of the corpus, with the folder:

```yaml
corpora:
  mine: {reader: folder, path: my_corpus, language: qu}
```

`headstart corpora` lists the readers, and `headstart corpora NAME` shows one of them with its keys. This page is
generated from the readers by `make docs`. [config/README.md](../config/README.md) has every key in full.

## What holds for every recorded corpus

**Paths.** Audio is named relative to `path`. Names in another Unicode form than on disk (from a Mac), in another
case or with backslashes (from Windows) are found. A path that leads out of the folder, by `../`, absolutely or by a
link, is refused unless the corpus has `outside: true`.

**Splits.** Where a corpus names its splits, `splits` maps its names to train, dev and test, or to null, which leaves
them out. Where it has no dev or test split, `dev_share` and `test_share` of the training speakers are drawn for it, or
of the sentences where speakers are unknown. Speakers that share a recording are drawn together, so that neither a
speaker nor a recording comes into two splits.

**What cannot be used** is listed with the reason in `data/manifests/CORPUS/SPLIT.rejects.parquet`: audio that is
missing or cannot be decoded, empty or damaged transcripts, ids that occur twice, and clips shorter than `min_seconds`
or longer than `max_seconds`. What makes a whole corpus unreadable is an error that names the file and the remedy.
"""


def listing() -> str:
    """Every reader with its title and what it expects on disk."""
    described = {name: reader.description for name, reader in READERS.items()}
    entries = [f"{name}: {about.title}\n{_indented(about.tree)}" for name, about in described.items()]
    advice = "`headstart corpora NAME` shows the keys of one of them, what it makes of quirks, and an example."
    return "\n\n".join([*entries, advice])


def details(name: str) -> str:
    """One reader with all that its description says, and its keys."""
    reader = READERS[name]
    description, section = reader.description, reader.section
    parts = [f"{name}: {description.title}", _indented(description.tree), _example(name, description)]
    parts += [
        textwrap.fill(f"- {note}", 100, subsequent_indent="  ") for note in (*_facts(description), *description.notes)
    ]
    if own_keys(section):
        parts.append("Keys of its own, with their defaults:")
    parts += [_key(section, key) for key in own_keys(section)]
    if issubclass(section, RecordedCorpus):
        shared = ", ".join(key for key in RecordedCorpus.model_fields if key not in own_keys(section))
        parts.append(textwrap.fill(f"Keys of every recorded corpus (config/README.md): {shared}.", 100))
    return "\n\n".join(parts)


def page() -> str:
    """Text of docs/corpora.md."""
    parts = [PAGE]
    for name, reader in READERS.items():
        description = reader.description
        parts.append(f"## `{name}`: {description.title}\n")
        parts.append(f"```\n{description.tree}\n```\n")
        parts.append(f"```yaml\n{_example(name, description)}\n```\n")
        parts += [f"{_wrapped(note)}\n" for note in (*_facts(description), *description.notes)]
    return "\n".join(parts)


def own_keys(section: type[WithText]) -> list[str]:
    """The keys of a section that not every recorded corpus has, and those with another default than there."""
    shared = RecordedCorpus.model_fields if issubclass(section, RecordedCorpus) else WithText.model_fields
    return [
        key
        for key, field in section.model_fields.items()
        if key != "reader" and (key not in shared or shared[key].default != field.default)
    ]


def _facts(description: Description) -> list[str]:
    facts = {"Source": description.source, "Licence": description.licence}
    return [f"{name}: {fact}." for name, fact in facts.items() if fact]


def _example(name: str, description: Description) -> str:
    """The entry of a study, on one line, or with a key a line where that is too long."""
    line = f"mine: {{reader: {name}, {description.example}}}"
    if len(line) <= 118:
        return line
    return textwrap.fill(line, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _key(section: type[WithText], key: str) -> str:
    field = section.model_fields[key]
    default = "required" if field.is_required() else repr(field.default)
    default = "a section of config/README.md" if hasattr(field.default, "model_dump") else default
    words = textwrap.fill(field.description or "", 96, initial_indent="    ", subsequent_indent="    ")
    return f"  {key} ({default})\n{words}"


def _indented(text: str) -> str:
    return textwrap.indent(text, "    ")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
