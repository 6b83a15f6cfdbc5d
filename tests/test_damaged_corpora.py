"""200 damaged tables and annotation files, generated from a seed: none crashes, and none is kept in a wrong form.

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
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from miniature import reader_of, reading, recording, write
from test_field_work import write_eaf, write_textgrid
from test_readers import dataset

from headstart.corpora.paths import located
from headstart.corpora.reader import CorpusError, Reject, Utterance
from headstart.study.fields import SPLITS

ROOT = Path(__file__).parents[1]
WORDS = ["mana kanchu", "ñuka wasi", "ari ima", "kaypi", 'shuk "tamia"', "allku rin"]
TIMES = [(i / 2, i / 2 + 0.4) for i in range(len(WORDS))]
CASES = 200


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
}
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
        one_of(r"\d+\.\d+|\d\d[.,]\d{3}|TIME_VALUE=\"\d+", "nan", "-7.5", "1e99", "", "x")
    ),
    "lines twice": in_text(doubled_lines),
}


# What a kind of file does not have.
NOT_THERE = {(kind, "a lost quotation mark") for kind in ("TSV", "Kaldi text", "Kaldi segments", "SRT", "WebVTT")} | {
    ("Kaldi text", damage) for damage in ("a lost separator", "a number that is none")
}


def read(kind: str, folder: Path) -> tuple[dict[str, tuple], int]:
    """What was read, by id, and how many rows were rejected."""
    if kind in ("parquet", "Arrow"):
        rows = list(located(reader_of("huggingface", folder)))
        return {e.utterance_id: (e.audio, e.text) for e in rows if isinstance(e, Utterance)}, sum(
            isinstance(e, Reject) for e in rows
        )
    found = reading(KINDS[kind][0], folder, **({"tiers": ["tx@*"]} if kind == "ELAN" else {}))
    keys = ("offset_s", "duration_s", "text", "speaker")
    rows = [row for split in SPLITS for row in found.rows[split]]
    # A quotation mark that was lost leaves its partner; normalisation drops both.
    kept = {row["utterance_id"]: tuple(str(row[key]).replace('"', "") for key in keys) for row in rows}
    return kept, sum(len(found.rejects[split]) for split in SPLITS)


def outcome(kind: str, folder: Path, truth: dict[str, tuple], warnings: Callable[[], str]) -> str:
    """What becomes of a damaged corpus; raises `AssertionError` where something is kept in a wrong form, or lost."""
    try:
        kept, rejects = read(kind, folder)
    except CorpusError as error:
        assert str(folder) in str(error) and len(str(error).split("\n")[0]) < 600
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
    """Outcomes by kind and damage, of 200 cases."""
    rng, counts = random.Random(2026), {}
    pairs = [
        (kind, damage)
        for kind in KINDS
        for damage in (list(DAMAGES)[:4] if kind in BINARY else DAMAGES)
        if (kind, damage) not in NOT_THERE
    ]
    truths = {}
    log, records = logging.getLogger("headstart"), []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    log.addHandler(handler)
    problems = []
    for case, (kind, damage) in enumerate(pairs * (CASES // len(pairs) + 1)):
        if case == CASES:
            break
        folder = tmp_path_factory.mktemp("case")
        recording(folder / "a.wav", seconds=4, rate=8000)
        path = KINDS[kind][1](folder)
        if kind not in truths:
            truths[kind], _ = read(kind, folder)
            assert len(truths[kind]) >= 2
        before = path.read_bytes()
        try:
            path.write_bytes(DAMAGES[damage](before, rng))
        except IndexError:
            problems.append(f"{kind} has nothing for {damage}")
            continue
        records.clear()
        try:
            found = outcome(kind, folder, truths[kind], lambda: " ".join(records))
            counts.setdefault((kind, damage), Counter())[found] += 1
        except Exception as error:
            problems.append(f"{case} {kind}, {damage}, {folder}: {error!r}"[:600])
    log.removeHandler(handler)
    assert not problems, "\n".join(problems)
    return counts


def test_no_damaged_file_is_kept_in_a_wrong_form_or_lost_without_a_word(outcomes):
    assert sum(sum(counts.values()) for counts in outcomes.values()) == CASES


def test_the_counts_of_the_documents_are_those_of_this_test(outcomes):
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    for row in listing(outcomes):
        assert row in text, "\n".join(["docs/reliability.md should have", *listing(outcomes)])


def listing(outcomes: dict[tuple[str, str], Counter]) -> list[str]:
    """The rows of the table in docs/reliability.md."""
    columns = ("refused", "rows rejected", "read, with a warning", "read unharmed")
    rows = []
    for damage in [*DAMAGES, "all"]:
        own = [counts for (_, kind), counts in outcomes.items() if damage in (kind, "all")]
        counts = sum(own, Counter())
        cells = " | ".join(str(counts[column]) for column in columns)
        rows.append(f"| {damage} | {sum(counts.values())} | {cells} |")
    return rows
