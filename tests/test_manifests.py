"""Manifests: what is written is what is read, and what does not fit the schema is named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headstart.corpora import manifests
from headstart.corpora.manifests import FEATURES, MANIFEST, REJECTS, read_columns, read_rows, read_table, write_table

ROW = {
    "utterance_id": "u1",
    "audio_path": "clips/u1.wav",
    "offset_s": 0.0,
    "duration_s": 1.25,
    "speaker": None,
    "language": "qu",
    "text": "Ñukawan purikrinchik.",
    "tokens": ["Ñukawan", "purikrinchik", "."],
    "token_languages": ["qu", "qu", "und"],
    "phonemes": None,
}


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [ROW, {**ROW, "utterance_id": "u2", "text": None, "tokens": None, "token_languages": None}]
    write_table(tmp_path / "m.parquet", rows, MANIFEST)
    assert read_table(tmp_path / "m.parquet", MANIFEST) == rows


def test_columns_and_rows_are_read_as_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "ROWS_A_GROUP", 4)  # the file has three groups
    names = [f"u{i}" for i in range(11)]
    write_table(tmp_path / "m.parquet", [{**ROW, "utterance_id": name} for name in names], MANIFEST)
    assert pq.read_metadata(tmp_path / "m.parquet").num_row_groups == 3
    table = read_columns(tmp_path / "m.parquet", MANIFEST, ["utterance_id"])
    assert table.to_pydict() == {"utterance_id": names}
    wanted = np.array([9, 0, 10, 3, 4, 0, 8])
    table = read_rows(tmp_path / "m.parquet", MANIFEST, ["utterance_id", "tokens"], wanted)
    assert table["utterance_id"].to_pylist() == [names[i] for i in wanted]
    assert table["tokens"].to_pylist() == [ROW["tokens"]] * len(wanted)
    with pytest.raises(ValueError, match="m.parquet: not the expected columns"):
        read_rows(tmp_path / "m.parquet", FEATURES, ["utterance_id"], wanted)


def test_missing_optional_columns_are_null_and_an_empty_table_keeps_its_columns(tmp_path):
    required = {field.name for field in MANIFEST if not field.nullable}
    write_table(tmp_path / "m.parquet", [{key: ROW[key] for key in required}], MANIFEST)
    row = read_table(tmp_path / "m.parquet", MANIFEST)[0]
    assert {key for key, value in row.items() if value is None} == set(ROW) - required
    write_table(tmp_path / "empty.parquet", [], REJECTS)
    assert read_table(tmp_path / "empty.parquet", REJECTS) == []
    assert pq.read_schema(tmp_path / "empty.parquet").names == REJECTS.names


def test_an_unknown_column_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="m.parquet.*'speeker'"):
        write_table(tmp_path / "m.parquet", [{**ROW, "speeker": "ep01"}], MANIFEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("column", [field.name for field in MANIFEST if not field.nullable])
def test_a_missing_value_in_a_required_column_is_named_and_an_older_file_stays(tmp_path, column):
    write_table(tmp_path / "m.parquet", [ROW], MANIFEST)
    with pytest.raises(ValueError, match=f"m.parquet: column '{column}'"):
        write_table(tmp_path / "m.parquet", [ROW, {**ROW, column: None}], MANIFEST)
    assert read_table(tmp_path / "m.parquet", MANIFEST) == [ROW]
    assert [path.name for path in tmp_path.iterdir()] == ["m.parquet"]


def test_a_value_of_the_wrong_type_is_an_error(tmp_path):
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_table(tmp_path / "m.parquet", [{**ROW, "duration_s": "long"}], MANIFEST)


def test_a_table_of_another_stage_is_refused_with_its_path(tmp_path):
    write_table(tmp_path / "m.parquet", [ROW], MANIFEST)
    with pytest.raises(ValueError, match="m.parquet"):
        read_table(tmp_path / "m.parquet", FEATURES)


def test_a_column_that_most_corpora_have_no_use_for_is_only_in_the_tables_that_have_values(tmp_path):
    write_table(tmp_path / "plain.parquet", [ROW], MANIFEST)
    write_table(tmp_path / "call.parquet", [ROW, {**ROW, "utterance_id": "u2", "channel": 1}], MANIFEST)
    assert "channel" not in pq.read_schema(tmp_path / "plain.parquet").names
    assert [row["channel"] for row in read_table(tmp_path / "call.parquet", MANIFEST)] == [None, 1]
    for name, channels in (("plain", [None]), ("call", [None, 1])):
        path, rows = tmp_path / f"{name}.parquet", np.arange(len(channels))
        for table in (
            read_columns(path, MANIFEST, ["channel", "utterance_id"]),
            read_rows(path, MANIFEST, ["channel", "utterance_id"], rows),
        ):
            assert table.column_names == ["channel", "utterance_id"] and table["channel"].to_pylist() == channels
