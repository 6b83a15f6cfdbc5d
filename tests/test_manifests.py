"""Manifests: what is written is what is read, and what does not fit the schema is named."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headstart.manifests import FEATURES, MANIFEST, REJECTS, read_table, write_table

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
