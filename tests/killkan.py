"""Killkan's native layout, written from sentences: the treebank (CoNLL-U), and the ELAN file of a chapter."""

from pathlib import Path
from typing import NamedTuple

from miniature import write
from pympi.Elan import Eaf


class Sentence(NamedTuple):
    """A sentence with its words, each with what the corpus says of it, such as `CSID=KC|Lang=qu`."""

    begin_ms: int
    end_ms: int
    text: str
    words: list[tuple[str, str]]


def write_treebank(path: Path, chapters: dict[int, list[Sentence]]) -> Path:
    """The sentences of chapters as a treebank."""
    lines = []
    for chapter, sentences in chapters.items():
        for place, (begin, end, text, words) in enumerate(sentences):
            lines += [f"# sent_id = {chapter}_{place}", f"# sent = {text}", f"# start = {begin}", f"# end = {end}"]
            lines += [
                f"{n}\t{form}\t{form}\tX\t_\t_\t{n - 1}\tdep\t_\t{facts or '_'}"
                for n, (form, facts) in enumerate(words, 1)
            ]
            lines.append("")
    return write(path, *lines)


def write_chapter(path: Path, sentences: list[Sentence]) -> Path:
    """The sentences of a chapter as an ELAN file: a tier of sentences, one of their words, one of facts about these."""
    file = Eaf(author="")
    file.add_linguistic_type("words", constraints="Symbolic_Subdivision", timealignable=False)
    file.add_linguistic_type("facts", constraints="Symbolic_Association", timealignable=False)
    file.add_tier("FORM", ling="words", parent="default")
    file.add_tier("MISC", ling="facts", parent="FORM")
    for begin, end, text, words in sentences:
        file.add_annotation("default", begin, end, text)
        sentence, before = list(file.tiers["default"][0])[-1], None
        for form, facts in words:
            word = file.generate_annotation_id()
            file.tiers["FORM"][1][word] = (sentence, form, before, None)
            file.tiers["MISC"][1][file.generate_annotation_id()] = (word, facts, None, None)
            before = word
    path.parent.mkdir(parents=True, exist_ok=True)
    file.to_file(str(path))
    return path
