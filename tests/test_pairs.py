"""Tables of similarities of pairs of languages."""

import sys

import pytest

from headstart.languages.pairs import Pairs, PairsError, read_pairs, write_pairs
from headstart.languages.similarity import nearest
from headstart.languages.typology import TypologyError, typological_pairs

HEAD = "language_a\tlanguage_b\tsimilarity\n"


def test_a_table_is_read_whatever_its_languages_are_called(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(f"# from somewhere\n{HEAD}deu\tNL\t0.8\nxyz\tde\t0.25\nde\tdutc1256\t0.8\nde\tde-AT\t1\n")
    pairs = read_pairs(path)
    assert pairs("nl", "de") == pairs("German", "Dutch") == 0.8
    assert pairs("xyz", "de-CH") == 0.25
    assert pairs("xyz", "nl") is None
    assert pairs("xyz", "xyz") == 1.0
    assert nearest("de", ["xyz", "fr", "nl"], pairs) == (0.8, "nl")


def test_pairs_come_back_from_a_table_and_from_json(tmp_path):
    pairs = Pairs.of([("sw", "en", 0.5), ("en", "de", 0.75), ("sw", "de", 1 / 3)])
    write_pairs(tmp_path / "t.tsv", pairs, "a test")
    assert (tmp_path / "t.tsv").read_text().splitlines()[:2] == ["# a test", HEAD.strip()]
    for again in (read_pairs(tmp_path / "t.tsv"), Pairs.of_plain(pairs.plain())):
        assert again.values == pytest.approx(pairs.values, abs=1e-6)
    assert set(pairs.with_one_of(["swh"]).values) == {("en", "sw"), ("de", "sw")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\nde\tnl\n", "no column 'language_a'; it needs language_a, language_b, similarity"),
        (f"{HEAD}de\tnl\t1.5\n", "row 1: needs two languages and a similarity from 0 to 1"),
        (f"{HEAD}de\tnl\tnan\n", "row 1: needs"),
        (f"{HEAD}de\tnl\n", "row 1: needs"),
        (f"{HEAD}de\t \t0.5\n", "row 1: needs"),
        (f"{HEAD}de\tnl\t0.5\nnl\tde\t0.6\n", "row 2: nl and de have another similarity in a row before"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, message):
    path = tmp_path / "t.tsv"
    path.write_text(text)
    with pytest.raises(PairsError, match=message):
        read_pairs(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(PairsError, match="t.tsv: the table of similarities cannot be read"):
        read_pairs(tmp_path / "t.tsv")


def test_without_urielplus_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "urielplus.urielplus", None)
    with pytest.raises(TypologyError, match="pip install urielplus.*or write a table"):
        typological_pairs(["de", "nl"], [], "phonological")


def test_typological_similarities_are_those_of_urielplus():
    pytest.importorskip("urielplus", reason="an optional package")
    pairs, unknown = typological_pairs(["en", "xx"], ["de", "es"], "featural")
    # Distances that were read off urielplus 1.3.2: English to German 0.403, to Spanish 0.466.
    assert pairs("en", "de") == pytest.approx(1 - 0.403, abs=0.02)
    assert pairs("en", "es") == pytest.approx(1 - 0.466, abs=0.02)
    assert pairs("de", "es") is None and unknown == ["xx"]
