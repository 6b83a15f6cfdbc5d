"""The table of languages, and how alike languages are."""

import re

import pytest

from headstart.languages.similarity import distance_km, nearest, similarity
from headstart.languages.table import families, language_of, languages

PAPER = "ar de en es et fa fr id it ja nl pl pt ru sv-SE th zh-CN tr".split()  # arXiv 2511.21704, the last a guess
VOXPOPULI = "bg cs da de el en es et fi fr hr hu it lt lv mt nl pl pt ro sk sl sv".split()
PRETRAINED = """ab ar as ba be bn br ca ceb cnh cs cv cy de dv el en eo es et eu fa fi fr fy ga ha hsb ht hu ia id it
    ja ka kab kk ko ku ky lg lo lt lv mn mt nl or pa pl ps pt rm ro ru rw sah sl sv sw ta te tl tpi tr tt uk ur vi vot
    yo yue zh zu""".split()
GRAMMARS = "de en es fi id sw tr".split()


def test_the_table_has_the_languages_of_studies_and_of_pretraining_data():
    missing = [
        tag for tag in (*PAPER, *VOXPOPULI, *PRETRAINED, *GRAMMARS, "qu", "qvi", "qug", "qxr") if not language_of(tag)
    ]
    assert missing == []


def test_codes_are_well_formed_and_places_on_earth():
    for language in languages().values():
        assert re.fullmatch("[a-z]{2,3}", language.tag)
        assert re.fullmatch("[a-z]{3}", language.iso639_3)
        assert re.fullmatch("[a-z0-9]{4}[0-9]{4}", language.glottocode)
        assert language.name and language.family
        if language.place:
            assert abs(language.latitude) <= 90 and abs(language.longitude) <= 180
    assert [language.tag for language in languages().values() if not language.place] == ["eo", "ia"]


def test_a_glottocode_is_listed_twice_only_for_two_tags_of_one_language():
    tags: dict[str, list[str]] = {}
    for language in languages().values():
        tags.setdefault(language.glottocode, []).append(language.tag)
    assert [shared for shared in tags.values() if len(shared) > 1] == [["cmn", "zh"]]


def test_facts_that_are_well_known():
    assert (language_of("fi").family, language_of("fi").subfamily) == ("Uralic", "Finnic")
    assert (language_of("qvi").family, language_of("qvi").glottocode) == ("Quechuan", "imba1240")
    assert language_of("id").subfamily == language_of("ms").subfamily == "Malayo-Chamic"
    assert language_of("eu").family == "Basque" and language_of("eu").subfamily is None
    assert language_of("sw").subfamily == "Narrow Bantu"


@pytest.mark.parametrize("name", ["sv", "sv-SE", "sv_se", "swe", "Swedish", "swed1254"])
def test_a_language_goes_by_many_names(name):
    assert language_of(name).tag == "sv"


def test_what_is_not_in_the_table_is_not_guessed():
    assert language_of("xx") is None
    assert families(["de", "xx"]) is None
    assert families(["de", "tr", "es"]) == ("Indo-European", "Turkic")
    assert similarity("de", "xx") is None
    assert similarity("de", "eo") is None
    assert similarity("xx", "xx-YY") == 1.0


def test_the_distance_is_that_of_great_circles():
    london, new_york = (51.5074, -0.1278), (40.7128, -74.0060)
    assert distance_km(london, new_york) == pytest.approx(5570, abs=5)
    assert distance_km((0, 0), (0, 180)) == pytest.approx(20015, abs=1)
    assert distance_km((0, 179), (0, -179)) == pytest.approx(222.4, abs=0.1)


def test_relatives_are_more_alike_than_others_and_neighbours_than_distant_ones():
    assert similarity("cmn", "zh-TW") == 1.0
    assert similarity("de", "nl") > similarity("de", "it") > similarity("de", "fi") > similarity("de", "ja")
    assert similarity("es", "pt") == similarity("pt", "es") < 1
    assert 0 < similarity("ja", "es") < 0.1


def test_the_nearest_language_is_found_among_those_that_are_known():
    assert nearest("nl", ["es", "xx", "de"])[1] == "de"
    assert nearest("nl", ["xx"]) is None
    assert nearest("nl", []) is None
