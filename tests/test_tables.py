"""Tables as spreadsheets and programs write them: read, or refused in words that say what to do."""

import gzip
import re
from pathlib import Path

import pytest
from miniature import entries, reading, recording, write

from headstart.corpora.reader import AudioReference, CorpusError, Reject
from headstart.corpora.text_files import read_text

LINES = ["id\tpath\ttext", "1\ta.wav\tñuka", "2\tb.wav\tari, mana"]


def corpus(folder: Path, *lines: str, table: str = "metadata.tsv", **form) -> Path:
    for letter in "abc":
        recording(folder / f"{letter}.wav")
    write(folder / table, *(lines or LINES), **form)
    return folder


def texts(folder: Path, **settings) -> dict[str, str]:
    return {row["utterance_id"]: row["text"] for row in reading("folder", folder, **settings).rows["train"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_in_any_unicode_encoding_and_with_any_line_end_are_read(tmp_path, encoding, end):
    corpus(tmp_path, encoding=encoding, end=end)
    assert texts(tmp_path) == {"1": "ñuka", "2": "ari, mana"}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16-le", "utf-16-be"])
def test_tables_in_an_encoding_that_they_do_not_say_are_refused(tmp_path, encoding):
    corpus(tmp_path, encoding=encoding)
    with pytest.raises(CorpusError, match="metadata.tsv: not UTF-8 text.*|metadata.tsv: .* no column"):
        texts(tmp_path)


SEPARATED = {
    "semicolons": ["id;path;text", "1;a.wav;ñuka", '2;b.wav;"ari, mana"'],
    "semicolons that are said": ["sep=;", "id;path;text", "1;a.wav;ñuka", "2;b.wav;ari, mana"],
    "tabs": LINES,
    "bars": ["id|path|text", "1|a.wav|ñuka", "2|b.wav|ari, mana"],
    "commas": ["id,path,text", "1,a.wav,ñuka", '2,b.wav,"ari, mana"'],
    "quotes around all": ['"id"\t"path"\t"text"', '"1"\t"a.wav"\t"ñuka"', '"2"\t"b.wav"\t"ari, mana"'],
}


@pytest.mark.parametrize("table", ["metadata.csv", "METADATA.CSV", "metadata.TSV"])
@pytest.mark.parametrize("dialect", SEPARATED)
def test_separators_are_seen_in_the_line_of_column_names(tmp_path, dialect, table):
    corpus(tmp_path, *SEPARATED[dialect], table=table)
    assert texts(tmp_path) == {"1": "ñuka", "2": "ari, mana"}


def test_spreadsheets_and_other_files_are_refused_with_what_to_do(tmp_path):
    corpus(tmp_path)
    for content, advice in {b"PK\x03\x04xl": "spreadsheet.*CSV", b"PAR1": "`reader: huggingface`"}.items():
        (tmp_path / "metadata.tsv").write_bytes(content)
        with pytest.raises(CorpusError, match=advice):
            texts(tmp_path)


def test_doubled_columns_and_doubled_headers_are_seen(tmp_path):
    corpus(tmp_path, "id\tpath\ttext\ttext", "1\ta.wav\tñuka\tx")
    with pytest.raises(CorpusError, match="columns.text: the table has 2 columns 'text'"):
        texts(tmp_path)
    corpus(tmp_path, "id\tpath\ttext\tnote\tnote", "1\ta.wav\tñuka\tx\ty")
    assert texts(tmp_path) == {"1": "ñuka"}
    corpus(tmp_path, *LINES, *LINES[:1], "3\tc.wav\tima")
    result = reading("folder", tmp_path)
    assert [row["utterance_id"] for row in result.rows["train"]] == ["1", "2", "3"]
    assert [(row["row"], row["reason"]) for row in result.rejects["train"]] == [
        (4, "the line of column names again: tables were joined")
    ]


CONVENTIONS = {
    "hugging face": (["file_name,transcription", "a.wav,ñuka"], {"a": "ñuka"}),
    "common voice": (["client_id\tpath\tsentence\tup_votes", "x\ta.wav\tñuka\t2"], {"a": "ñuka"}),
    "nemo": (["audio_filepath,duration,text", "a.wav,0.5,ñuka"], {"a": "ñuka"}),
    "capitals": (["ID,Path,Text", "one,a.wav,ñuka"], {"one": "ñuka"}),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_table_of_a_known_convention_needs_no_columns(tmp_path, convention):
    lines, expected = CONVENTIONS[convention]
    corpus(tmp_path, *lines, table="metadata.csv")
    assert texts(tmp_path) == expected


def test_a_table_in_json_lines_is_read(tmp_path):
    lines = ['{"file_name": "a.wav", "transcription": "ñuka", "tags": {"x": 1}}', '{"file_name": "b.wav"}']
    corpus(tmp_path, *lines, table="metadata.jsonl")
    result = reading("folder", tmp_path)
    assert [(row["utterance_id"], row["text"]) for row in result.rows["train"]] == [("a", "ñuka")]
    assert [(row["utterance_id"], row["reason"]) for row in result.rejects["train"]] == [("b", "empty transcript")]
    corpus(tmp_path, *lines, "{", table="metadata.jsonl")
    with pytest.raises(CorpusError, match="metadata.jsonl, line 3: not a JSON object"):
        texts(tmp_path)


def test_a_column_that_may_be_either_is_asked_for(tmp_path):
    corpus(tmp_path, "path\tsentence\ttranscription", "a.wav\tx\ty")
    with pytest.raises(CorpusError, match="columns.text: it may be any of 'sentence', 'transcription'; name one"):
        texts(tmp_path)
    assert texts(tmp_path, columns={"text": "sentence"}) == {"a": "x"}


def test_audio_may_lie_in_a_usual_folder_or_beside_a_table_in_a_subfolder(tmp_path):
    recording(tmp_path / "cv/clips/one.wav")
    write(tmp_path / "cv/validated.tsv", "path\tsentence", "one.wav\tari")
    assert texts(tmp_path / "cv", table="validated.tsv") == {"one": "ari"}
    (row,) = reading("folder", tmp_path, table="cv/validated.tsv").rows["train"]
    assert row["audio_path"] == str(tmp_path / "cv/clips/one.wav")


def test_the_same_name_in_two_folders_is_two_utterances(tmp_path):
    for who in ("ben", "anna"):
        recording(tmp_path / who / "000.wav")
    write(tmp_path / "metadata.tsv", "path\ttext", "ben/000.wav\tari", "./anna//000.wav\tmana")
    assert texts(tmp_path) == {"ben/000": "ari", "anna/000": "mana"}


@pytest.mark.parametrize("on_disk, in_table", [("ñan.wav", "n\u0303an.wav"), ("n\u0303an.wav", "ñan.wav")])
def test_file_names_in_another_unicode_form_are_found(tmp_path, on_disk, in_table):
    recording(tmp_path / "clips-ñ" / on_disk)
    write(tmp_path / "metadata.tsv", "path\ttext", f"clips-n\u0303/{in_table}\tari")
    (row,) = reading("folder", tmp_path).rows["train"]
    assert row["audio_path"] == str(tmp_path / "clips-ñ" / on_disk) and row["utterance_id"] == "clips-ñ/ñan"


def test_file_names_in_another_case_or_with_backslashes_are_found_where_one_is_meant(tmp_path):
    recording(tmp_path / "clips/A.WAV")
    for name in ("B.wav", "b.WAV"):
        recording(tmp_path / "clips" / name)
    write(tmp_path / "metadata.tsv", "id\tpath\ttext", "1\tclips\\a.wav\tari", "2\tclips/b.wav\tmana")
    result = reading("folder", tmp_path)
    assert [row["audio_path"] for row in result.rows["train"]] == [str(tmp_path / "clips/A.WAV")]
    assert [row["reason"] for row in result.rejects["train"]] == ["audio file not found"]


def test_segments_of_long_recordings_are_stretches_of_channels(tmp_path):
    recording(tmp_path / "call.wav", seconds=4, channels=2)
    write(
        tmp_path / "metadata.tsv",
        "path\tstart\tend\tside\ttext",
        "call.wav\t0.5\t1.5\tA\tari",
        "call.wav\t0:01,5\t0:00:02.5\tright\tmana",
        "call.wav\t2\t\t0\tx",
        "call.wav\t\t2\t0\tx",
        "call.wav\t3\t2\tA\tx",
        "call.wav\tnoon\t2\tA\tx",
        "call.wav\t1\t2\tC\tx",
        "call.wav\t\t\tA\twhole",
    )
    found = entries("folder", tmp_path, columns={"channel": "side"})
    assert [(e.utterance_id, e.audio) for e in found if not isinstance(e, Reject)] == [
        ("call-0000500-0001500-0", AudioReference("call.wav", 0.5, 1.0, 0)),
        ("call-0001500-0002500-1", AudioReference("call.wav", 1.5, 1.0, 1)),
        ("call-0", AudioReference("call.wav", 0.0, None, 0)),
    ]
    reasons = [e.reason for e in found if isinstance(e, Reject)]
    patterns = [
        "end is None",
        "start is None",
        "begins at 3 s and ends at 2 s",
        "start 'noon' is neither",
        "channel: 'C'",
    ]
    for reason, pattern in zip(reasons, patterns, strict=True):
        assert re.search(pattern, reason)
    write(tmp_path / "metadata.tsv", "path\tstart\ttext", "call.wav\t2\tto the end")
    assert [entry.audio for entry in entries("folder", tmp_path)] == [AudioReference("call.wav", 2.0)]
    write(tmp_path / "metadata.tsv", "path\tbegin\tlength\ttext", "call.wav\t500\t1000\tari")
    (entry,) = entries("folder", tmp_path, times="ms")
    assert entry.audio == AudioReference("call.wav", 0.5, 1.0)
    write(tmp_path / "metadata.tsv", "path\tchannel\ttext", "call.wav\t1\tari", "call.wav\t2\tmana")
    with pytest.raises(CorpusError, match="seems to count channels from 1 to 2. Count them from 0"):
        entries("folder", tmp_path, columns={"channel": "channel"})


def test_a_small_file_that_decompresses_to_a_large_one_is_refused(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(40):
            file.write(b" " * (1 << 20))
    with pytest.raises(CorpusError, match=r"bomb.jsonl.gz: \d+ bytes that decompress to more than 16 MB"):
        read_text(path)
    path.write_bytes(gzip.compress(b"fine\n")[:-6])
    with pytest.raises(CorpusError, match="bomb.jsonl.gz: cannot be read"):
        read_text(path)
