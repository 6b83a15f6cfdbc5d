"""Mixed units: characters where a script has no spaces, words elsewhere."""

import pytest
import regex

from headstart.text.mixed import mixed_units


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("我想去shopping 好吗", ["我", "想", "去", "shopping", "好", "吗"]),
        ("我 想去 shopping", ["我", "想", "去", "shopping"]),  # spaces between Chinese words do not matter
        ("let's 去看movie吧 ok", ["let's", "去", "看", "movie", "吧", "ok"]),
        ("ラーメンが好き", list("ラーメンが好き")),  # the long mark ー is shared by both kana
        ("か\u3099 ｶﾞ", ["か\u3099", "ｶﾞ"]),  # voicing signs, loose and halfwidth
        ("人々 第3章", ["人", "々", "第", "3", "章"]),
        ("น้ำเย็น cool", ["น้ำ", "เ", "ย็", "น", "cool"]),
        ("ນ້ຳ", ["ນ້ຳ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ကျေးဇူး", ["ကျေး", "ဇူး"]),
        ("ភាសា", ["ភា", "សា"]),
        ("བོད ཡིག", ["བོ", "ད", "ཡི", "ག"]),
        ("한국어 text", ["한국어", "text"]),  # Korean has spaces
        ("हिन्दी में बोलिए", ["हिन्दी", "में", "बोलिए"]),
        ("ọ̀rọ̀ yorùbá", ["ọ̀rọ̀", "yorùbá"]),
        ("", []),
    ],
)  # fmt: skip
def test_units_are_characters_where_a_script_has_no_spaces_and_words_elsewhere(text, units):
    assert mixed_units(text) == units


@pytest.mark.parametrize("text", ["สวัสดีครับผมชื่อสมชาย", "ラーメンを食べました", "我们一起去上海玩", "ສະບາຍດີຕອນເຊົ້າ"])
def test_a_character_is_a_grapheme_cluster_of_unicode(text):
    assert mixed_units(text) == regex.findall(r"\X", text)


@pytest.mark.parametrize("text", ["我想去shopping 好吗", "น้ำเย็น cool", "x\u0301我\u0301 \u0301我", "a1我2b"])
def test_units_are_those_of_the_words_and_nothing_is_lost(text):
    assert mixed_units(text) == [unit for word in text.split() for unit in mixed_units(word)]
    assert "".join(mixed_units(text)) == text.replace(" ", "")
