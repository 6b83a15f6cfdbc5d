"""Corpora of read and prepared speech, each as a miniature of the layout in which it is distributed."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from miniature import entries, reader_of, reading, recording, write

from headstart.corpora.reader import CorpusError, Reject, Utterance


def ids(found: list[Utterance | Reject]) -> list[str | None]:
    return [entry.utterance_id for entry in found]


def only_rejects(found: list[Utterance | Reject]) -> list[tuple[str | None, str]]:
    return [(entry.utterance_id, entry.reason) for entry in found if isinstance(entry, Reject)]


# ------------------------------------------------------------------------------------------------ LibriSpeech


def librispeech(folder: Path, part: str, chapter: str, *texts: str) -> Path:
    """A chapter, `speaker-chapter`, with an audio file for each text."""
    speaker, number = chapter.split("-")
    inner = folder / part / speaker / number
    for place in range(len(texts)):
        recording(inner / f"{chapter}-{place:04d}.flac")
    write(inner / f"{chapter}.trans.txt", *(f"{chapter}-{i:04d} {text}" for i, text in enumerate(texts)))
    return inner


def test_librispeech_is_read_by_folders_and_says_what_has_no_transcript(tmp_path):
    root = tmp_path / "LibriSpeech"
    inner = librispeech(root, "train-clean-100", "103-1240", "CHAPTER ONE", "MISSUS RACHEL LYNDE'S HOUSE")
    recording(inner / "103-1240-0009.flac")
    librispeech(root, "dev-clean", "84-121123", "GO")
    librispeech(root, "dev-other", "116-288045", "NOT USED BY DEFAULT")
    librispeech(root, "test-clean", "61-70968", "HE BEGAN")
    found = reading("librispeech", tmp_path)  # the folder that the archive was unpacked in
    rows = found.rows
    assert [row["utterance_id"] for row in rows["train"]] == ["103-1240-0000", "103-1240-0001"]
    assert rows["train"][1]["text"] == "MISSUS RACHEL LYNDE'S HOUSE"
    assert {row["speaker"] for split in rows.values() for row in split} == {"103", "84", "61"}
    assert all(row["language"] == "en" for split in rows.values() for row in split)
    assert [row["text"] for row in rows["dev"] + rows["test"]] == ["GO", "HE BEGAN"]
    assert [reject["reason"] for reject in found.rejects["train"]] == [
        "no transcript: 103-1240.trans.txt does not name it"
    ]
    watched = list(reader_of("librispeech", tmp_path).audio_files())
    assert "LibriSpeech/train-clean-100/103/1240/103-1240.trans.txt" in watched and len(watched) == 8
    assert reader_of("librispeech", root).inputs() == [
        str(root / part) for part in ("dev-clean", "test-clean", "train-clean-100")
    ]


def test_a_folder_that_a_study_names_is_missed_and_one_that_it_does_not_know_is_named(tmp_path):
    librispeech(tmp_path, "train-clean-100", "103-1240", "A")
    librispeech(tmp_path, "train-mine", "104-1240", "B")
    with pytest.raises(CorpusError, match="split 'train-mine' is not in the corpus's `splits` mapping"):
        entries("librispeech", tmp_path)
    splits = {"train-clean-100": "train", "train-mine": None, "dev-clean": "dev"}
    with pytest.raises(
        CorpusError, match="`splits` uses dev-clean, but the corpus has only train-clean-100, train-mine"
    ):
        entries("librispeech", tmp_path, splits=splits)


def test_the_wrong_folder_of_a_corpus_is_answered_with_the_right_one(tmp_path):
    inner = librispeech(tmp_path / "LibriSpeech", "train-clean-100", "103-1240", "A")
    for folder in (inner, inner.parent, inner.parents[1]):
        with pytest.raises(CorpusError, match=r"inside the corpus; set `path` of the corpus to .*/LibriSpeech, which"):
            reader_of("librispeech", folder)
    with pytest.raises(CorpusError, match="no folder here contains folders such as train-clean-100.*headstart corpora"):
        reader_of("librispeech", write(tmp_path / "other" / "a.txt", "x").parent)
    with pytest.raises(CorpusError, match="no such corpus folder"):
        reader_of("librispeech", tmp_path / "nowhere")
    librispeech(tmp_path / "copy", "train-clean-100", "103-1240", "A")
    with pytest.raises(CorpusError, match="several folders contain .*: LibriSpeech, copy; set `path` to one"):
        reader_of("librispeech", tmp_path)


def test_without_transcripts_a_corpus_is_audio(tmp_path):
    librispeech(tmp_path, "train-clean-100", "103-1240", "A")
    (utterance,) = entries("librispeech", tmp_path, transcripts=False)
    assert utterance.text is None and utterance.speaker == "103"


def test_libri_lights_amounts_are_nested_and_its_evaluation_is_librispeechs(tmp_path):
    limited = tmp_path / "librispeech_finetuning"
    for part in range(6):
        librispeech(limited / "1h" / str(part), "clean" if part % 2 else "other", f"{100 + part}-1", "TEN", "MINUTES")
    # A chapter may be in the hour and in the nine hours, with its own lines in each.
    inner = limited / "9h" / "clean" / "101" / "1"
    recording(inner / "101-1-0007.flac")
    write(inner / "101-1.trans.txt", "101-1-0007 NINE HOURS")
    write(limited / "phones" / "1h_phones.txt", "101-1-0000 1 2 3")
    librispeech(tmp_path / "LibriSpeech", "dev-clean", "84-1", "DEV")
    librispeech(tmp_path / "LibriSpeech", "train-clean-100", "103-1", "NOT OF THE LIMITED SPLITS")
    amounts = {
        amount: {row["utterance_id"] for row in reading("librilight", tmp_path, amount=amount).rows["train"]}
        for amount in ("10min", "1h", "10h")
    }
    assert amounts["10min"] == {"100-1-0000", "100-1-0001"}
    assert amounts["10min"] < amounts["1h"] < amounts["10h"]
    assert len(amounts["1h"]) == 12 and amounts["10h"] - amounts["1h"] == {"101-1-0007"}
    found = reading("librilight", tmp_path, amount="10min", part=3)
    assert {row["speaker"] for row in found.rows["train"]} == {"103"}
    assert [row["text"] for row in found.rows["dev"]] == ["DEV"]
    assert not reading("librilight", limited).rows["dev"]  # named alone, it has no evaluation
    with pytest.raises(CorpusError, match="splits` uses test-other"):
        entries("librilight", tmp_path, splits={"dev-clean": "dev", "test-other": "test"})


# ------------------------------------------------------------------------------------------------ Common Voice

HEADER = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\t"
    "locale\tsegment"
)


def common_voice(folder: Path, header: str = HEADER, **tables: list[tuple[str, str, str]]) -> Path:
    """Tables of (speaker, clip, sentence); each clip is written."""
    names = header.split("\t")
    for table, rows in tables.items():
        cells = [{"client_id": speaker, "path": f"{clip}.mp3", "sentence": text} for speaker, clip, text in rows]
        write(folder / f"{table}.tsv", header, *("\t".join(row.get(name, "") for name in names) for row in cells))
        for _, clip, _ in rows:
            recording(folder / "clips" / f"{clip}.mp3", rate=32000)
    return folder


def test_common_voice_reads_its_own_splits_and_never_the_unvalidated_clips(tmp_path):
    folder = common_voice(
        tmp_path / "cv-corpus-23.0" / "sw",
        train=[("anna", "c1", 'Alisema "ndiyo" kwa sauti'), ("ben", "c2", "Pili")],
        dev=[("carl", "c3", "Tatu")],
        test=[("dora", "c4", "Nne")],
        validated=[("anna", "c1", "x"), ("emil", "c5", "Tano")],
        other=[("fred", "c6", "Sita")],
        invalidated=[("gina", "c7", "Saba")],
    )
    write(folder / "clip_durations.tsv", "clip\tduration[ms]", "c1.mp3\t500")
    write(folder / "reported.tsv", "sentence_id\tsentence\tlocale\treason", "1\tx\tsw\tgrammar")
    found = reading("common_voice", tmp_path / "cv-corpus-23.0", language="sw")
    texts = {split: [row["text"] for row in rows] for split, rows in found.rows.items()}
    assert texts == {"train": ['Alisema "ndiyo" kwa sauti', "Pili"], "dev": ["Tatu"], "test": ["Nne"]}
    assert not any(found.rejects.values())
    assert found.rows["train"][0]["speaker"] == "anna" and found.rows["train"][0]["utterance_id"] == "c1"
    assert found.rows["train"][0]["duration_s"] == pytest.approx(0.5, abs=0.1)
    assert reader_of("common_voice", folder, language="sw").inputs() == [
        str(folder / f"{table}.tsv") for table in ("test", "dev", "train")
    ]


def test_speakers_of_common_voices_evaluation_are_kept_out_of_what_validated_adds(tmp_path):
    common_voice(
        tmp_path,
        dev=[("carl", "c3", "Tatu")],
        test=[("dora", "c4", "Nne")],
        train=[("emil", "c6", "Sita")],  # part of `validated`, and not named by the study
        other=[("fred", "c7", "Saba")],
        validated=[("carl", "c3", "Tatu"), ("dora", "c4", "Nne"), ("dora", "c5", "Tano"), ("emil", "c6", "Sita")],
    )
    splits = {"validated": "train", "dev": "dev", "test": "test"}
    found = entries("common_voice", tmp_path, language="sw", splits=splits)
    assert [(entry.utterance_id, entry.split) for entry in found if isinstance(entry, Utterance)] == [
        ("c4", "test"),
        ("c3", "dev"),
        ("c6", "train"),
    ]
    assert only_rejects(found) == [("c5", "speaker of the evaluation: test.tsv has this speaker too")]
    kept = entries("common_voice", tmp_path, language="sw", splits=splits, shared_speakers="keep")
    assert ids(kept) == ["c4", "c3", "c5", "c6"] and not only_rejects(kept)


def test_first_releases_of_common_voice_have_other_columns_and_names_without_a_suffix(tmp_path):
    recording(tmp_path / "clips" / "a1.mp3", rate=32000)
    write(
        tmp_path / "train.tsv",
        "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent",
        "x\ta1\tJa\t2\t0\t\t\t",
    )
    assert [row["text"] for row in reading("common_voice", tmp_path, language="sw").rows["train"]] == ["Ja"]
    write(tmp_path / "train.tsv", "client_id\tfile\tsentence", "x\ta1\tJa")
    with pytest.raises(CorpusError, match="train.tsv: no table of clips of Common Voice; it has no column path"):
        reading("common_voice", tmp_path, language="sw")


def test_a_release_of_several_languages_is_read_in_the_language_of_the_study(tmp_path):
    common_voice(tmp_path / "sv-SE", train=[("a", "c1", "Hej")])
    common_voice(tmp_path / "sw", train=[("b", "c2", "Habari")])
    assert ids(entries("common_voice", tmp_path, language="sv")) == ["c1"]
    with pytest.raises(CorpusError, match="several folders contain clips/.*: sv-SE, sw; set `path` to one"):
        entries("common_voice", tmp_path, language="de")


def test_a_delta_segment_of_common_voice_has_no_splits_of_its_own(tmp_path):
    rows = [(f"speaker{i}", f"c{i}", f"Sentensi {i}") for i in range(30)]
    common_voice(tmp_path, validated=rows, other=[("x", "c99", "Moja")])
    with pytest.raises(CorpusError, match="only validated, other, .* set `splits: {validated: train}`"):
        reader_of("common_voice", tmp_path, language="sw")
    drawn = reading(
        "common_voice", tmp_path, language="sw", splits={"validated": "train"}, dev_share=0.2, test_share=0.2
    )
    assert all(drawn.rows.values()) and sum(map(len, drawn.rows.values())) == 30


def test_spontaneous_speech_is_read_where_its_transcripts_are_validated(tmp_path):
    folder = tmp_path / "sps-corpus-5.0-2026-09-11-qvi"
    for number in range(1, 5):
        recording(folder / "audios" / f"spontaneous-speech-qvi-{number}.mp3", rate=32000)
    header = "client_id\taudio_id\taudio_file\tduration_ms\tprompt\ttranscription\tlanguage\tsplit\tquality_tags"
    row = "{0}\t{1}\tspontaneous-speech-qvi-{1}.mp3\t500\tImata?\t{2}\tKichwa\t{3}\t"
    write(
        folder / "ss-corpus-qvi.tsv",
        header,
        row.format("anna", 1, "ari [noise] mashi", "train"),
        row.format("ben", 2, "mana", "dev"),
        row.format("carl", 3, "ima", "test"),
        row.format("dora", 4, "", "unassigned"),
    )
    write(folder / "ss-reported-audios-qvi.tsv", "client_id\taudio_id\treason", "x\t9\tother")
    found = reading("spontaneous_speech", tmp_path, language="qvi")
    assert [(row["utterance_id"], row["speaker"], row["text"]) for row in found.rows["train"]] == [
        ("spontaneous-speech-qvi-1", "anna", "ari [noise] mashi")
    ]
    assert len(found.rows["dev"]) == len(found.rows["test"]) == 1 and not any(found.rejects.values())
    splits = {"unassigned": "train", "train": None, "dev": None, "test": None}
    (audio,) = entries("spontaneous_speech", folder, language="qvi", splits=splits, transcripts=False)
    assert audio.text is None and audio.speaker == "dora"


# ------------------------------------------------------------------------------------------------ MLS


def mls(folder: Path, **splits: dict[str, str]) -> Path:
    for split, texts in splits.items():
        for name in texts:
            speaker, book, _ = name.split("_")
            recording(folder / split / "audio" / speaker / book / f"{name}.flac")
        write(folder / split / "transcripts.txt", *(f"{name}\t{text}" for name, text in texts.items()))
        write(folder / split / "segments.txt", *(f"{name}\thttp://x/y.mp3\t1.0\t2.0" for name in texts))
    return folder


def test_mls_is_read_in_one_language_with_its_lists_of_limited_supervision(tmp_path):
    german = mls(
        tmp_path / "mls_german",
        train={f"{i}_10_00000{i}": f"satz {i}" for i in range(8)},
        dev={"90_1_000000": "dev"},
        test={"91_1_000000": "test"},
    )
    mls(tmp_path / "mls_french", train={"5_1_000000": "phrase"})
    write(tmp_path / "mls_lm_german" / "data.txt", "text")
    lists = german / "train" / "limited_supervision"
    for part in range(6):
        write(lists / "1hr" / str(part) / "handles.txt", f"{part}_10_00000{part}")
    write(lists / "9hr" / "handles.txt", "6_10_000006")
    amounts = {
        amount: {row["utterance_id"] for row in reading("mls", tmp_path, language="de", amount=amount).rows["train"]}
        for amount in ("10min", "1h", "10h", "all")
    }
    assert [len(amounts[amount]) for amount in ("10min", "1h", "10h", "all")] == [1, 6, 7, 8]
    assert amounts["10min"] < amounts["1h"] < amounts["10h"] < amounts["all"]
    found = reading("mls", german, language="de")
    assert found.rows["train"][3]["speaker"] == "3" and found.rows["train"][3]["text"] == "satz 3"
    assert len(found.rows["dev"]) == len(found.rows["test"]) == 1
    assert ids(entries("mls", tmp_path, language="fr")) == ["5_1_000000"]
    with pytest.raises(CorpusError, match="limited_supervision/1hr/0/handles.txt: no such list"):
        entries("mls", tmp_path, language="fr", amount="10min")


def test_mls_of_opus_files_is_read_and_missing_audio_is_said(tmp_path):
    mls(tmp_path, train={"1_2_000000": "a"})
    (tmp_path / "train/audio/1/2/1_2_000000.flac").unlink()
    vorbis = recording(tmp_path / "train/audio/1/2/1_2_000000.ogg")
    vorbis.rename(vorbis.with_suffix(".opus"))
    write(tmp_path / "train" / "transcripts.txt", "1_2_000000\ta", "1_2_000001\tb")
    found = reading("mls", tmp_path, language="de")
    assert [row["text"] for row in found.rows["train"]] == ["a"]
    assert [reject["reason"] for reject in found.rejects["train"]] == ["audio file not found"]


# ------------------------------------------------------------------------------------------------ FLEURS


def fleurs_row(sentence: int, name: str, written: str) -> str:
    plain = written.lower().strip(".?!")
    return "\t".join([str(sentence), name, written, plain, " | ".join(plain.split()) + " |", "8000", "FEMALE"])


def test_fleurs_ids_are_of_files_since_its_numbers_are_of_sentences(tmp_path):
    folder = tmp_path / "data" / "sw_ke"
    for name in ("11.wav", "12.wav", "13.wav"):
        recording(folder / "audio" / "train" / name)
    recording(folder / "audio" / "test" / "14.wav")
    write(
        folder / "train.tsv",
        fleurs_row(1660, "11.wav", 'Alisema "ndiyo".'),
        fleurs_row(1660, "12.wav", 'Alisema "ndiyo".'),
        fleurs_row(7, "13.wav", "Saa 11:35."),
        "8\t15.wav\ttoo few",
    )
    write(folder / "test.tsv", fleurs_row(9, "14.wav", "Nne."))
    write(tmp_path / "data" / "de_de" / "train.tsv", fleurs_row(1, "99.wav", "Eins."))
    found = reading("fleurs", tmp_path, language="sw")
    assert [row["utterance_id"] for row in found.rows["train"]] == ["11", "12", "13"]
    assert found.rows["train"][0]["text"] == found.rows["train"][1]["text"] == 'Alisema "ndiyo".'
    assert found.rows["train"][0]["speaker"] is None
    assert [reject["reason"] for reject in found.rejects["train"]] == ["3 cells in train.tsv, not 7"]
    normalised = reading("fleurs", folder, language="sw", transcript="normalised")
    assert normalised.rows["test"][0]["text"] == "nne"


def test_fleurs_archives_that_are_still_packed_are_named(tmp_path):
    write(tmp_path / "train.tsv", fleurs_row(1, "1.wav", "Moja."))
    write(tmp_path / "audio" / "train.tar.gz", "x")
    with pytest.raises(CorpusError, match=r'audio/train: no such folder; unpack .*tar xzf ".*train.tar.gz" -C'):
        entries("fleurs", tmp_path, language="sw")
    recording(tmp_path / "train" / "1.wav")  # unpacked beside the tables instead
    assert ids(entries("fleurs", tmp_path, language="sw")) == ["1"]


def test_fleurs_is_read_as_lhotse_downloads_it(tmp_path):
    write(tmp_path / "metadata" / "sw_ke" / "train.tsv", fleurs_row(1, "1.wav", "Moja."))
    recording(tmp_path / "sw_ke" / "train" / "1.wav")
    (row,) = reading("fleurs", tmp_path, language="sw").rows["train"]
    assert row["audio_path"] == str(tmp_path / "sw_ke" / "train" / "1.wav")


# ------------------------------------------------------------------------------------------------ VoxPopuli

VOXPOPULI = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender\tis_gold_transcript\taccent"


def test_voxpopulis_clips_are_read_by_their_tables(tmp_path):
    folder = tmp_path / "transcribed_data" / "en"
    clip = "20130114-0900-PLENARY-1-en_20130114-17:12:30_0"
    recording(folder / "2013" / f"{clip}.ogg")
    write(
        folder / "asr_train.tsv",
        VOXPOPULI,
        f'{clip}\tHe said "no".\the said no\t1122\ttrain\tfemale\tTrue\tNone',
        "20140114-0900-PLENARY-2-en_1\t\t\tNone\ttrain\tmale\tFalse\tNone",
    )
    found = reading("voxpopuli", tmp_path, language="en")
    assert [(row["utterance_id"], row["text"], row["speaker"]) for row in found.rows["train"]] == [
        (clip, "he said no", "1122")
    ]
    assert [reject["reason"] for reject in found.rejects["train"]] == ["empty transcript"]
    assert reading("voxpopuli", folder, language="en", transcript="written").rows["train"][0]["text"] == 'He said "no".'


def test_voxpopulis_sessions_are_read_in_stretches(tmp_path):
    recording(tmp_path / "de" / "2013" / "20130114-0900-PLENARY-1_de.ogg", seconds=3)
    rows = [
        "session_id|id_|speaker_id|gender|start_time|end_time|original_text|normed_text|split",
        '20130114-0900-PLENARY-1|de_0|7|male|0.5|1.75|Ja; "gut".|ja gut|train',
        "20130114-0900-PLENARY-1|de_1|8|male|1.75|2.5|Nein.|nein|test",
        "20130114-0900-PLENARY-1|de_2|8|male|2.5|2.9|Ungeprüft.|ungeprüft|invalid",
        "20130114-0900-PLENARY-1|de_3|8|male||2.9|Ohne Zeit.|ohne zeit|test",
    ]
    (tmp_path / "asr_de.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    found = reading("voxpopuli", tmp_path, language="de")
    (train,), (test,) = found.rows["train"], found.rows["test"]
    assert (train["utterance_id"], train["offset_s"], train["duration_s"]) == (
        "20130114-0900-PLENARY-1-de_0",
        0.5,
        1.25,
    )
    assert (test["text"], test["speaker"]) == ("nein", "8")
    reasons = {reject["reason"] for rejects in found.rejects.values() for reject in rejects}
    assert reasons == {"split 'invalid' is none of VoxPopuli's", "no times, or no id, in asr_de.tsv.gz"}
    with pytest.raises(CorpusError, match="no table asr_train.tsv and no asr_en.tsv; does `language` fit"):
        entries("voxpopuli", tmp_path, language="en")


# ------------------------------------------------------------------------------------------------ TED-LIUM


def test_ted_lium_leaves_out_ignored_segments_and_joins_suffixes(tmp_path):
    root = tmp_path / "TEDLIUM_release-3"
    for split, talk in (("train", "AaronHuey_2010X"), ("dev", "AlGore_2009"), ("test", "BillGates_2010")):
        folder = root / "legacy" / split
        sphere(folder / "sph" / f"{talk}.sph", 8)
        write(
            folder / "stm" / f"{talk}.stm",
            ";; a comment",
            f"{talk} 1 {talk} 0.00 1.50 <o,f0,male> that 's <unk> what i 'm {{NOISE}} saying",
            f"{talk} 1 inter_segment_gap 1.50 2.00 <o,f0,> ignore_time_segment_in_scoring",
            f"{talk} 1 {talk} 2.00 3.50 <o,f0,male> the(2) <sil> so 'called' word",
            "broken line",
        )
    write(root / "speaker-adaptation" / "train" / "stm" / "x.stm", "x 1 x 0 1 <o,f0,male> x")
    found = reading("tedlium", tmp_path)
    rows = found.rows["train"]
    assert [row["text"] for row in rows] == ["that's <unk> what i'm {NOISE} saying", "the so 'called' word"]
    assert rows[0]["speaker"] == "AaronHuey" and rows[1]["utterance_id"] == "AaronHuey_2010X-0000200-0000350"
    assert (rows[1]["offset_s"], rows[1]["duration_s"]) == (2.0, 1.5)
    assert [reject["reason"] for reject in found.rejects["train"]] == [
        "no transcript: ignore_time_segment_in_scoring",
        "not a line of STM in AaronHuey_2010X.stm",
    ]
    assert len(found.rows["dev"]) == len(found.rows["test"]) == 2
    assert ids(entries("tedlium", root, distribution="speaker-adaptation")) == ["x-0000000-0000100"]


def sphere(path: Path, seconds: float) -> Path:
    """A NIST SPHERE file of noise, 16 kHz, 16 bit."""
    samples = np.random.default_rng(0).integers(-3000, 3000, round(seconds * 16000)).astype("<i2")
    fields = [
        "NIST_1A",
        "   1024",
        "channel_count -i 1",
        "sample_rate -i 16000",
        f"sample_count -i {len(samples)}",
        "sample_n_bytes -i 2",
        "sample_byte_format -s2 01",
        "sample_sig_bits -i 16",
        "sample_coding -s3 pcm",
        "end_head",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(fields).encode().ljust(1024) + samples.tobytes())
    return path


# ------------------------------------------------------------------------------------------------ AISHELL, Babel


def test_aishell_is_read_with_words_joined_and_untranscribed_audio_said(tmp_path):
    root = tmp_path / "data_aishell"
    for name in ("BAC009S0002W0122", "BAC009S0002W0123"):
        recording(root / "wav" / "train" / "S0002" / f"{name}.wav")
    recording(root / "wav" / "test" / "S0764" / "BAC009S0764W0121.wav")
    transcript = write(
        root / "transcript" / "aishell_transcript_v0.8.txt",
        "BAC009S0002W0122 而 对 楼市 成交 抑制",
        "BAC009S0764W0121 甚至 iphone ５ 出现",
    )
    write(tmp_path / "resource_aishell" / "lexicon.txt", "而 er2")
    found = reading("aishell", tmp_path)
    assert [row["text"] for row in found.rows["train"]] == ["而对楼市成交抑制"]
    assert [row["text"] for row in found.rows["test"]] == ["甚至 iphone ５ 出现"]
    assert found.rows["test"][0]["speaker"] == "S0764" and found.rows["test"][0]["language"] == "zh"
    assert [reject["utterance_id"] for reject in found.rejects["train"]] == ["BAC009S0002W0123"]
    assert reader_of("aishell", root).inputs() == [str(transcript)]


def test_aishells_archives_of_speakers_are_asked_to_be_unpacked(tmp_path):
    write(tmp_path / "transcript" / "aishell_transcript_v0.8.txt", "BAC009S0002W0122 而")
    write(tmp_path / "wav" / "S0002.tar.gz", "x")
    with pytest.raises(CorpusError, match="archives of the speakers are still packed; unpack them"):
        reader_of("aishell", tmp_path)


def test_babels_stretches_lie_between_times(tmp_path):
    root = tmp_path / "IARPA_BABEL_BP_101"
    for part, name in (
        ("training", "BABEL_BP_101_10033_20111024_205740_inLine"),
        ("dev", "BABEL_BP_101_2_3_4_outLine"),
    ):
        folder = root / "conversational" / part
        sphere(folder / "audio" / f"{name}.sph", 6)
        write(
            folder / "transcription" / f"{name}.txt",
            "[0.000]",
            "<no-speech>",
            "[1.000]",
            "喂 <hes> (())",
            "[2.500]",
            "[3.000]",  # two times without words between them
            "<lipsmack> <breath>",
            "[4.000]",
            "係 <foreign> 呀",
            "[5.500]",
        )
    write(root / "scripted" / "training" / "transcription" / "BABEL_BP_101_5_6_7_scripted.txt", "[0.0]", "x", "[1.0]")
    sphere(root / "scripted" / "training" / "audio" / "BABEL_BP_101_5_6_7_scripted.sph", 2)
    found = reading("babel", tmp_path, language="yue")
    rows = found.rows["train"]
    assert [(row["text"], row["offset_s"], row["duration_s"]) for row in rows] == [
        ("喂 <hes> (())", 1.0, 1.5),
        ("係 <foreign> 呀", 4.0, 1.5),
    ]
    assert rows[0]["speaker"] == "10033_inLine" and len(found.rows["dev"]) == 2
    assert [reject["reason"] for reject in found.rejects["train"]] == [
        "no speech: <no-speech>",
        "no speech: <lipsmack> <breath>",
    ]
    both = entries("babel", root, language="yue", styles=["conversational", "scripted"])
    assert sum(entry.split == "train" and isinstance(entry, Utterance) for entry in both) == 3
    names = write(tmp_path / "sub-train.list", "BABEL_BP_101_9_9_9_inLine")
    few = reading("babel", root, language="yue", recordings=str(names))
    assert not few.rows["train"] and len(few.rows["dev"]) == 2
