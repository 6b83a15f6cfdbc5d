"""50 damaged files for each of ten readers, generated from a seed: none crashes, and none is kept in a wrong form.

A damaged file is one in which the damage can be known: a letter that became another one cannot. Whatever is read from
it has to be what the undamaged file says, and what is missing has to be rejected, or the whole refused.
docs/reliability.md holds the counts.
"""

import gzip
import json
import logging
import random
import re
from collections import Counter
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killkan import Sentence, write_chapter, write_treebank
from miniature import reader_of, reading, recording, write
from test_field_work import write_eaf, write_textgrid
from test_readers import dataset

from headstart.corpora.paths import located
from headstart.corpora.reader import CorpusError, Reject, Utterance
from headstart.study.fields import SPLITS

ROOT = Path(__file__).parents[1]
WORDS = ["mana kanchu", "ñuka wasi", "ari ima", "kaypi", 'shuk "tamia"', "allku rin"]
TIMES = [(i / 2, i / 2 + 0.4) for i in range(len(WORDS))]
CASES = 50  # of each reader


def table(folder: Path, name: str, separator: str, encoding: str) -> Path:
    quote = (lambda text: text) if separator == "\t" else (lambda text: '"' + text.replace('"', '""') + '"')
    rows = [["id", "path", "start", "end", "text"]]
    rows += [[f"u{i}", "a.wav", str(b), str(e), quote(WORDS[i])] for i, (b, e) in enumerate(TIMES)]
    return write(folder / name, *map(separator.join, rows), encoding=encoding)


def kaldi(folder: Path, damaged: str) -> Path:
    write(folder / "wav.scp", "rec a.wav")
    write(folder / "segments", *(f"u{i} rec {b} {e}" for i, (b, e) in enumerate(TIMES)))
    write(folder / "text", *(f"u{i} {text}" for i, text in enumerate(WORDS)))
    write(folder / "utt2spk", *(f"u{i} anna" for i in range(len(WORDS))))
    return folder / damaged


def nemo(folder: Path) -> Path:
    rows = [
        {"audio_filepath": "a.wav", "offset": b, "duration": e - b, "text": WORDS[i]} for i, (b, e) in enumerate(TIMES)
    ]
    return write(folder / "train.json", *(json.dumps(row, ensure_ascii=False) for row in rows))


def lhotse(folder: Path, zipped: bool) -> Path:
    recorded = {"id": "rec", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}], "duration": 4.0}
    rows = [
        {"id": f"u{i}", "recording_id": "rec", "start": b, "duration": e - b, "channel": 0, "text": WORDS[i]}
        for i, (b, e) in enumerate(TIMES)
    ]
    write(folder / "recordings.jsonl", json.dumps(recorded))
    path = write(folder / "supervisions.jsonl", *(json.dumps(row, ensure_ascii=False) for row in rows))
    if not zipped:
        return path
    data = {name: (folder / f"{name}.jsonl").read_bytes() for name in ("recordings", "supervisions")}
    for name, content in data.items():
        (folder / f"{name}.jsonl").unlink()
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(content, mtime=0))
    return folder / "supervisions.jsonl.gz"


def praat(folder: Path, form: str, encoding: str = "utf-8") -> Path:
    path = folder / "a.TextGrid"
    write_textgrid(path, form, text=[(*times, text) for times, text in zip(TIMES, WORDS, strict=True)])
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    return path


def elan(folder: Path) -> Path:
    write_eaf(folder / "a.eaf")
    return folder / "a.eaf"


def clock(seconds: float, sign: str) -> str:
    return f"00:00:{int(seconds):02d}{sign}{round(seconds % 1 * 1000):03d}"


def subtitles(folder: Path, suffix: str) -> Path:
    sign, lines = (",", []) if suffix == "srt" else (".", ["WEBVTT", ""])
    for i, (begin, end) in enumerate(TIMES):
        lines += [str(i + 1), f"{clock(begin, sign)} --> {clock(end, sign)}", WORDS[i], ""]
    return write(folder / f"a.{suffix}", *lines)


def saved(folder: Path, suffix: str) -> Path:
    content = (folder / "a.wav").read_bytes()
    rows = [
        {"id": i, "audio": {"bytes": content, "path": "a.wav"}, "transcription": text, "lang": 0, "who": "a"}
        for i, text in enumerate(WORDS)
    ]
    path = folder / f"train-00000-of-00001.{suffix}"
    if suffix == "parquet":
        pq.write_table(dataset(rows), path)
    else:
        with pa.ipc.new_stream(str(path), dataset(rows).schema) as stream:
            stream.write_table(dataset(rows))
    return path


def chat(folder: Path) -> Path:
    lines = ["@UTF8", "@Begin", "@Languages:\tspa, eng", "@Participants:\tPAI Paige Adult"]
    for text, (begin, end) in zip(SAID, TIMES, strict=True):
        lines.append(f"*PAI:\t{text} . \x15{round(begin * 1000)}_{round(end * 1000)}\x15")
    return write(folder / "a.cha", *lines, "@End")


SAID = ["no hay nada", "mi casa@s:eng", "sí <la que> [/] la que", "aquí", "una little@s:eng&spa nube", "el perro corre"]


def killkan(folder: Path, form: str) -> Path:
    (folder / "Chapter1").mkdir(exist_ok=True)
    (folder / "a.wav").rename(folder / "Chapter1/a.wav")
    sentences = []
    for text, (begin, end) in zip(WORDS, TIMES, strict=True):
        said = text.replace('"', "")
        words = [(word, "CSID=ES" if word == "wasi" else "CSID=KC") for word in said.split()]
        sentences.append(Sentence(round(begin * 1000), round(end * 1000), said, words))
    if form == "conllu":
        return write_treebank(folder / "k.conllu", {1: sentences})
    return write_chapter(folder / "Chapter1/Chapter1.eaf", sentences)


# Kind -> its reader, and what writes an undamaged one and returns the file to damage.
KINDS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "TSV": ("folder", lambda folder: table(folder, "metadata.tsv", "\t", "utf-8")),
    "CSV": ("folder", lambda folder: table(folder, "metadata.csv", ",", "utf-8")),
    "CSV with semicolons in UTF-16": ("folder", lambda folder: table(folder, "metadata.csv", ";", "utf-16")),
    "Kaldi text": ("kaldi", lambda folder: kaldi(folder, "text")),
    "Kaldi segments": ("kaldi", lambda folder: kaldi(folder, "segments")),
    "NeMo": ("nemo", nemo),
    "lhotse": ("lhotse", lambda folder: lhotse(folder, False)),
    "lhotse, gzip": ("lhotse", lambda folder: lhotse(folder, True)),
    "TextGrid, long": ("textgrid", lambda folder: praat(folder, "long_textgrid")),
    "TextGrid, short": ("textgrid", lambda folder: praat(folder, "short_textgrid")),
    "TextGrid in UTF-16": ("textgrid", lambda folder: praat(folder, "long_textgrid", "utf-16")),
    "ELAN": ("elan", elan),
    "SRT": ("subtitles", lambda folder: subtitles(folder, "srt")),
    "WebVTT": ("subtitles", lambda folder: subtitles(folder, "vtt")),
    "parquet": ("huggingface", lambda folder: saved(folder, "parquet")),
    "Arrow": ("huggingface", lambda folder: saved(folder, "arrow")),
    "CHAT": ("chat", chat),
    "CoNLL-U": ("killkan", lambda folder: killkan(folder, "conllu")),
    "ELAN of Killkan": ("killkan", lambda folder: killkan(folder, "eaf")),
}
XML = ("ELAN", "ELAN of Killkan")
BINARY = ("lhotse, gzip", "parquet", "Arrow")


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))].rstrip(b"\n\0")  # a cut between two lines cannot be seen


def zeros(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + bytes(min(16, len(data) - begin)) + data[begin + 16 :]


def no_unicode(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(1, len(data))
    return data[:place] + b"\xff\xfe\xff"[rng.randrange(2) :] + data[place:]


def another_kind(data: bytes, rng: random.Random) -> bytes:
    page, pointer = b"<html><body>404 not found</body></html>\n", b"version https://git-lfs.github.com/spec/v1\noid x\n"
    return rng.choice([b"", b"\n", page, pointer, b"PK\x03\x04\x14\0", b"\x89PNG\r\n\x1a\n", b"{}\n", data[::-1]])


def in_text(change: Callable[[str, random.Random], str]) -> Callable[[bytes, random.Random], bytes]:
    """A damage of a file's text."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        encoding = "utf-16" if data[:2] == b"\xff\xfe" else "utf-8"
        return change(data.decode(encoding), rng).encode(encoding)

    return damage


def one_of(pattern: str, *others: str) -> Callable[[str, random.Random], str]:
    def change(text: str, rng: random.Random) -> str:
        match = rng.choice(list(re.finditer(pattern, text)))
        return text[: match.start()] + rng.choice(others) + text[match.end() :]

    return change


def doubled_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    begin = rng.randrange(1, len(lines) - 1)
    end = min(len(lines), begin + rng.randrange(5, 9))
    return "".join(lines[:end] + lines[begin:end] + lines[end:])


DAMAGES = {
    "cut short": cut,
    "zeros": zeros,
    "bytes of no character": no_unicode,
    "a file of another kind": another_kind,
    "a lost line end": in_text(one_of(r"\n", "", " ")),
    "a lost separator": in_text(one_of(r"[\t,;:=<>]| rec |-->", "", " ")),
    "a lost quotation mark": in_text(one_of(r"(?<!\\)\"|[{}\[\]]|/>", "")),
    "a number that is none": in_text(
        one_of(r"\d+\.\d+|\d\d[.,]\d{3}|TIME_VALUE=\"\d+|\x15\d+|(?<== )\d{3,}", "nan", "-7.5", "1e99", "", "x")
    ),
    "lines twice": in_text(doubled_lines),
    # A participant that is lost is a speaker that was never there.
    "a lost attribute": in_text(one_of(r' (?!PARTICIPANT|DEFAULT_LOCALE)[A-Z][A-Z_0-9]+="[^"]*"', "")),
    "a lost element": in_text(one_of(r"<TIME_SLOT [^>]*>|<ANNOTATION_VALUE>[^<]*</ANNOTATION_VALUE>", "")),
}


# What a kind of file does not have, or what nothing would show: a mark of CHAT that became a word, the code of a word's
# language that lost its name, bytes that make other characters of UTF-16.
NOT_THERE = (
    {("CHAT", "a lost separator"), ("CoNLL-U", "a lost separator")}
    | {(kind, "bytes of no character") for kind in ("CSV with semicolons in UTF-16", "TextGrid in UTF-16")}
    | {(kind, damage) for kind in KINDS if kind not in XML for damage in ("a lost attribute", "a lost element")}
    | {(kind, "a lost quotation mark") for kind in ("TSV", "Kaldi text", "Kaldi segments", "SRT", "WebVTT", "CoNLL-U")}
    | {("Kaldi text", damage) for damage in ("a lost separator", "a number that is none")}
)


def read(kind: str, folder: Path) -> tuple[dict[str, tuple], int]:
    """What was read, by id, and how many rows were rejected."""
    if kind in ("parquet", "Arrow"):
        rows = list(located(reader_of("huggingface", folder)))
        return {e.utterance_id: (e.audio, e.text) for e in rows if isinstance(e, Utterance)}, sum(
            isinstance(e, Reject) for e in rows
        )
    found = reading(KINDS[kind][0], folder, **({"tiers": ["tx@*"]} if kind == "ELAN" else {}))
    keys = ("offset_s", "duration_s", "text", "speaker", "tokens", "token_languages")
    rows = [row for split in SPLITS for row in found.rows[split]]
    # A quotation mark that was lost leaves its partner; normalisation drops both.
    name = "offset_s" if kind == "CHAT" else "utterance_id"  # utterances of CHAT are counted, also those that are lost
    kept = {str(row[name]): tuple(str(row[key]).replace('"', "") for key in keys) for row in rows}
    return kept, sum(len(found.rejects[split]) for split in SPLITS)


def outcome(kind: str, folder: Path, truth: dict[str, tuple], warnings: Callable[[], str]) -> str:
    """What becomes of a damaged corpus; raises `AssertionError` where something is kept in a wrong form, or lost."""
    try:
        kept, rejects = read(kind, folder)
    except CorpusError as error:
        assert str(folder) in str(error) and len(str(error).split("\n")[0]) < 600
        assert not re.search(r"KeyError|NoneType|has no attribute|unpack", str(error)), f"not clear: {error}"
        return "refused"
    wrong = {name: row for name, row in kept.items() if truth.get(name) != row}
    if wrong and "the last line has no line end" in warnings():  # the last text is shorter
        assert len(wrong) == 1 and list(wrong) == list(kept)[-1:]
        return "read, with a warning"
    assert not wrong
    lost = truth.keys() - kept.keys()
    if lost and "the last line has no line end" in warnings():
        return "read, with a warning"
    assert not lost or rejects, f"lost without a word: {sorted(lost)}"
    return "rows rejected" if rejects else "read unharmed"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[tuple[str, str], Counter]:
    """Outcomes by kind and damage, of `CASES` for each reader: its kinds and their damages take turns."""
    rng, counts, truths, problems, records = random.Random(2026), {}, {}, [], []
    log, handler = logging.getLogger("headstart"), logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    log.addHandler(handler)
    for kind, damage in (pair for reader in READERS_OF_KINDS for pair in islice(cycle(pairs(reader)), CASES)):
        folder = tmp_path_factory.mktemp("case")
        recording(folder / "a.wav", seconds=4, rate=8000)
        path = KINDS[kind][1](folder)
        if kind not in truths:
            truths[kind], _ = read(kind, folder)
            assert len(truths[kind]) >= 2
        records.clear()
        try:
            path.write_bytes(DAMAGES[damage](path.read_bytes(), rng))
            found = outcome(kind, folder, truths[kind], lambda: " ".join(records))
            counts.setdefault((kind, damage), Counter())[found] += 1
        except Exception as error:
            problems.append(f"{kind}, {damage}, {folder}: {error!r}"[:600])
    log.removeHandler(handler)
    assert not problems, "\n".join(problems)
    return counts


READERS_OF_KINDS = list(dict.fromkeys(reader for reader, _ in KINDS.values()))


def pairs(reader: str) -> list[tuple[str, str]]:
    """The kinds of files of a reader, with what may happen to each; no two of the same kind follow one another."""
    own = [kind for kind, (name, _) in KINDS.items() if name == reader]
    return [
        (kind, damage)
        for damage in DAMAGES
        for kind in own
        if (kind, damage) not in NOT_THERE and not (kind in BINARY and list(DAMAGES).index(damage) > 3)
    ]


def test_no_damaged_file_is_kept_in_a_wrong_form_or_lost_without_a_word(outcomes):
    assert sum(sum(counts.values()) for counts in outcomes.values()) == CASES * len(READERS_OF_KINDS)


def test_the_counts_of_the_documents_are_those_of_this_test(outcomes):
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    missing = [row for row in listing(outcomes) if row not in text]
    assert not missing, "\n".join(["docs/reliability.md should have", *missing])


def listing(outcomes: dict[tuple[str, str], Counter]) -> list[str]:
    """The rows of the two tables in docs/reliability.md: by damage, and by reader."""

    def row(name: str, own: list[Counter]) -> str:
        counts = sum(own, Counter())
        columns = ("refused", "rows rejected", "read, with a warning", "read unharmed")
        return f"| {name} | {sum(counts.values())} | {' | '.join(str(counts[column]) for column in columns)} |"

    rows = [row(name, [one for (_, damage), one in outcomes.items() if damage == name]) for name in DAMAGES]
    rows.append(row("all", list(outcomes.values())))
    for reader in READERS_OF_KINDS:
        rows.append(row(f"`{reader}`", [one for (kind, _), one in outcomes.items() if KINDS[kind][0] == reader]))
    return rows
