"""CHAT transcripts with recordings, such as the Bangor Miami corpus.

Read through pylangacq, which joins continued lines and knows times and tiers. Words are taken from the main tier
itself: pylangacq leaves out what speakers said and then corrected, and the language marks of words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import regex
from pydantic import Field

from headstart.audio.suffixes import AUDIO
from headstart.corpora.language_codes import bcp47
from headstart.corpora.paths import files_under
from headstart.corpora.reader import AudioReference, Description, Reject, Utterance
from headstart.corpora.recordings import Recordings
from headstart.corpora.rooted import RootedReader
from headstart.corpora.text_files import read_text
from headstart.study.corpora import RecordedCorpus
from headstart.text.tags import NO_SPEECH, SEVERAL, UNDETERMINED

_MAIN = regex.compile(r"\*[A-Z0-9]{1,7}:")  # the beginning of another utterance, whose line end was lost
_BULLET = regex.compile(r"\x15[^\x15]*\x15")
_PRECODE = regex.compile(r"\[- ?([a-z]{3})\]")
_PIECE = regex.compile(r"\[[^\]]*\]|[<>]|[^\s\[\]<>]+")
_CODED = regex.compile(r"\[[^\[\]]*\]|\+<")
_REPEATED = regex.compile(r"\[x (\d{1,2})\]")
_PAUSE = regex.compile(r"\((?:\.{1,3}|\d+(?:[.:]\d+)*\.?)\)")
# Not words: events (&=laughs), fragments (&+fr, &~gaga, &fr), linkers and terminators (+<, +...), omitted words (0is).
_NO_WORD = regex.compile(r"&=.*|&[+~]?[^-=+~].*|\+.*|0.*|[‡„]")
_ADDED = regex.compile(r"[()^:≠↫“”\"]")  # within words: what was not said, blocking, lengthening, stuttering, quotes
_MARK = regex.compile(r"[.?!,;]+")
_CODE = regex.compile(r"[\w-]+")
UNINTELLIGIBLE, UNTRANSCRIBED = ("xxx", "xx", "yyy", "yy"), ("www", "ww")


class ChatCorpus(RecordedCorpus):
    """Conversations transcribed in CHAT, the format of TalkBank."""

    reader: Literal["chat"] = Field(description="`chat`: CHAT transcripts, such as those of Bangor Miami.")
    language: str = Field("und", description="BCP 47 language where a transcript has no header @Languages.")


class ChatReader(RootedReader):
    """Reads every transcript below the folder, and finds the recording of the same name."""

    section = ChatCorpus
    description = Description(
        title="CHAT transcripts with recordings: Bangor Miami (Spanish-English), Siarad, Patagonia and others",
        layout="""
            miami/
              herring1.cha      *PAI: <tab> I told her que@s:spa no@s:eng&spa . (time in ms, between two bullets)
              herring1.mp3      or any other audio format, here or in another folder below miami/
            """,
        example="path: data/raw/miami",
        source="https://biling.talkbank.org/access/Bangor/Miami.html; the format: https://talkbank.org/manuals/CHAT.html",
        licence="GPL 3 or later (Bangor Miami, transcripts and recordings)",
        notes=(
            "Each word is tagged: `@s:spa` names its language, `@s` alone the other language of the transcript, "
            "`@s:eng&spa` is undetermined (und), `@s:eng+spa` in both (mul). Words without a mark are in the language "
            "of the utterance's precode (`[- spa]`), or else the first of @Languages.",
            "Corrected and repeated words stay, since they were said (`[/]`, `[//]`), and a repetition `[x 3]` is "
            "written out. Words are completed: `(be)cause` is `because`. Events (`&=laughs`), fragments (`&+fr`), "
            "pauses and omitted words are no words and go. `xxx`, which was not understood, becomes the tag `<xxx>`: "
            "`text: {tags: drop}` drops it.",
            "Utterances without a time, without words, or not transcribed (`www`) are rejected. A speaker is the code "
            "of a participant in one transcript. There are no splits; they are drawn.",
        ),
    )
    contents = "CHAT transcripts (.cha)"

    def is_root(self, folder: Path) -> bool:
        return folder == self.folder and next(folder.rglob("*.cha"), None) is not None

    def annotations(self) -> list[Path]:
        return sorted(self.root.rglob("*.cha"))

    def entries(self) -> Iterator[Utterance | Reject]:
        recordings = Recordings(files_under(self.folder, AUDIO))
        paths = self.annotations()
        common = os.path.commonpath([path.parent for path in paths])
        for path in paths:
            name = path.relative_to(common).with_suffix("").as_posix()
            yield from self._transcript(path, name, recordings.of(self.relative(path)))

    def _transcript(self, path: Path, name: str, recording: str | None) -> Iterator[Utterance | Reject]:
        import pylangacq

        frame = [line.strip() for line in read_text(path).split("\n") if line.startswith(("@Begin", "@End", "*"))]
        if frame[:1] != ["@Begin"] or frame.count("@Begin") != 1 or frame[-1] != "@End" or frame.count("@End") != 1:
            reason = "is damaged or was cut short: it is not between one @Begin and one @End"
            yield Reject(line=0, reason=f"not a CHAT transcript: {self.relative(path)} {reason}")
            return
        try:
            chat = pylangacq.read_chat(str(path), strict=False)
            languages = [bcp47(code) for code in chat.headers()[0].languages] or [self.settings.language]
            said = chat.utterances()
        except (ValueError, OSError, IndexError) as error:
            yield Reject(line=0, reason=f"not a CHAT transcript: {self.relative(path)}: {error}")
            return
        if not said:
            yield Reject(line=0, reason=f"not a CHAT transcript: {self.relative(path)}: it has no utterance")
        for number, utterance in enumerate(said, start=1):
            if utterance.participant:  # changes of headers have none
                yield self._utterance(utterance, number, name, recording, languages)

    def _utterance(
        self, utterance: Any, number: int, name: str, recording: str | None, languages: list[str]
    ) -> Utterance | Reject:
        known: dict[str, Any] = {"line": number, "utterance_id": f"{name}-{number:05d}-{utterance.participant}"}
        if not _CODE.fullmatch(utterance.participant):
            return Reject(reason=f"no code of a participant before a colon in {name}.cha", **known)
        if recording is None:
            return Reject(reason=f"no recording: none, or several, have the name of {name}.cha", **known)
        if not utterance.time_marks:
            return Reject(reason=f"no time in {name}.cha", audio=AudioReference(recording), **known)
        start_ms, end_ms = utterance.time_marks
        known["audio"] = AudioReference(recording, start_ms / 1000, (end_ms - start_ms) / 1000)
        line = utterance.tiers[utterance.participant]
        if len(_BULLET.findall(line)) > 1 or _MAIN.search(line):
            return Reject(reason=f"damaged: two utterances in one line of {name}.cha", **known)
        if _unbalanced(line):
            return Reject(reason=f"damaged: a bracket without its partner in {name}.cha", **known)
        precode = _PRECODE.search(line)
        main = bcp47(precode[1]) if precode else languages[0]
        words = list(tagged_words(line, main, next((other for other in languages if other != main), UNDETERMINED)))
        if any(word in UNTRANSCRIBED for word, _ in words):
            return Reject(reason="not transcribed: www", **known)
        if not any(tag != NO_SPEECH and not word.startswith("<") for word, tag in words):
            return Reject(reason="no words", **known)
        return Utterance(
            language=main,
            text=" ".join(word for word, _ in words),
            speaker=f"{name}-{utterance.participant}",
            tokens=[word for word, _ in words],
            token_languages=[tag for _, tag in words],
            **known,
        )


def _unbalanced(line: str) -> bool:
    """Whether a bracket of a group or a code lacks its partner; `[<]`, `[>]` and `+<` are no brackets."""
    rest = _CODED.sub("", line)
    return "[" in rest or "]" in rest or rest.count("<") != rest.count(">")


def tagged_words(line: str, main: str, other: str) -> Iterator[tuple[str, str]]:
    """The words of a main tier of CHAT, each with the BCP 47 tag of its language.

    Args:
        main: language of words without a mark.
        other: language of words that are marked as of the other one.
    """
    words: list[tuple[str, str]] = []
    opened, last = [], 0  # where the groups that are open begin, and where the last word or group does
    for piece in _PIECE.findall(_PAUSE.sub(" ", _PRECODE.sub(" ", _BULLET.sub(" ", line)))):
        if piece == "<":
            opened.append(len(words))
        elif piece == ">":
            last = opened.pop() if opened else last
        elif repeated := _REPEATED.fullmatch(piece):
            words += words[last:] * (int(repeated[1]) - 1)
        elif not piece.startswith("["):
            last = len(words)
            words += _word(piece, main, other)
    yield from words


def _word(piece: str, main: str, other: str) -> list[tuple[str, str]]:
    """What a piece between spaces is: no word, a word, or several where it joins them with underscores."""
    if _NO_WORD.fullmatch(piece):
        return []
    if _MARK.fullmatch(piece):
        return [(piece, NO_SPEECH)]
    word, _, marks = piece.removeprefix("&-").partition("@")
    word = _ADDED.sub("", word).strip(".,?!;")
    if word in UNINTELLIGIBLE:
        return [("<xxx>", NO_SPEECH)]
    parts = list(filter(None, word.split("_")))
    if parts and all(len(part) == 1 for part in parts):
        parts = ["".join(parts)]  # o_k
    return [(part, _language(marks, main, other)) for part in parts]


def _language(marks: str, main: str, other: str) -> str:
    """The language that the marks of a word name: `s:spa`, say."""
    form, _, codes = marks.rstrip('.,?!;"”').partition(":")
    if form != "s":
        return main  # other marks, such as `l` for letters, name no language
    if "&" in codes:
        return UNDETERMINED
    return SEVERAL if "+" in codes else bcp47(codes) if codes else other
