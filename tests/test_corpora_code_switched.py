"""Code-switched corpora, each as a miniature of the layout in which it is distributed."""

import json
from pathlib import Path

import numpy as np
import pytest
from killkan import Sentence, write_chapter
from miniature import entries, reader_of, reading, recording, write

from headstart.corpora.reader import CorpusError, Utterance
from headstart.corpora.readers.chat import tagged_words
from headstart.corpora.script_tags import tokens_by_script
from headstart.study.text import Text
from headstart.text.normalisation import normalise, normalised_runs


def tags_of(entry: Utterance | dict) -> list[tuple[str, str]]:
    """Tokens with their tags, of an utterance or of a manifest row."""
    row = entry if isinstance(entry, dict) else {"tokens": entry.tokens, "token_languages": entry.token_languages}
    return list(zip(row["tokens"], row["token_languages"], strict=True))


def reasons(found: list[dict]) -> list[str]:
    return [reject["reason"] for reject in found]


# ------------------------------------------------------------------------------------------------ tags by script


def test_words_are_cut_where_the_script_changes_and_tagged_by_it():
    text = "我想去shopping， okay 嗎？ (ppl) <v-noise> 3 D [lah] п"
    tokens, tags = tokens_by_script(text, ("zh", "en"))
    assert list(zip(tokens, tags, strict=True)) == [
        ("我想去", "zh"),
        ("shopping，", "en"),
        ("okay", "en"),
        ("嗎？", "zh"),
        ("(ppl)", "und"),
        ("<v-noise>", "und"),
        ("3", "und"),
        ("D", "en"),
        ("[lah]", "und"),
        ("п", "und"),
    ]
    # The parts of the normalised transcript carry the tags, so that scores by language take them.
    runs = normalised_runs(text, Text(tags="drop"), "zh", tokens, tags)
    assert runs[:4] == [("zh", "我想去"), ("en", "shopping"), ("en", "okay"), ("zh", "嗎")]


def test_marks_belong_to_the_word_that_they_are_written_on():
    tokens, tags = tokens_by_script("तो function को क्लिक करें, don't", ("hi", "en"))
    assert tags == ["hi", "en", "hi", "hi", "hi", "en"] and tokens[3] == "क्लिक" and tokens[5] == "don't"


# ------------------------------------------------------------------------------------------------ SEAME


def seame(folder: Path) -> Path:
    recording(folder / "data" / "conversation" / "audio" / "01NC01FBX_0101.flac", seconds=10)
    recording(folder / "data" / "interview" / "audio" / "NI01MAX_0101.flac", seconds=10)
    write(
        folder / "data" / "conversation" / "transcript" / "phaseII" / "01NC01FBX_0101.txt",
        "01NC01FBX_0101\t500\t2000\tCS\t然后 then (ppl) 我 go there [lah] [啊] #nasi-lemak#",
        "01NC01FBX_0101\t2000\t3500\tEN\tcan or not <v-noise>",
        "01NC01FBX_0101\t3500\t5005\tZH\t<unk> 不要",
        "01NC01FBX_0101\t6000\t7000\tXX\twhat",
        "01NC01FBX_0101\t7000",
    )
    write(
        folder / "data" / "conversation" / "transcript" / "phaseI" / "01NC01FBX_0101.txt",
        "01NC01FBX_0101\t500\t2000\t然后 then",
    )
    write(
        folder / "data" / "interview" / "transcript" / "phaseII" / "NI01MAX_0101.txt",
        "NI01MAX_0101\t100\t1600\tCS\tso 我们 的",
    )
    return folder


def test_seame_is_read_in_milliseconds_with_fillers_and_languages(tmp_path):
    found = reading("seame", seame(tmp_path))
    rows = {row["utterance_id"]: row for row in found.rows["train"]}
    assert list(rows) == [
        "01NC01FBX_0101-000050-000200",
        "01NC01FBX_0101-000200-000350",
        "01NC01FBX_0101-000350-000500",
        "NI01MAX_0101-000010-000160",
    ]
    first, english, mandarin, interview = rows.values()
    assert first["text"] == "然后 then (ppl) 我 go there lah 啊 #nasi-lemak#" and first["language"] == "zh"
    assert (first["offset_s"], first["duration_s"]) == (0.5, 1.5)
    assert tags_of(first) == [
        ("然后", "zh"), ("then", "en"), ("(ppl)", "und"), ("我", "zh"), ("go", "en"), ("there", "en"),
        ("lah", "en"), ("啊", "zh"), ("#nasi-lemak#", "und")
    ]  # fmt: skip
    assert normalise(first["text"], Text(tags="drop"), "zh") == "然后 then 我 go there lah 啊 nasi lemak"
    assert english["language"] == "en" and mandarin["language"] == "zh"
    assert (first["speaker"], interview["speaker"]) == ("NC01FB", "NI01MA")
    assert reasons(found.rejects["train"]) == [
        "language 'XX' in 01NC01FBX_0101.txt",
        "not a segment with times and text in 01NC01FBX_0101.txt",
    ]
    assert [entry.text for entry in entries("seame", tmp_path, phase="phaseI")][0] == "然后 then"


def test_seame_is_read_from_its_two_discs(tmp_path):
    seame(tmp_path)
    for disc, style in (("seame_d1", "conversation"), ("seame_d2", "interview")):
        (tmp_path / "LDC2015S04" / disc / "data").mkdir(parents=True)
        (tmp_path / "data" / style).rename(tmp_path / "LDC2015S04" / disc / "data" / style)
    found = reading("seame", tmp_path)
    assert {row["speaker"] for row in found.rows["train"]} == {"NC01FB", "NI01MA"}


def test_seames_published_lists_make_its_splits(tmp_path):
    seame(tmp_path / "LDC2015S04")
    lists = tmp_path / "SEAME-dev-set"
    write(lists / "train" / "wav_file.txt", "/x/conversation/01nc01fbx_0101/01nc01fbx_0101.wav")
    write(lists / "dev_man" / "text", "nc01fb-01nc01fbx_0101-00201-00349 can or not")  # rounded otherwise
    write(lists / "dev_sge" / "text", "nc01fb-01nc01fbx_0101-00350-00500 <unk> 不要")
    found = reading("seame", tmp_path / "LDC2015S04", lists=str(lists))
    assert [row["text"] for row in found.rows["test"]] == ["can or not <v-noise>"]
    assert [row["utterance_id"] for row in found.rows["train"]] == ["01NC01FBX_0101-000050-000200"]
    everything = {"train": "train", "dev_man": "test", "dev_sge": "test", "other": "dev"}
    more = reading("seame", tmp_path / "LDC2015S04", lists=str(lists), splits=everything)
    assert [row["speaker"] for row in more.rows["dev"]] == ["NI01MA"] and len(more.rows["test"]) == 2
    with pytest.raises(CorpusError, match="train/wav_file.txt: no such file; set `lists`"):
        entries("seame", tmp_path / "LDC2015S04", lists=str(tmp_path))


# ------------------------------------------------------------------------------------------------ ASCEND, TALCS


def test_ascend_is_read_by_its_tables_and_tagged(tmp_path):
    header = "file_name,transcription,duration,language,original_speaker_id,session_id,topic"
    clip = "waves/ses1_spk17_L3823_15.3200_0.7810.wav"
    recording(tmp_path / clip, seconds=0.8)
    write(tmp_path / "train_metadata.csv", header, f'{clip},"好的, okay [UNK]",0.781,mixed,17,1,persona')
    write(tmp_path / "validation_metadata.csv", header, f"{clip},yes,0.781,en,18,1,persona")
    write(tmp_path / "test_metadata.csv", header, f"{clip},嗯,0.781,zh,19,1,sports")
    write(tmp_path / "speakers.csv", "id,age", "17,20")
    found = entries("ascend", tmp_path)
    by_split = {entry.split: entry for entry in found}
    assert tags_of(by_split["train"]) == [("好的,", "zh"), ("okay", "en"), ("[UNK]", "und")]
    assert [by_split[split].language for split in ("train", "dev", "test")] == ["zh", "en", "zh"]
    assert by_split["dev"].speaker == "18" and by_split["dev"].utterance_id == "ses1_spk17_L3823_15.3200_0.7810"
    (tmp_path / "waves").rename(tmp_path / "gone")
    write(tmp_path / "waves.tar.bz2", "x")
    with pytest.raises(CorpusError, match='waves: no such folder; unpack it: tar xf ".*waves.tar.bz2"'):
        reader_of("ascend", tmp_path)


def test_talcs_is_read_with_equal_names_kept_apart_by_split(tmp_path):
    root = tmp_path / "TALCS_corpus"
    recording(root / "train_set" / "wav" / "210_1.wav")
    recording(root / "train_set" / "wav" / "210_2.wav")
    recording(root / "dev_set" / "wav" / "20190529" / "7.wav")
    recording(root / "test_set" / "wav" / "8.wav")
    write(root / "train_set" / "label.txt", "210_1 上面 是 HE IS ALWAYS FINISHIＮG", "210_3 没有")
    write(root / "dev_set" / "label.txt", "7 好 YES")
    write(root / "test_set" / "label.txt", "8 NO")
    found = reading("talcs", tmp_path)
    (row,) = found.rows["train"]
    assert row["text"] == "上面 是 HE IS ALWAYS FINISHIＮG" and row["token_languages"] == ["zh", "zh"] + ["en"] * 4
    assert row["speaker"] is None and len(found.rows["dev"]) == len(found.rows["test"]) == 1
    assert reasons(found.rejects["train"]) == ["audio file not found", "no transcript: label.txt does not name it"]


# ------------------------------------------------------------------------------------------------ MUCS, ArzEn


def mucs(folder: Path, split: str, recording_id: str, speaker: str, *segments: str) -> None:
    recording(folder / split / f"{recording_id}.wav", seconds=6)
    inner = folder / split / "transcripts"
    write(inner / "wav.scp", f"{recording_id} {recording_id}.wav", f"{recording_id}x {recording_id}x.wav")
    write(inner / "segments", *segments)
    names = [line.split()[0] for line in segments]
    texts = ["अब हम file को click करेंगे", "तो two thousand और", "ठीक है", "audio नहीं", "छोटा"]
    write(inner / "text", *(f"{name} {text}" for name, text in zip(names, texts, strict=False)))
    write(inner / "utt2spk", *(f"{name} {speaker}" for name in names))
    write(inner / "spk2utt", f"{speaker} {' '.join(names)}")


def test_mucs_segments_of_lectures_are_found_beside_their_kaldi_files(tmp_path):
    root = tmp_path / "Hindi-English"
    quirks = ("u3 072Wvm62 3.0 2.5", "u4 072Wvm62x 0.0 1.0", "u5 072Wvm62 7.0 8.0")
    mucs(root, "train", "072Wvm62", "103085", "u1 072Wvm62 0.25 1.75", "u2 072Wvm62 1.75 3.0", *quirks)
    mucs(root, "test", "0CVZP4Ty", "103090", "v1 0CVZP4Ty 0.5 2.0")
    mucs(tmp_path / "Bengali-English", "train", "abc", "1", "b1 abc 0 1")
    found = reading("mucs", tmp_path, language="hi")
    first, second = found.rows["train"]
    assert (first["utterance_id"], first["offset_s"], first["duration_s"]) == ("u1", 0.25, 1.5)
    assert tags_of(first) == [
        ("अब", "hi"), ("हम", "hi"), ("file", "en"), ("को", "hi"), ("click", "en"), ("करेंगे", "hi")
    ]  # fmt: skip
    assert first["speaker"] == "103085" and first["language"] == "hi" and second["token_languages"][1:3] == ["en", "en"]
    assert first["audio_path"].endswith("Hindi-English/train/072Wvm62.wav")
    assert reasons(found.rejects["train"]) == [
        "malformed segment: begins at 3 s and ends at 2.5 s",
        "audio file not found",
        "outside the audio: begins at 7.00 s of 6.00 s",
    ]
    assert [row["utterance_id"] for row in found.rows["test"]] == ["v1"]
    assert {Path(path).name for path in reader_of("mucs", root, language="hi").inputs()} == {
        "wav.scp", "segments", "text", "utt2spk"
    }  # fmt: skip


def test_arzens_ids_hold_speakers_recordings_and_times(tmp_path):
    recording(tmp_path / "recordings" / "C03-R04.wav", seconds=4).rename(tmp_path / "recordings" / "C03-R04.WAV")
    recording(tmp_path / "recordings" / "C01-R01.wav", seconds=4)
    write(
        tmp_path / "ASR_files" / "text",
        "S04-C03-R04_000050-000200 انا كنت في ال meeting [HES]",
        "S04-C03-R04_000200-000350 yeah طبعا",
        "S01-C01-R01_000000-000100 okay",
        "S01-C01-R01 no times",
        "S01-C09-R01_000000-000100 okay",
    )
    drawn = reading("arzen", tmp_path)
    first = drawn.rows["train"][0]
    assert (first["speaker"], first["offset_s"], first["duration_s"]) == ("S04", 0.5, 1.5)
    assert tags_of(first)[-2:] == [("meeting", "en"), ("[HES]", "und")] and first["token_languages"][:4] == ["arz"] * 4
    assert reasons(drawn.rejects["train"]) == ["no speaker, recording and times in the id", "audio file not found"]
    write(tmp_path / "splits" / "train", "C03-R04")
    write(tmp_path / "splits" / "test", "C01-R01")
    listed = reading("arzen", tmp_path)
    assert len(listed.rows["train"]) == 2 and [row["speaker"] for row in listed.rows["test"]] == ["S01"]
    assert "in no list of splits/" in reasons(sum(listed.rejects.values(), []))


# ------------------------------------------------------------------------------------------------ CHAT

CHAT = [
    "@UTF8",
    "@PID:\t11312/c-00000000-1",
    "@Begin",
    "@Languages:\teng, spa",
    "@Participants:\tPAI Paige Adult, SAR Sarah Adult, OSE Someone Unidentified",
    "@Options:\tbullets",
    "@ID:\teng|Miami|PAI|||||Adult|||",
    "@Media:\therring1, audio",
    "@Comment:\tUntagged words are English except in an utterance headed [- spa]",
    "*PAI:\tyeah@s:eng&spa I told her que@s:spa no@s:eng&spa . \x15500_2000\x15",
    "%eng:\tyeah I told her that no",
    "*SAR:\t[- spa] <no lle(gó)> [///] no [/] no se apareció en el trial@s:eng . \x152000_3500\x15",
    "*PAI:\t&=laughs +< xxx . \x153500_3900\x15",
    "*SAR:\tand then &uh I (.) went",
    "\thome (be)cause Mike_Smith was parquea(ndo)@s:eng+spa [=! laughs] +... \x154000_5500\x15",
    '*PAI:\t+" o_k , so m:hm xxx sí@s . \x155500_7000\x15',
    "*OSE:\tno time here .",
    "*OSE:\twww . \x157000_7400\x15",
    "@End",
]


def test_chat_is_read_with_times_in_bullets_and_the_language_of_every_word(tmp_path):
    write(tmp_path / "beta" / "herring1.cha", *CHAT)
    recording(tmp_path / "audio" / "herring1.mp3", seconds=8, rate=32000)
    found = reading("chat", tmp_path)
    rows = found.rows["train"]
    assert [row["text"] for row in rows] == [
        "yeah I told her que no .",
        "no llegó no no se apareció en el trial .",
        "and then I went home because Mike Smith was parqueando",
        "ok , so mhm <xxx> sí .",
    ]
    assert tags_of(rows[0]) == [
        ("yeah", "und"), ("I", "en"), ("told", "en"), ("her", "en"), ("que", "es"), ("no", "und"), (".", "zxx")
    ]  # fmt: skip
    assert rows[1]["language"] == "es" and rows[1]["token_languages"] == ["es"] * 8 + ["en", "zxx"]
    assert rows[2]["token_languages"][-1] == "mul" and tags_of(rows[3])[-2] == ("sí", "es")
    assert (rows[1]["offset_s"], rows[1]["duration_s"], rows[1]["speaker"]) == (2.0, 1.5, "herring1-SAR")
    assert normalise(rows[3]["text"], Text(tags="drop"), "en") == "ok so mhm sí"
    assert reasons(found.rejects["train"]) == ["no words", "no time in herring1.cha", "not transcribed: www"]


def test_chat_marks_that_are_no_words_go_and_repetitions_are_written_out():
    line = "<I want> [x 2] &-um &~ga &+fr 0is the [: tha] dog@o (1.5) “yes” ‡ no [x 3] 0 +//. \x151_2\x15"
    words = list(tagged_words(line, "en", "es"))
    assert [word for word, _ in words] == ["I", "want", "I", "want", "um", "the", "dog", "yes", "no", "no", "no"]
    assert {tag for _, tag in words} == {"en"}


def test_a_transcript_without_a_recording_or_of_another_format_is_said(tmp_path):
    write(tmp_path / "zeledon6.cha", *CHAT)
    write(tmp_path / "broken.cha", "not a transcript")
    found = entries("chat", tmp_path)
    assert [entry.reason for entry in found] == [
        "not a CHAT transcript: broken.cha is damaged or was cut short: it is not between one @Begin and one @End",
        *["no recording: none, or several, have the name of zeledon6.cha"] * 7,
    ]


def test_equal_names_of_transcripts_in_two_folders_are_two_conversations(tmp_path):
    for folder in ("eng", "spa"):
        write(tmp_path / folder / "talk1.cha", *CHAT)
        recording(tmp_path / folder / "talk1.wav", seconds=8)
    found = reading("chat", tmp_path)
    assert len({row["utterance_id"] for row in found.rows["train"]}) == 8
    assert {row["speaker"] for row in found.rows["train"]} == {
        f"{folder}/talk1-{code}" for folder in ("eng", "spa") for code in ("PAI", "SAR")
    }


# ------------------------------------------------------------------------------------------------ CS-FLEURS, Killkan


def test_cs_fleurs_marks_of_the_second_language_become_tags(tmp_path):
    def rows(part: str, *given: dict) -> None:
        for row in given:
            recording(tmp_path / part / row["file_name"])
        write(tmp_path / part / "metadata.jsonl", *map(json.dumps, given))

    rows(
        "xtts/train",
        {"id": "1", "file_name": "audio/cs_spa_eng/1.wav", "text": "El **weather is** bueno", "language": "spa-eng"},
        {"id": "2", "file_name": "audio/cs_hin_eng/1.wav", "text": "यह **good** है", "language": "hin-eng"},
    )
    rows(
        "read/test",
        {"id": "1759", "file_name": "audio/hin/hin_1759_CC.wav", "text": "मैं office गया", "language": "hin-eng",
         "speaker": "s1", "fluency": "5", "duration": 0.5},
        {"id": "1", "file_name": "audio/spa/1.wav", "text": "voy al office", "language": "spa-eng", "speaker": "s2"},
    )  # fmt: skip
    rows("mms/test", {"id": "9", "file_name": "audio/x/9.wav", "text": "x", "language": "hin-eng"})
    found = reading("cs_fleurs", tmp_path, pair="hin-eng")
    assert tags_of(found.rows["train"][0]) == [("यह", "hi"), ("good", "en"), ("है", "hi")]
    assert found.rows["train"][0]["text"] == "यह good है"
    assert tags_of(found.rows["test"][0]) == [("मैं", "hi"), ("office", "en"), ("गया", "hi")]
    assert found.rows["test"][0]["speaker"] == "s1" and found.rows["test"][0]["language"] == "hi"
    spanish = reading("cs_fleurs", tmp_path, pair="spa-eng")
    assert tags_of(spanish.rows["train"][0]) == [("El", "es"), ("weather", "en"), ("is", "en"), ("bueno", "es")]
    assert spanish.rows["test"][0]["tokens"] is None  # no marks, and one script: left to the workflow
    with pytest.raises(CorpusError, match="no utterance of deu-eng; there are hin-eng, spa-eng"):
        entries("cs_fleurs", tmp_path, pair="deu-eng")


TREEBANK = """\
# sent_id = 1_0
# sent = Ari, Jaboneropak ayllullaktapi
# trans = Sí, en el Barrio del Jabonero
# start = 500
# end = 2000
1\tAri\tari\tINTJ\t_\t_\t3\tdiscourse\t_\tCSID=KC|Lang=qu|SpaceAfter=No
2\t,\t,\tPUNCT\t_\t_\t1\tpunct\t_\tCSID=OTHER
3\tJaboneropak\tJabonero\tPROPN\t_\tCase=Gen\t4\tnmod\t_\tCSID=MIXED|CSPoint=Jabonero§pak|Lang=qqe
4\tayllullaktapi \tayllullakta\tNOUN\t_\tCase=Loc\t0\troot\t_\tCSID=KC|Lang=qu

# sent_id = 1_1
# sent = Shuk capítulo
# start = 2000
# end = 3250
1\tShuk\tshuk\tNUM\t_\t_\t2\tnummod\t_\tCSID=KC|Lang=qu
2-3\tcapítulo\t_\t_\t_\t_\t_\t_\t_\tCSID=ES|Lang=es
2\tcapí\tcapítulo\tNOUN\t_\t_\t0\troot\t_\t_
3\ttulo\tcapítulo\tNOUN\t_\t_\t2\tflat\t_\t_

# sent_id = 2_0
# sent = Mana
# start = 0
# end = 500
1\tMana\tmana\tPART\t_\t_\t0\troot\t_\tCISD=OTHER|CSID=KC|Lang=qu

# sent_id = 2_1
# sent = Ñami
1\tÑami\tña\tADV\t_\t_\t0\troot\t_\tCSID=KC

# sent_id = 2_2
one column
"""


def test_killkans_tags_times_and_chapters_are_read_from_the_treebank(tmp_path):
    write(tmp_path / "kc_killkan-ud-test.conllu", *TREEBANK.splitlines())
    recording(tmp_path / "Chapter1" / "01 MASTER K1.wav", seconds=5)
    recording(tmp_path / "Chapter2" / "1" / "02 MASTER K21.wav", seconds=0.5)  # single sentences, counted from 1
    found = reading("killkan", tmp_path)
    first, second, third = found.rows["train"]
    assert first["text"] == "Ari, Jaboneropak ayllullaktapi" and first["speaker"] == "chapter1"
    assert tags_of(first) == [("Ari", "qu"), (",", "zxx"), ("Jaboneropak", "mul"), ("ayllullaktapi", "qu")]
    assert (first["offset_s"], first["duration_s"]) == (0.5, 1.5)
    assert tags_of(second) == [("Shuk", "qu"), ("capítulo", "es")]
    assert third["audio_path"].endswith("Chapter2/1/02 MASTER K21.wav") and third["offset_s"] == 0.0
    assert reasons(found.rejects["train"])[0] == "no chapter and times"
    assert reasons(found.rejects["train"])[1].startswith("not CoNLL-U: ")


def test_killkans_elan_files_are_read_where_there_is_no_treebank(tmp_path):
    sentences = [
        Sentence(500, 2000, "Ari, tamalkuta", [("Ari", ""), (",", "CSID=OTHER"), ("tamalkuta", "CSID=MIXED|Lang=qqe")]),
        Sentence(2000, 3250, "Shuk capítulo", [("Shuk", "SpaceAfter=No"), ("capítulo", "Lang=es|CSID=ES")]),
    ]
    write_chapter(tmp_path / "Chapter12" / "Chapter12.eaf", sentences)
    recording(tmp_path / "Chapter12" / "12 MASTER K12.wav", seconds=4)
    first, second = reading("killkan", tmp_path).rows["train"]
    assert tags_of(first) == [("Ari", "qu"), (",", "zxx"), ("tamalkuta", "mul")]
    assert tags_of(second) == [("Shuk", "qu"), ("capítulo", "es")]
    assert (first["utterance_id"], first["offset_s"], first["duration_s"]) == ("12_0", 0.5, 1.5)
    assert first["speaker"] == "chapter12" and first["text"] == "Ari, tamalkuta"
    write(tmp_path / "Chapter12" / "Chapter12.eaf", '<!DOCTYPE x [<!ENTITY a "b">]>', "<ANNOTATION_DOCUMENT/>")
    with pytest.raises(CorpusError, match="Chapter12.eaf: declares a document type or entities"):
        entries("killkan", tmp_path)


def test_no_reader_reads_audio_to_name_utterances(tmp_path, monkeypatch):
    """Readers name audio; they never open it. All of it is damaged here, and the utterances are the same."""
    seame(tmp_path)
    before = entries("seame", tmp_path)
    for path in tmp_path.rglob("*.flac"):
        path.write_bytes(np.random.default_rng(0).bytes(100))
    assert entries("seame", tmp_path) == before and any(isinstance(entry, Utterance) for entry in before)
