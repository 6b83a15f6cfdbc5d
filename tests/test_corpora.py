"""Reading corpora: every row is used or rejected with a reason, and a corpus that cannot be read is named."""

import logging
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from headstart.audio import recordings
from headstart.audio.recordings import Recording
from headstart.corpora import lengths
from headstart.corpora import reading as corpus_reading
from headstart.corpora.columns import Columns
from headstart.corpora.manifests import FEATURES, MANIFEST, REJECTS, read_table, write_table
from headstart.corpora.overview import describe
from headstart.corpora.reader import CorpusError
from headstart.corpora.readers.table import FolderCorpus, TableReader
from headstart.corpora.reading import Reading, audio_stats, read_corpus, read_utterances
from headstart.study.fields import SPLITS
from headstart.study.text import Text
from headstart.text.normalisation import normalise

KICHWA = Path(__file__).parents[2] / "shared" / "data" / "kichwa_spanish"
SPLIT = Columns(split="split")


def write_audio(path: Path, seconds: float = 0.5, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).standard_normal(int(seconds * rate))
    soundfile.write(path, 0.1 * samples, rate, subtype="PCM_16")


def write_corpus(folder: Path, header: str, *lines: str, table: str = "metadata.tsv", start: str = "") -> None:
    """A corpus folder: a table of `header` and `lines` as they are, and a good clip `a.wav` ... `z.wav`."""
    for letter in "abcdefghijklmnopqrstuvwxyz":
        write_audio(folder / f"{letter}.wav")
    (folder / table).write_text(start + "\n".join([header, *lines]) + "\n", encoding="utf-8")


def folder_corpus(folder: Path, **settings) -> FolderCorpus:
    return FolderCorpus(**{"reader": "folder", "path": str(folder), "language": "qu", **settings})


def read_folder(corpus: FolderCorpus) -> Reading:
    return read_utterances(TableReader(corpus))


def test_a_tsv_becomes_a_manifest_a_split(tmp_path):
    write_corpus(
        tmp_path,
        "id\tpath\tsplit\ttext",
        'one\ta.wav\ttrain\t"Hello", he said',
        "two\tb.wav\tdev\t\"open, and 'more'",
        "three\tc.wav\ttest\tlast",
    )
    rows = read_folder(folder_corpus(tmp_path, columns=SPLIT)).rows
    assert [rows[split][0]["utterance_id"] for split in ("train", "dev", "test")] == ["one", "two", "three"]
    assert rows["train"][0] == {
        "utterance_id": "one",
        "audio_path": str(tmp_path / "a.wav"),
        "offset_s": 0.0,
        "duration_s": 0.5,
        "speaker": None,
        "language": "qu",
        "text": '"Hello", he said',
        "tokens": None,
        "token_languages": None,
        "phonemes": None,
    }
    assert rows["dev"][0]["text"] == "\"open, and 'more'"


def test_a_csv_may_have_quoted_commas_a_byte_order_mark_and_names_of_its_own(tmp_path):
    write_corpus(
        tmp_path,
        "Datei,Satz,Sprecher,Sprache,Teil",
        'a.wav,"Ja, gut, ""sehr"" gut",anna,de-AT,training',
        "b.wav,Nein,ben,,validation",
        "c.wav,Kaputt,ben,,kaputt",
        table="liste.csv",
        start="\ufeff",
    )
    columns = Columns(
        audio="Datei", utterance_id=None, text="Satz", speaker="Sprecher", language="Sprache", split="Teil"
    )
    splits = {"training": "train", "validation": "dev", "kaputt": None}
    corpus = folder_corpus(tmp_path, table="liste.csv", columns=columns, splits=splits, language="de", test_share=0.0)
    reading = read_folder(corpus)
    first, second = reading.rows["train"][0], reading.rows["dev"][0]
    assert (first["utterance_id"], first["text"]) == ("a", 'Ja, gut, "sehr" gut')
    assert (first["speaker"], first["language"], second["language"]) == ("anna", "de-AT", "de")
    assert sum(map(len, reading.rows.values())) == 2 and not any(reading.rejects.values())  # null leaves a split out


def drawn(folder: Path, lines: list[str], **settings) -> dict[str, str]:
    """utterance -> the split that is drawn for it. Each utterance has a recording of its own."""
    for line in lines:
        name = line.partition("\t")[0]
        if not (folder / f"{name}.wav").exists():
            os.link(folder / "a.wav", folder / f"{name}.wav")
    lines = [line.replace("\ta.wav\t", f"\t{line.partition(chr(9))[0]}.wav\t") for line in lines]
    (folder / "metadata.tsv").write_text("\n".join(["id\tpath\tspeaker\ttext", *lines]) + "\n")
    corpus = folder_corpus(folder, dev_share=0.25, test_share=0.25, **settings)
    return {row["utterance_id"]: split for split, rows in read_folder(corpus).rows.items() for row in rows}


def test_drawn_splits_keep_speakers_and_sentences_whole_and_do_not_move_when_rows_are_added(tmp_path):
    write_audio(tmp_path / "a.wav")
    lines = [f"u{i}\ta.wav\tspeaker{i % 40}\tsentence {i % 60}" for i in range(120)]
    more = [f"v{i}\ta.wav\tspeaker{i}\tsentence {i}" for i in range(50)] + lines[::-1]
    for key, columns in ((40, Columns(speaker="speaker")), (60, Columns())):
        before, after = drawn(tmp_path, lines, columns=columns), drawn(tmp_path, more, columns=columns)
        assert {name: after[name] for name in before} == before
        groups = {split: {int(n[1:]) % key for n, s in before.items() if s == split} for split in before.values()}
        assert sorted(groups) == ["dev", "test", "train"]
        assert sum(map(len, groups.values())) == key  # no speaker, or sentence, is in two splits
        assert 0.1 * key < len(groups["test"]) < 0.4 * key and 0.1 * key < len(groups["dev"]) < 0.4 * key


def test_a_split_that_the_table_lacks_is_drawn_from_the_training_speakers(tmp_path):
    for i in range(120):
        write_audio(tmp_path / f"u{i}.wav", 0.25)
    lines = [f"u{i}\tu{i}.wav\tspeaker{i % 40}\t{'dev' if i % 40 < 10 else 'train'}\tx" for i in range(120)]
    (tmp_path / "metadata.tsv").write_text("\n".join(["id\tpath\tspeaker\tsplit\ttext", *lines]))
    columns = Columns(split="split", speaker="speaker")
    splits = {"train": "train", "dev": "dev"}
    rows = read_folder(folder_corpus(tmp_path, columns=columns, splits=splits, test_share=0.25)).rows
    speakers = {split: {int(row["speaker"].removeprefix("speaker")) for row in rows[split]} for split in rows}
    assert speakers["dev"] == set(range(10))  # as in the table
    assert speakers["test"] | speakers["train"] == set(range(10, 40))
    assert not speakers["test"] & speakers["train"] and 2 < len(speakers["test"]) < 15


def test_shares_of_zero_leave_everything_to_training(tmp_path):
    write_corpus(tmp_path, "id\tpath\ttext", "1\ta.wav\tx", "2\tb.wav\ty")
    reading = read_folder(folder_corpus(tmp_path, dev_share=0.0, test_share=0.0))
    assert len(reading.rows["train"]) == 2


def test_a_missing_folder_or_table_is_named_with_what_is_near(tmp_path):
    with pytest.raises(CorpusError, match="nowhere: no such corpus folder.*path"):
        read_folder(folder_corpus(tmp_path / "nowhere"))
    write_corpus(tmp_path, "id\tpath\ttext", "1\ta.wav\tx", table="metadata.tsv")
    with pytest.raises(CorpusError, match="metdata.tsv: no such table.*'metadata.tsv'"):
        read_folder(folder_corpus(tmp_path, table="metdata.tsv"))


def test_missing_columns_are_all_named_with_what_is_near(tmp_path):
    write_corpus(tmp_path, "id\tpath\tsentence\tsplitt", "1\ta.wav\tx\ttrain")
    columns = Columns(text="sentense", split="split")
    with pytest.raises(CorpusError) as caught:
        read_folder(folder_corpus(tmp_path, columns=columns))
    assert "columns.text: the table has no column 'sentense' (nearest valid: 'sentence')" in str(caught.value)
    assert "columns.split: the table has no column 'split' (nearest valid: 'splitt')" in str(caught.value)


def test_an_unknown_split_is_named_with_its_line(tmp_path):
    write_corpus(tmp_path, "id\tpath\tsplit\ttext", "1\ta.wav\ttrain\tx", "2\tb.wav\ttrian\ty")
    with pytest.raises(CorpusError, match="line 3: split 'trian'.*'train'.*null"):
        read_folder(folder_corpus(tmp_path, columns=SPLIT))


def test_a_table_in_another_encoding_is_refused(tmp_path):
    write_corpus(tmp_path, "id\tpath\ttext")
    (tmp_path / "metadata.tsv").write_bytes("id\tpath\ttext\n1\ta.wav\tfüße\n".encode("latin-1"))
    with pytest.raises(CorpusError, match="metadata.tsv: not UTF-8"):
        read_folder(folder_corpus(tmp_path))


BAD_ROWS = {
    "missing\tnone.wav\ttrain\tx\tx\tKC": "audio file not found",
    "noaudio\t\ttrain\tx\tx\tKC": "no audio file named",
    "broken\tbroken.wav\ttrain\tx\tx\tKC": "undecodable audio: .+",
    "silent\tb.wav\ttrain\t  \t\t": "empty transcript",
    "\tb.wav\ttrain\tx\tx\tKC": "empty id",
    "good\tb.wav\ttrain\ty\ty\tKC": "duplicate id: already used in line 2",
    "tags\tb.wav\ttrain\tx y\tx y\tKC": "token tags do not match: 2 tokens, 1 tags",
    "blip\tblip.wav\ttrain\tx\tx\tKC": r"too short: 0\.10 s, min_seconds is 0\.2",
    "endless\tlong.wav\tdev\tx\tx\tKC": r"too long: 2\.5 s, max_seconds is 2",
}


def test_a_row_that_cannot_be_used_is_rejected_with_its_line_and_reason_and_the_rest_is_kept(tmp_path):
    last = "other\tc.wav\ttest\tz z\tz z\tKC ES"
    write_corpus(tmp_path, "id\tpath\tsplit\ttext\ttokens\ttags", "good\ta.wav\ttrain\ta\ta\tKC", *BAD_ROWS, last)
    (tmp_path / "broken.wav").write_bytes(b"RIFF this is no audio at all")
    write_audio(tmp_path / "blip.wav", 0.1)
    write_audio(tmp_path / "long.wav", 2.5)
    columns = Columns(split="split", tokens="tokens", token_languages="tags")
    corpus = folder_corpus(tmp_path, columns=columns, max_seconds=2.0, token_tags={"KC": "qu", "ES": "es"})
    paths = {split: (str(tmp_path / f"{split}.m"), str(tmp_path / f"{split}.r")) for split in ("train", "dev", "test")}
    read_corpus(TableReader(corpus), paths)
    rejects = [row for _, path in paths.values() for row in read_table(path, REJECTS)]
    by_line = {row["row"]: row for row in rejects}
    assert sorted(by_line) == list(range(3, 3 + len(BAD_ROWS)))  # line 1 is the header, line 2 a good row
    for number, (line, reason) in enumerate(BAD_ROWS.items(), start=3):
        assert re.fullmatch(reason, by_line[number]["reason"]), (line, by_line[number]["reason"])
        assert (by_line[number]["utterance_id"] or "") == line.split("\t")[0]
    kept = {split: read_table(path, MANIFEST) for split, (path, _) in paths.items()}
    assert [row["utterance_id"] for row in kept["train"]] == ["good"]
    assert kept["dev"] == [] and [row["row"] for row in read_table(paths["dev"][1], REJECTS)] == [2 + len(BAD_ROWS)]
    assert kept["test"][0]["tokens"] == ["z", "z"] and kept["test"][0]["token_languages"] == ["qu", "es"]


def test_lines_of_another_length_than_the_header_are_rejected(tmp_path):
    write_corpus(tmp_path, "id\tpath\ttext", "1\ta.wav\tx\t", "2\tb.wav", "3", "4\td.wav\ty\tand\tmore")
    reading = read_folder(folder_corpus(tmp_path, dev_share=0.0, test_share=0.0))
    assert [row["utterance_id"] for row in reading.rows["train"]] == ["1"]
    rejects = [reject for rejects in reading.rejects.values() for reject in rejects]
    assert sorted((row["row"], row["reason"].split(":")[0]) for row in rejects) == [
        (3, "fewer cells than columns"),
        (4, "fewer cells than columns"),
        (5, "more cells than columns"),
    ]


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n"])
def test_a_line_break_in_a_sentence_rejects_every_part_of_its_row(tmp_path, line_break):
    write_corpus(tmp_path, "")
    first = ["id\tpath\tsplit\ttext", "1\ta.wav\tdev\tx", f"2\tb.wav\ttest\tone{line_break}two{line_break}", "  "]
    middle = [f"three{line_break}3\tc.wav\ttest\ty", "4\td.wav\ttrain\tz"]
    (tmp_path / "metadata.tsv").write_bytes("\n".join([*first, *middle]).encode())
    reading = read_folder(folder_corpus(tmp_path, columns=SPLIT))
    kept = {split: [row["utterance_id"] for row in rows] for split, rows in reading.rows.items()}
    # The row of `2` goes on in two more lines, each with a single cell; a blank line and one of spaces lie between.
    assert kept == {"train": ["4"], "dev": ["1"], "test": ["3"]}
    rejects = reading.rejects["test"]
    assert [(row["row"], row["utterance_id"]) for row in rejects] == [(3, "2"), (4, None), (rejects[2]["row"], None)]
    assert not reading.rejects["train"] and not reading.rejects["dev"]
    assert all(row["reason"].startswith("fewer cells than columns: ") for row in rejects)
    assert "goes on in line" not in rejects[1]["reason"] and "seems to go on in line 4" in rejects[0]["reason"]
    assert "1 of 4, probably a line break inside a cell" in rejects[1]["reason"]


def test_a_line_break_in_a_middle_column_rejects_both_parts_and_takes_no_split_from_them(tmp_path):
    write_corpus(
        tmp_path,
        "id\tpath\ttext\tspeaker\tsplit",
        "1\ta.wav\tx\tanna\ttrain",
        "2\tb.wav\tone",  # the rest of it has neither its text where texts are nor a split
        "two\tanna\tdev",
        "1\tc.wav\tthree\tanna\tdev\tone cell more",
        "5\te.wav\ty\tben\ttr",
        "ain",
        "5\tf.wav\tz\tben\ttest",  # a rejected row takes no id from another
    )
    reading = read_folder(folder_corpus(tmp_path, columns=Columns(split="split", speaker="speaker"), dev_share=0.0))
    assert [row["audio_path"][-5:] for rows in reading.rows.values() for row in rows] == ["a.wav", "f.wav"]
    rejects = {row["row"]: row["reason"].split(",")[0] for rows in reading.rejects.values() for row in rows}
    assert rejects == {
        3: "fewer cells than columns: 3 of 5",
        4: "fewer cells than columns: 3 of 5",
        5: "more cells than columns: ['one cell more']; quote a text that holds the separator",
        6: "fewer cells than columns: the row seems to go on in line 7",
        7: "fewer cells than columns: 1 of 5",
    }


def test_what_is_left_out_is_left_out_with_the_rest_of_its_row(tmp_path):
    lines = ["1\ta.wav\ttrain\tx", "2\tb.wav\tbad\tone", "two", "3\tc.wav\ttrain\ty"]
    write_corpus(tmp_path, "id\tpath\tsplit\ttext", *lines)
    splits = {"train": "train", "bad": None}
    reading = read_folder(folder_corpus(tmp_path, columns=SPLIT, splits=splits, dev_share=0.0, test_share=0.0))
    assert [row["utterance_id"] for row in reading.rows["train"]] == ["1", "3"]
    assert not any(reading.rejects.values())


def test_a_quoted_line_break_in_a_csv_is_whitespace_of_the_text(tmp_path):
    lines = ['1,a.wav,"one', 'two"', "2,b.wav,x"]
    write_corpus(tmp_path, "id,path,text", *lines, table="metadata.csv")
    reading = read_folder(folder_corpus(tmp_path, table="metadata.csv", dev_share=0.0, test_share=0.0))
    assert [row["text"].split() for row in reading.rows["train"]] == [["one", "two"], ["x"]]
    assert normalise(reading.rows["train"][0]["text"], Text(), "qu") == "one two"
    assert not any(reading.rejects.values())


@pytest.mark.parametrize("outside", ["../b.wav", "clips/../../b.wav", "{}/b.wav"])
def test_audio_outside_the_corpus_is_refused_unless_the_study_allows_it(tmp_path, outside):
    corpus = tmp_path / "corpus"
    write_audio(tmp_path / "b.wav")
    (corpus / "clips").mkdir(parents=True)
    lines = [f"1\t{corpus}/a.wav\tx", "2\t../corpus/c.wav\ty", f"3\t{outside.format(tmp_path)}\tz"]
    write_corpus(corpus, "id\tpath\ttext", *lines[:2])
    assert len(read_folder(folder_corpus(corpus, dev_share=0.0, test_share=0.0)).rows["train"]) == 2
    write_corpus(corpus, "id\tpath\ttext", *lines)
    with pytest.raises(CorpusError, match=r"metadata.tsv, line 4: '.*b.wav' lies outside .*`outside: true`"):
        read_folder(folder_corpus(corpus))
    for link, goal in {"link": tmp_path, "link.wav": tmp_path / "b.wav", "own.wav": corpus / "d.wav"}.items():
        (corpus / link).symlink_to(goal)
    for path in ("link/b.wav", "link.wav"):
        write_corpus(corpus, "id\tpath\ttext", *lines[:2], f"3\t{path}\tz")
        with pytest.raises(
            CorpusError, match=f"line 4: '{path}' is reached by a link that leads out of .*`outside: true`"
        ):
            read_folder(folder_corpus(corpus))
    write_corpus(corpus, "id\tpath\ttext", *lines[:2], "3\town.wav\tz")
    (tmp_path / "elsewhere").symlink_to(corpus)  # the corpus itself may be reached by a link
    for folder in (corpus, tmp_path / "elsewhere"):
        write_corpus(corpus, "id\tpath\ttext", f"1\t{folder}/a.wav\tx", "2\tb.wav\ty", "3\town.wav\tz")
        assert len(read_folder(folder_corpus(folder, dev_share=0.0, test_share=0.0)).rows["train"]) == 3
    write_corpus(corpus, "id\tpath\ttext", *lines)
    reading = read_folder(folder_corpus(corpus, outside=True, dev_share=0.0, test_share=0.0))
    assert len(reading.rows["train"]) == 3


def test_a_corpus_that_changes_while_it_is_read_is_not_taken_for_what_it_has_become(tmp_path, monkeypatch):
    """The manifests would be newer than the table, so that Snakemake would never read it again."""
    write_corpus(tmp_path / "corpus", "id\tpath\ttext", "1\ta.wav\tx", "2\tb.wav\ty")
    reader = TableReader(folder_corpus(tmp_path / "corpus", dev_share=0.0, test_share=0.0))
    paths = {split: (tmp_path / f"{split}.parquet", tmp_path / f"{split}.rejects.parquet") for split in SPLITS}
    read, table = corpus_reading.read_utterances, tmp_path / "corpus/metadata.tsv"

    def changing(*arguments):
        found = read(*arguments)
        table.write_text(table.read_text() + "3\tc.wav\tz\n")
        return found

    monkeypatch.setattr(corpus_reading, "read_utterances", changing)
    with pytest.raises(CorpusError, match="metadata.tsv: the corpus changed while it was read; run Snakemake again"):
        read_corpus(reader, paths)
    assert not list(tmp_path.glob("*.parquet"))
    monkeypatch.undo()
    assert len(read_corpus(TableReader(reader.settings), paths).rows["train"]) == 3


def test_the_state_of_the_audio_changes_with_every_file_and_with_nothing_else(tmp_path):
    write_corpus(tmp_path, "id\tpath\ttext", "1\ta.wav\tx", "2\tb.wav\ty", "3\tnone.wav\tz", f"4\t{'y' * 300}.wav\tz")
    corpus, states = folder_corpus(tmp_path), []

    def changed() -> bool:
        states.append(audio_stats(TableReader(corpus)))
        return states[-1] not in states[:-1]

    assert changed() and not changed()
    write_audio(tmp_path / "z.wav", 1.0)  # the table does not name it
    assert not changed()
    os.utime(tmp_path / "b.wav", ns=(0, 1))
    assert changed()
    write_audio(tmp_path / "b.wav", 1.0)
    os.utime(tmp_path / "b.wav", ns=(0, 1))
    assert changed()
    write_audio(tmp_path / "none.wav")
    assert changed()
    (tmp_path / "a.wav").unlink()
    assert changed()
    (tmp_path / "metadata.tsv").write_bytes(b"\xff")  # the job says what is wrong with it
    assert changed()


def test_a_csv_with_an_open_quote_is_refused_with_its_line(tmp_path):
    write_corpus(tmp_path, "id,path,text", '1,a.wav,"x', "2,b.wav,y", table="metadata.csv")
    with pytest.raises(CorpusError, match="quotes"):
        read_folder(folder_corpus(tmp_path, table="metadata.csv"))


def test_a_table_whose_split_column_has_no_dev_gives_some_of_train(tmp_path):
    lines = [f"{c}\t{c}.wav\tx\ts{c}\ttrain" for c in "abcdefghijklmnopqrstuvwxyz"]
    write_corpus(tmp_path, "id\tpath\ttext\tspeaker\tsplit", *lines)
    columns = {"speaker": "speaker", "split": "split"}
    reading = read_folder(folder_corpus(tmp_path, columns=columns, dev_share=0.3, test_share=0.3))
    assert all(reading.rows[split] for split in ("train", "dev", "test"))


def test_a_split_for_which_no_speaker_is_drawn_is_an_error_that_says_what_to_do(tmp_path):
    lines = [f"{c}\t{c}.wav\tx{c}\t{'anna' if c < 'n' else 'ben'}" for c in "abcdefghijklmnopqrstuvwxyz"]
    write_corpus(tmp_path, "id\tpath\ttext\tspeaker", *lines)
    by_speaker = {"columns": Columns(speaker="speaker"), "dev_share": 0.2, "test_share": 0.1}
    with pytest.raises(CorpusError, match="of its 2 speakers .*, none was drawn for dev.*dev_share: 0"):
        read_folder(folder_corpus(tmp_path, **by_speaker))
    assert read_folder(folder_corpus(tmp_path, **{**by_speaker, "dev_share": 0.0, "test_share": 0.0})).rows["train"]
    blank = [line.rsplit("\t", 1)[0] + "\t" for line in lines]  # then sentences are drawn
    write_corpus(tmp_path, "id\tpath\ttext\tspeaker", *blank)
    assert all(read_folder(folder_corpus(tmp_path, **by_speaker)).rows.values())


def test_a_path_that_no_file_can_have_rejects_its_row(tmp_path):
    write_corpus(tmp_path, "id\tpath\ttext", "1\ta.wav\tx", f"2\t{'y' * 300}.wav\ty")
    reading = read_folder(folder_corpus(tmp_path, dev_share=0.0, test_share=0.0))
    assert len(reading.rows["train"]) == 1
    assert [reject["reason"] for reject in reading.rejects["train"]] == ["audio file not found"]


def test_a_corpus_without_one_usable_row_says_why(tmp_path):
    write_corpus(tmp_path, "id\tpath\ttext", "1\tnone.wav\tx", "2\tnil.wav\ty", "3\ta.wav\t")
    with pytest.raises(CorpusError, match="no usable utterance .2 x audio file not found; 1 x empty transcript"):
        read_folder(folder_corpus(tmp_path))
    write_corpus(tmp_path, "id\tpath\ttext")
    (tmp_path / "metadata.tsv").write_text("")
    with pytest.raises(CorpusError, match="columns.audio"):
        read_folder(folder_corpus(tmp_path))


def test_an_unlabelled_corpus_needs_no_transcripts(tmp_path):
    write_corpus(tmp_path, "path", "a.wav", "b.wav", "c.wav")
    columns = Columns(utterance_id=None, text=None)
    reading = read_folder(folder_corpus(tmp_path, columns=columns, dev_share=0.0, test_share=0.0))
    assert [(row["utterance_id"], row["text"]) for row in reading.rows["train"]] == [
        ("a", None),
        ("b", None),
        ("c", None),
    ]
    assert reading.notes == ["dev: no utterance", "test: no utterance"]


def test_sentences_that_train_shares_with_dev_and_test_are_noted_in_the_log(tmp_path, caplog):
    lines = ["1\ta.wav\ttrain\tIma nishpa", "2\tb.wav\tdev\tima nishpa", "3\tc.wav\tdev\tmana", "4\td.wav\ttest\tari"]
    write_corpus(tmp_path, "id\tpath\tsplit\ttext", *lines)
    paths = {split: (str(tmp_path / f"{split}.m"), str(tmp_path / f"{split}.r")) for split in ("train", "dev", "test")}
    with caplog.at_level(logging.WARNING):
        read_corpus(TableReader(folder_corpus(tmp_path, columns=SPLIT)), paths)
    assert [record.getMessage() for record in caplog.records] == ["dev: 1 of 2 sentences also occur in train"]


def test_a_reading_that_was_stopped_goes_on_and_opens_what_has_changed_again(tmp_path, monkeypatch):
    lines = [f"{letter}\t{letter}.wav\ttrain\tx {letter}" for letter in "abcdefgh"]
    write_corpus(tmp_path / "mine", "id\tpath\tsplit\ttext", *lines, "i\tmissing.wav\ttrain\tx i")
    (tmp_path / "mine/c.wav").write_bytes(b"no audio")
    state, opened, stop = tmp_path / "state", [], True

    def describe_recording(path: str) -> Recording:
        if stop and path.endswith("f.wav"):
            raise KeyboardInterrupt
        opened.append(Path(path).stem)
        return recordings.describe_recording(path)

    monkeypatch.setattr(lengths, "describe_recording", describe_recording)

    def read(folder: str, *arguments) -> dict[str, bytes]:
        paths = {split: (str(tmp_path / folder / split), str(tmp_path / folder / f"{split}.r")) for split in SPLITS}
        corpus = folder_corpus(tmp_path / "mine", columns=SPLIT, dev_share=0.0, test_share=0.0)
        read_corpus(TableReader(corpus), paths, 0, *arguments)
        return {path: Path(path).read_bytes() for pair in paths.values() for path in pair}

    with pytest.raises(KeyboardInterrupt):
        read("a", state)
    assert opened == list("abcde")
    with (state / "recordings.jsonl").open("a") as journal:
        journal.write('["cut')  # as by a kill in the middle of a line
    write_audio(tmp_path / "mine/b.wav", 0.75)
    stop = False
    opened.clear()
    resumed = read("a", state)
    assert opened == ["b", "f", "g", "h", "missing"] and not list(state.glob("*.jsonl"))
    opened.clear()
    assert list(read("b").values()) == list(resumed.values()) and len(opened) == 9


def test_a_description_counts_utterances_hours_speakers_and_rejects(tmp_path):
    lines = [
        "1\ta.wav\ttrain\tx\tanna",
        "2\tb.wav\ttrain\ty\tben",
        "3\tc.wav\ttrain\tz\tanna",
        "4\td.wav\ttrain\t\tanna",
    ]
    write_corpus(tmp_path, "id\tpath\tsplit\ttext\tspeaker", *lines)
    manifest, rejects = tmp_path / "manifests/qu/train.parquet", tmp_path / "manifests/qu/train.rejects.parquet"
    columns = Columns(split="split", speaker="speaker")
    corpus = folder_corpus(tmp_path, columns=columns, dev_share=0.0, test_share=0.0)
    read_corpus(TableReader(corpus), {"train": (str(manifest), str(rejects))})
    expected = {"corpus": "qu", "split": "train", "utterances": 3, "speakers": 2, "rejected": 1, "leaks": {}}
    (row,) = describe([str(manifest)])
    assert {key: row[key] for key in expected} == expected and row["hours"] == pytest.approx(1.5 / 3600)


def test_what_a_split_shares_with_its_training_split_is_counted(make_clips, tmp_path):
    tone, noise = np.sin(np.arange(16000) / 20), np.random.default_rng(0).normal(size=16000) / 10
    for split, clips, texts in (
        ("train", [tone, noise], ["imanalla", "kawsay"]),
        ("test", [noise, tone[:9000], tone[:8000]], ["Imanalla", "wasi", None]),
    ):
        folder = tmp_path / split
        folder.mkdir()
        make_clips(folder, clips, texts)
        rows = read_table(folder / "a.parquet", FEATURES)
        write_table(tmp_path / "qu" / f"{split}.parquet", [{**row, "speaker": None} for row in rows], FEATURES)
    described = describe([str(tmp_path / "qu" / f"{split}.parquet") for split in ("train", "test")])
    assert [row["leaks"] for row in described] == [{}, {"same audio": 1, "sentences": 1}]
    # One after the other, the test clips are 1 s, 9000 and 8000 samples long.
    assert described[1]["lengths"]["classes"] | {"0 to 1 s": 2, "1 to 2 s": 1} == described[1]["lengths"]["classes"]
    assert described[1]["lengths"]["median"] == pytest.approx(9000 / 16000) and described[1]["languages"] == {"en": 3}
    rows = read_table(tmp_path / "qu" / "test.parquet", FEATURES)
    train = read_table(tmp_path / "qu" / "train.parquet", FEATURES)
    rows += [{**rows[0], "utterance_id": "again"}, {**rows[1], "audio_path": train[0]["audio_path"]}]
    write_table(tmp_path / "qu" / "test.parquet", rows, FEATURES)
    (row,) = describe([str(tmp_path / "qu" / "test.parquet")])
    assert row["duplicates"] == 2 and row["leaks"] == {"same audio": 2, "recordings": 1, "sentences": 2}


@pytest.mark.skipif(not KICHWA.is_dir(), reason="the Kichwa recordings are not beside the checkout")
def test_every_row_of_a_real_code_switched_corpus_is_accounted_for():
    columns = Columns(
        speaker="speaker", language="language", split="split", tokens="tokens", token_languages="token_languages"
    )
    tags = {"KC": "qu", "ES": "es", "MIXED": "mul", "LANG3": "und", "OTHER": "zxx"}
    reading = read_folder(folder_corpus(KICHWA, columns=columns, token_tags=tags))
    rows = [row for rows in reading.rows.values() for row in rows]
    rejects = [reject for rejects in reading.rejects.values() for reject in rejects]
    assert len(rows) + len(rejects) == 3528
    used = Counter(tag for row in rows for tag in row["token_languages"] or [])
    assert set(used) == set(tags.values()) and used["qu"] > used["es"] > 1000
    assert all(len(row["tokens"]) == len(row["token_languages"]) for row in rows if row["token_languages"])
    assert 3.4 < sum(row["duration_s"] for row in rows) / 3600 < 3.6
    assert any("also occur in train" in note for note in reading.notes)
