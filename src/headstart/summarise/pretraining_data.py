"""What each start was pre-trained on, and which languages a target is in, as the study file says."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.corpora.synthetic.grammar import load_grammar
from headstart.languages.table import canonical, primary
from headstart.study.facts import facts_of
from headstart.study.starts import ScratchStart
from headstart.study.study import Study

FEWEST = 4  # pre-trained starts, and languages of targets, below which nothing is asked about transfer


@dataclass(frozen=True)
class PretrainingData:
    """The audio before fine-tuning; None is unknown.

    Attributes:
        hours: of all languages, each recording once.
        languages: BCP 47 tags, without regions; those that are listed somewhere.
        language_count: their number, which may be known where not all are listed.
    """

    hours: float | None = None
    languages: tuple[str, ...] | None = None
    language_count: int | None = None


def pretraining_data(study: Study, name: str) -> PretrainingData:
    """The audio on which a start and its ancestors were trained, with transcripts or without.

    Of a start that the study trains, these are the corpora of the start and of its ancestors. Where several draw on one
    corpus, its hours count once: those of the one that uses most. What is known of a checkpoint from outside is what
    the study file and the package's table of known models say (`facts`).
    """
    hours: dict[str, float] = {}
    current: str | None = name
    while current is not None:
        start = study.starts[current]
        for corpus, amount in getattr(start, "corpora", {}).items():
            hours[corpus] = max(amount, hours.get(corpus, 0.0))
        parent = getattr(start, "from_", None)
        if parent not in study.starts:
            break
        current = parent
    outside = PretrainingData(0.0, (), 0)
    if not isinstance(start, ScratchStart) and any(getattr(start, key, None) for key in ("path", "model")):
        outside = _from_outside(start)
    own = list(dict.fromkeys(tag for corpus in hours for tag in corpus_languages(study, corpus)))
    known_hours = None if outside.hours is None else outside.hours + sum(hours.values())
    if outside.languages is None:
        # Whether the study's own corpora add languages to unlisted ones cannot be known.
        return PretrainingData(known_hours, None, None if own else outside.language_count)
    added = [tag for tag in own if tag not in outside.languages]
    return PretrainingData(known_hours, (*outside.languages, *added), outside.language_count + len(added))


def _from_outside(start: object) -> PretrainingData:
    """What is known of a checkpoint that the study does not train."""
    facts = facts_of(start)
    languages = None if facts.languages is None else tuple(dict.fromkeys(map(primary, facts.languages)))
    return PretrainingData(facts.hours, languages, facts.language_count)


def corpus_languages(study: Study, name: str) -> tuple[str, ...]:
    """The languages of a corpus: of its grammar, of the target that says so, or its one language."""
    corpus = study.corpora[name]
    tags = [tag for target in study.targets.values() if target.corpus == name for tag in target.languages]
    if corpus.reader == "synthetic":
        tags += [language for language, _ in load_grammar(corpus.language).patterns]
    return tuple(dict.fromkeys(map(primary, tags or [corpus.language])))


def asks_about_transfer(study: Study) -> bool:
    """Whether a study has so many pre-trained starts and targets that its summary has a section about transfer."""
    starts = [name for name, start in study.starts.items() if not isinstance(start, ScratchStart)]
    return min(len(starts), len({target_languages(study, name) for name in study.targets})) >= FEWEST


def compared_languages(study: Study) -> dict[str, list[str]]:
    """The languages that are compared by sound, each with the corpora in it alone, of whose training split there is
    audio; none in a study that asks for no such comparison or nothing about transfer."""
    if study.similarity.acoustic is None or not asks_about_transfer(study):
        return {}
    used = [target.corpus for target in study.targets.values()]
    used += [name for target in study.targets.values() for name in target.languages.values() if name]
    used += [name for start in study.starts.values() for name in getattr(start, "corpora", {})]
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(used):
        if len(tags := corpus_languages(study, name)) == 1:
            found.setdefault(canonical(tags[0]), []).append(name)
    return found if len(found) > 1 else {}


def languages_of(study: Study) -> tuple[list[str], list[str]]:
    """The languages of the study's targets, and those that only its starts were pre-trained on."""
    targets = dict.fromkeys(tag for name in study.targets for tag in target_languages(study, name))
    starts = (tag for name in study.starts for tag in pretraining_data(study, name).languages or ())
    return list(targets), [tag for tag in dict.fromkeys(starts) if tag not in targets]


def target_languages(study: Study, name: str) -> tuple[str, ...]:
    """The languages of a target; code-switched ones have several."""
    return corpus_languages(study, study.targets[name].corpus)
