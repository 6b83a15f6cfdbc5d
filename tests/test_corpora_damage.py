"""Damaged annotations of public corpora, and folders of the wrong level: a reject with a reason, or one clear error."""

import logging
import random
from pathlib import Path
from typing import Any

import pytest
from miniature import reader_of, write
from test_damaged_corpora import DAMAGES

from headstart.corpora.paths import located
from headstart.corpora.reader import CorpusError, Reject, Utterance
from headstart.corpora.registry import READERS
from headstart.corpora.rooted import RootedReader

SEGMENT = "S04-C03-R04_000050-000200"
# Reader -> settings, the file by which a test names the corpus's own folder, and the lines of its annotation files.
CORPORA: dict[str, tuple[dict[str, Any], str, dict[str, list[str]]]] = {
    "librispeech": ({}, "LibriSpeech", {
        "LibriSpeech/train-clean-100/103/1240/103-1240.trans.txt": ["103-1240-0000 CHAPTER ONE", "103-1240-0001 TWO"],
        "LibriSpeech/train-clean-100/103/1240/103-1240-0000.flac": [],
        "LibriSpeech/train-clean-100/103/1240/103-1240-0001.flac": [],
        "LibriSpeech/dev-clean/84/1/84-1.trans.txt": ["84-1-0000 GO"],
        "LibriSpeech/dev-clean/84/1/84-1-0000.flac": [],
    }),
    "librilight": ({"amount": "10min"}, "", {
        "librispeech_finetuning/1h/0/clean/103/1240/103-1240.trans.txt": ["103-1240-0000 CHAPTER ONE"],
        "librispeech_finetuning/1h/0/clean/103/1240/103-1240-0000.flac": [],
    }),
    "common_voice": ({"language": "sw"}, "sw", {
        "sw/train.tsv": ["client_id\tpath\tsentence\tlocale", "a\tc1.mp3\tMoja\tsw", "b\tc2.mp3\tPili\tsw"],
        "sw/test.tsv": ["client_id\tpath\tsentence\tlocale", "c\tc3.mp3\tTatu\tsw"],
        "sw/clips/c1.mp3": [],
    }),
    "spontaneous_speech": ({"language": "qvi"}, "sps-qvi", {
        "sps-qvi/ss-corpus-qvi.tsv": ["client_id\taudio_file\ttranscription\tsplit", "a\t1.mp3\tari\ttrain"],
        "sps-qvi/audios/1.mp3": [],
    }),
    "mls": ({"language": "de"}, "mls_german", {
        "mls_german/train/transcripts.txt": ["1_2_000000\teins", "1_2_000001\tzwei"],
        "mls_german/dev/transcripts.txt": ["3_2_000000\tdrei"],
    }),
    "fleurs": ({"language": "sw"}, "sw_ke", {
        "sw_ke/train.tsv": ["1\t1.wav\tMoja.\tmoja\tm o\t8000\tMALE", "1\t2.wav\tMoja.\tmoja\tm o\t8000\tMALE"],
        "sw_ke/audio/train/1.wav": [],
    }),
    "voxpopuli": ({"language": "de"}, "de", {
        "de/asr_train.tsv": ["id\traw_text\tnormalized_text\tspeaker_id\tsplit", "x\tJa.\tja\t1\ttrain"],
        "de/asr_dev.tsv": ["id\traw_text\tnormalized_text\tspeaker_id\tsplit", "y\tJa.\tja\t1\tdev"],
    }),
    "tedlium": ({}, "TEDLIUM_release-3", {
        "TEDLIUM_release-3/legacy/train/stm/a.stm": ["a 1 a 0.0 1.5 <o,f0,male> that 's", "a 1 a 1.5 2 <o,f0,male> it"],
    }),
    "aishell": ({}, "data_aishell", {
        "data_aishell/transcript/aishell_transcript_v0.8.txt": ["BAC009S0002W0122 而 对", "BAC009S0002W0123 楼市"],
        "data_aishell/wav/train/S0002/BAC009S0002W0122.wav": [],
    }),
    "babel": ({"language": "yue"}, "BABEL_BP_101", {
        "BABEL_BP_101/conversational/training/transcription/B_BP_1_2_3_4_inLine.txt": ["[0.0]", "喂", "[1.5]"],
    }),
    "seame": ({}, "data", {
        "data/interview/transcript/phaseII/NI01MAX_0101.txt": ["NI01MAX_0101\t500\t2000\tCS\t然后 then"],
    }),
    "ascend": ({}, "ASCEND", {
        "ASCEND/train_metadata.csv": [
            "file_name,transcription,language,original_speaker_id",
            'waves/a.wav,"好, yes",mixed,1',
        ],
        "ASCEND/waves/a.wav": [],
    }),
    "talcs": ({}, "TALCS_corpus", {"TALCS_corpus/train_set/label.txt": ["1_2_3_4_5_6 上面 HE", "1_2_3_4_5_7 好"]}),
    "mucs": ({"language": "hi"}, "mucs", {
        "mucs/train/transcripts/wav.scp": ["a a.wav"],
        "mucs/train/transcripts/segments": ["u1 a 0 1.5", "u2 a 1.5 2"],
        "mucs/train/transcripts/text": ["u1 यह file", "u2 है"],
        "mucs/train/transcripts/utt2spk": ["u1 s", "u2 s"],
    }),
    "chat": ({}, "", {
        "a.cha": ["@Begin", "@Languages:\teng, spa", "*PAI:\tI <told her> [//] que@s:spa . \x15500_2000\x15", "@End"],
        "a.mp3": [],
    }),
    "arzen": ({}, "ArzEn", {
        "ArzEn/ASR_files/text": [f"{SEGMENT} انا meeting", "S04-C03-R04_000200-000300 okay"],
        "ArzEn/splits/train": ["C03-R04"],
        "ArzEn/splits/test": ["C01-R01"],
    }),
    "cs_fleurs": ({"pair": "spa-eng"}, "cs-fleurs", {
        "cs-fleurs/read/test/metadata.jsonl": [
            '{"id": "1", "file_name": "audio/1.wav", "text": "El **sun**", "language": "spa-eng"}'
        ],
    }),
    "killkan": ({}, "killkan", {
        "killkan/k.conllu": [
            "# sent_id = 1_0", "# sent = Ari", "# start = 0", "# end = 900",
            "1\tAri\tari\tINTJ\t_\t_\t0\troot\t_\tCSID=KC",
        ],
    }),
}  # fmt: skip


def laid_out(folder: Path, reader: str) -> list[Path]:
    """Write a corpus, and return its annotation files."""
    _, _, files = CORPORA[reader]
    paths = [write(folder / name, *lines) for name, lines in files.items()]
    return [path for path in paths if path.stat().st_size]


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One way in which files are found to be damaged."""
    lines = data.split(b"\n")
    place, line = rng.randrange(len(data)), rng.randrange(max(1, len(lines) - 1))
    return rng.choice([
        lambda: data[:place],
        lambda: data[:place] + rng.randbytes(5) + data[place:],
        lambda: data[:place] + b"\0" + data[place:],
        lambda: data.replace(b"\t", b" "),
        lambda: data.replace(b" ", b"\t"),
        lambda: data.replace(b"\n", b"\r"),
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: data.decode().encode("utf-16"),
        lambda: data.decode().encode("utf-16-le"),
        lambda: b"\n".join(lines[:line] + lines[line + 1 :]),
        lambda: b"\n".join(lines[: line + 1] + lines[line:]),
        lambda: b"\n".join(lines[:line] + [lines[line][: len(lines[line]) // 2]] + lines[line + 1 :]),
        lambda: b"\n".join(lines[:line] + [lines[line] + b"\t" + lines[line]] + lines[line + 1 :]),
        lambda: data.translate(bytes.maketrans(b"0123456789", b"abcdefghij")),
        lambda: data.replace(b".", b""),
        lambda: data.replace(b"1", b"nan").replace(b"2", b"inf"),
        lambda: data.replace(b"0", b"9" * 5000),
        lambda: data.replace(b"_", b"").replace(b"-", b""),
        lambda: data.translate(bytes.maketrans(b'<[("{', b'>])\'}')),
        lambda: b"\n" * 3,
        lambda: b"",
        lambda: rng.randbytes(200),
    ])()  # fmt: skip


@pytest.mark.parametrize("reader", CORPORA)
def test_damaged_annotations_end_in_rejects_or_one_clear_error(reader, tmp_path):
    rng, settings = random.Random(reader), CORPORA[reader][0]
    paths = laid_out(tmp_path, reader)
    whole = {path: path.read_bytes() for path in paths}
    sound = [entry for entry in reader_of(reader, tmp_path, **settings).utterances() if isinstance(entry, Utterance)]
    assert sound and all(entry.text and entry.audio for entry in sound)
    for _ in range(60):
        path = rng.choice(paths)
        path.write_bytes(damaged(whole[path], rng))
        try:
            entries = list(reader_of(reader, tmp_path, **settings).utterances())
        except CorpusError as error:
            assert str(tmp_path) in str(error) and len(str(error)) < 1000
        else:
            for entry in entries:
                assert isinstance(entry, Utterance) or (isinstance(entry, Reject) and entry.reason)
                if isinstance(entry, Utterance) and entry.token_languages:
                    assert len(entry.tokens) == len(entry.token_languages)
        path.write_bytes(whole[path])


# What nothing shows: a comma lost in a quoted cell, a mark `@s` that became a word, speakers that were never there.
UNKNOWABLE = {("ascend", "a lost separator"), ("chat", "a lost separator")}


def kept(reader: str, folder: Path) -> tuple[dict[str | None, tuple], bool]:
    """What is read and has audio and a text, by id, and whether anything was rejected or will be."""
    entries = list(located(reader_of(reader, folder, **CORPORA[reader][0])))
    sound = {
        entry.utterance_id: (entry.audio, entry.text, entry.speaker, entry.split)
        for entry in entries
        if isinstance(entry, Utterance)
        and entry.text
        and (folder / entry.audio.path).is_file()
        and entry.audio.offset_s >= 0
        and 0 < (entry.audio.duration_s or 1) < 1e6
    }
    return sound, len(sound) < len(entries)


@pytest.mark.parametrize("reader", CORPORA)
def test_nothing_damaged_is_kept_in_a_wrong_form_or_lost_without_a_word(reader, tmp_path, caplog):
    rng = random.Random(reader)
    paths = [path for path in laid_out(tmp_path, reader) if path.name != "utt2spk"]  # may be empty
    for entry in reader_of(reader, tmp_path, **CORPORA[reader][0]).utterances():
        (tmp_path / entry.audio.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / entry.audio.path).touch()
    truth, rejects = kept(reader, tmp_path)
    assert truth and not rejects
    for damage in [name for name in DAMAGES if (reader, name) not in UNKNOWABLE] * 6:
        path = rng.choice(paths)
        whole = path.read_bytes()
        try:
            path.write_bytes(DAMAGES[damage](whole, rng))
        except (IndexError, ValueError):
            continue  # the file has nothing of the kind
        caplog.clear()
        try:
            with caplog.at_level(logging.WARNING, "headstart"):
                found, rejects = kept(reader, tmp_path)
        except CorpusError as error:
            assert str(tmp_path) in str(error)
        else:
            case = f"{damage}: {path.read_bytes()!r}"
            warned = any(words in caplog.text for words in ("has no line end", ": empty", "it has no row"))
            wrong = [name for name, entry in found.items() if truth.get(name) != entry]
            assert not wrong or (warned and len(wrong) == 1), case  # the last line, which may have been cut
            assert truth.keys() <= found.keys() or rejects or warned, case
        path.write_bytes(whole)


def test_every_reader_of_a_known_layout_is_damaged_here():
    assert {name for name, reader in READERS.items() if issubclass(reader, RootedReader)} == set(CORPORA)


@pytest.mark.parametrize("reader", CORPORA)
def test_the_folder_of_a_corpus_is_found_from_above_and_named_from_below(reader, tmp_path):
    settings, own, files = CORPORA[reader]
    home = tmp_path / "unpacked" / "here"
    laid_out(home, reader)
    above, at = (list(reader_of(reader, folder, **settings).utterances()) for folder in (home.parent, home / own))
    assert [entry.utterance_id for entry in above] == [entry.utterance_id for entry in at]
    watched = set(reader_of(reader, home / own, **settings).audio_files())
    assert watched >= {entry.audio.path for entry in at if entry.audio}
    assert [entry.audio.path for entry in above if entry.audio] == [
        str((home / own / entry.audio.path).relative_to(home.parent)) for entry in at if entry.audio
    ]
    below = (home / next(iter(files))).parent
    if below != home / own and reader not in ("librilight", "chat"):
        with pytest.raises(
            CorpusError, match=r"inside the corpus; set `path` of the corpus to|set `path` of the corpus"
        ):
            reader_of(reader, below, **settings)
    with pytest.raises(CorpusError, match="no folder here contains .*headstart corpora|set `path` of the corpus"):
        reader_of(reader, write(tmp_path / "other" / "notes.txt", "x").parent, **settings)
