"""Reading a back-off n-gram language model in ARPA format, and its probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headstart.errors import DataError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
State = tuple[str, ...]  # the last tokens, as many as the model looks back at


class Arpa:
    """A back-off n-gram model (Katz 1987) in memory.

    Attributes:
        order: length of the longest n-grams.
        vocabulary: all tokens that the model knows; without those that stand for beginning, end and unknown tokens.
        start: the state at the beginning of a sentence.
    """

    def __init__(self, path: str | Path):
        """Read a file.

        Raises:
            DataError: it is no ARPA file, or has no `<unk>`, without which an unknown word has no probability.
        """
        self._entries: dict[str, tuple[float, float]] = {}  # n-gram -> log10 of its probability and back-off weight
        self.order = 0
        section, ended = 0, False
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if line == "\\end\\":
                    ended = True
                    break
                if line.startswith("\\") and line.endswith("-grams:"):
                    section = self.order = int(line[1:-7])
                elif section and line:
                    probability, ngram, *back_off = line.split("\t")
                    if ngram.count(" ") + 1 != section:
                        raise DataError(f"{path}, line {number}: not a {section}-gram: {line!r}")
                    self._entries[ngram] = float(probability), float(back_off[0]) if back_off else 0.0
        if not ended:
            raise DataError(f"{path}: no ARPA file, or cut short: the line \\end\\ is missing")
        if UNKNOWN not in self._entries:
            raise DataError(f"{path}: no {UNKNOWN} among its 1-grams; train it with an open vocabulary")
        words = {ngram for ngram in self._entries if " " not in ngram}
        self.vocabulary = frozenset(words - {BEGIN, END, UNKNOWN})
        self.start: State = (BEGIN,)

    def score(self, state: State, token: str) -> tuple[float, State]:
        """log10 of the probability of a token after a state, and the state after it.

        A token outside the vocabulary is scored as `<unk>`.
        """
        if token not in self._entries:
            token = UNKNOWN
        history, back_off = state, 0.0
        while (entry := self._entries.get(" ".join((*history, token)))) is None:
            back_off += self._entries.get(" ".join(history), (0.0, 0.0))[1]
            history = history[1:]
        return entry[0] + back_off, ((*state, token)[1 - self.order :] if self.order > 1 else ())

    def sentence(self, tokens: Sequence[str]) -> float:
        """log10 of the probability of a whole sentence, its end included."""
        state, total = self.start, 0.0
        for token in (*tokens, END):
            logp, state = self.score(state, token)
            total += logp
        return total
