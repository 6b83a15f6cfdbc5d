"""Scoring agrees with jiwer, with NIST's sclite, and with the definitions of code-switching metrics."""

import re
import shutil
import subprocess
from itertools import pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from rapidfuzz.distance import Levenshtein

from headstart.errors import HeadstartError
from headstart.score.code_switching import (
    cmi_bins,
    code_mixing_index,
    hallucinated,
    hypothesis_languages,
    learnt_languages,
    mixing,
    skeleton,
    substitutions_across,
    transliteration_tolerant,
)
from headstart.score.languages import tag_words
from headstart.score.metrics import METRICS, counts_by_metric, metric_named, points_of_interest
from headstart.score.score_file import language_columns, score_columns
from headstart.score.score_table import ScoreTable
from headstart.text.tags import NO_LANGUAGE

WORDS = ("a", "b", "ab", "ba", "abc", "नमस्ते", "žena", "मी")
TAGS = ("en", "es", "zxx")
words = some.lists(some.sampled_from(WORDS), max_size=12)
references = some.lists(some.tuples(some.sampled_from(WORDS), some.sampled_from(TAGS)), min_size=1, max_size=12)
lists = some.lists(some.tuples(references, words), min_size=1, max_size=5)
text = some.text(some.sampled_from("abé नि我の \t"), max_size=20)
thousands = settings(max_examples=1500, deadline=None)
hundreds = settings(max_examples=300, deadline=None)  # of lists, with some utterances each


def table_of(utterances, **options) -> ScoreTable:
    """A table of pairs of tagged reference words and hypothesis words."""
    rows = []
    for tagged, heard in utterances:
        reference = " ".join(word for word, _ in tagged)
        languages = language_columns(reference, [(tag, word) for word, tag in tagged])
        rows.append({**languages, **score_columns(reference, " ".join(heard), " ".join(heard[1:]))})
    return ScoreTable({name: [row[name] for row in rows] for name in rows[0]}, **options)


def sentence(tagged: str) -> list[tuple[str, str]]:
    """`the/en casa/es` as words with tags."""
    return [tuple(word.split("/")) for word in tagged.split()]


def totals(counts) -> tuple[int, ...]:
    return tuple(int(kind.sum()) for kind in counts)


# ---------------------------------------------------------------------------------------------- jiwer and sclite


@thousands
@given(text.filter(str.split), text)
def test_counts_of_words_and_characters_are_those_of_jiwer(reference, hypothesis):
    sides = " ".join(reference.split()), " ".join(hypothesis.split())
    row = score_columns(reference, hypothesis)
    table = ScoreTable({name: [value] for name, value in row.items()})
    for name, process in (("wer", jiwer.process_words), ("cer", jiwer.process_characters)):
        peer = process(*sides)
        wanted = (peer.hits, peer.substitutions, peer.deletions, peer.insertions)
        assert totals(METRICS[name].counts(table)) == wanted


def spaced(written: str) -> str:
    """The text with a space on both sides of each character of a script without spaces, as MER is often computed."""
    return " ".join(re.sub("([我の])", r" \1 ", written).split())


@thousands
@given(text.filter(str.split), text)
def test_mixed_units_give_the_error_rate_of_texts_with_spaces_between_characters(reference, hypothesis):
    # A mark after a character without spaces belongs to it, which spaces would tear apart.
    reference, hypothesis = (re.sub("([我の])ि+", r"\1", side) for side in (reference, hypothesis))
    table = ScoreTable({name: [value] for name, value in score_columns(reference, hypothesis).items()})
    peer = jiwer.process_words(spaced(reference), spaced(hypothesis))
    assert totals(METRICS["mer"].counts(table)) == (peer.hits, peer.substitutions, peer.deletions, peer.insertions)


def weighted(substitutions: int, deletions: int, insertions: int) -> int:
    """The cost that sclite minimises."""
    return 4 * substitutions + 3 * deletions + 3 * insertions


def test_word_totals_are_those_of_sclite(tmp_path):
    """NIST's sclite weighs a substitution 4 and other errors 3, so that it prefers more words right to fewer errors.

    It can trade five substitutions for six other errors, and nothing smaller: totals are the same for references of
    fewer than five words. Of longer ones, each side is the better one by its own measure.
    """
    if shutil.which("sctk") is None:
        pytest.skip("sclite is not installed (Debian's package sctk)")
    rng = np.random.default_rng(3)
    words = ["alba", "bote", "casa", "dedo", "the", "tree"]
    pairs = [(rng.choice(words, rng.integers(1, 12)), rng.choice(words, rng.integers(0, 12))) for _ in range(3000)]
    for side, name in enumerate(("ref", "hyp")):
        lines = (f"{' '.join(pair[side])} (speaker-{i})\n" for i, pair in enumerate(pairs))
        (tmp_path / f"{name}.trn").write_text("".join(lines), encoding="ascii")
    command = ["sctk", "sclite", "-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm", "-s", "-o", "pralign"]
    done = subprocess.run([*command, "stdout"], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = re.findall(r"id: \(speaker-(\d+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    assert len(found) == len(pairs)
    short = 0
    for number, *kinds in found:
        hits, *errors = map(int, kinds)
        reference, hypothesis = pairs[int(number)]
        row = score_columns(" ".join(reference), " ".join(hypothesis))
        _, *own = totals(METRICS["wer"].counts(ScoreTable({name: [value] for name, value in row.items()})))
        assert hits + errors[0] + errors[1] == len(reference)
        assert sum(own) == sum(errors) or (len(reference) >= 5 and sum(own) < sum(errors))
        assert weighted(*own) >= weighted(*errors)
        short += len(reference) < 5
    assert short > 500


# ---------------------------------------------------------------------------------------------- definitions


def pier_by_definition(utterances, points, skip_all: bool) -> tuple[int, int]:
    """Errors and points of interest, edit by edit as the paper and its authors' description have it."""
    errors = total = 0
    for tagged, heard in utterances:
        of_interest = [tag in points for _, tag in tagged]
        if not any(of_interest) or (skip_all and all(of_interest)):
            continue
        total += sum(of_interest)
        for edit in Levenshtein.editops([word for word, _ in tagged], heard):
            errors += of_interest[min(edit.src_pos, len(tagged) - 1)]
    return errors, total


@hundreds
@given(lists)
def test_pier_is_that_of_its_definition(utterances):
    table = table_of(utterances, points={"es"})
    for as_published in (False, True):
        counts = points_of_interest(table, as_published)
        wanted = pier_by_definition(utterances, {"es"}, skip_all=as_published)
        assert (counts.errors.sum(), counts.reference.sum()) == wanted
    by_language = metric_named("wer[es]").counts(table)
    assert totals(by_language) == totals(points_of_interest(table))


def test_pier_of_a_worked_example():
    """the/casa is/es grande: S of a point, an insertion before a point, one after the last word, a D elsewhere."""
    utterances = [(sentence("the/en casa/es is/en grande/es"), "the cosa muy grande now".split())]
    table = table_of(utterances, points={"es"})
    assert totals(points_of_interest(table)) == (1, 1, 0, 1)  # casa -> cosa; "now" belongs to grande; is -> muy
    assert METRICS["pier"].counts(table_of([(sentence("a/en b/es"), "x a b".split())])).errors.sum() == 0  # of "a"


@hundreds
@given(lists)
def test_with_every_word_a_point_pier_is_the_word_error_rate(utterances):
    table = table_of(utterances, points=TAGS)
    assert totals(METRICS["pier"].counts(table)) == totals(METRICS["wer"].counts(table))


@hundreds
@given(lists)
def test_languages_share_out_all_words_and_errors(utterances):
    table = table_of(utterances)
    parts = [metric_named(f"wer[{tag}]").counts(table) for tag in table.all_languages]
    assert np.array_equal(sum(map(np.array, parts)), METRICS["wer"].counts(table))
    assert sum(part.reference.sum() for part in parts) == sum(len(tagged) for tagged, _ in utterances)
    switching = METRICS["switch_boundary"].counts(table).reference
    spoken = [[tag for _, tag in tagged if tag != "zxx"] for tagged, _ in utterances]
    assert switching.tolist() == [sum(one != other for one, other in pairwise(tags)) for tags in spoken]


def switches_by_definition(tagged, heard):
    """For one utterance: distance from a switch -> edits of the words there, and for each switch if it is right."""
    alignment = score_columns(" ".join(word for word, _ in tagged), " ".join(heard))["word_alignment"]
    edits, before = [], []  # of each reference word, and words of the hypothesis inserted before it
    inserted = 0
    for letter in alignment:
        if letter == "I":
            inserted += 1
        else:
            edits.append(letter)
            before.append(inserted)
            inserted = 0
    spoken = [i for i, (_, tag) in enumerate(tagged) if tag not in NO_LANGUAGE]
    places = [k for k in range(len(spoken) - 1) if tagged[spoken[k]][1] != tagged[spoken[k + 1]][1]]
    by_distance = {}
    for k, i in enumerate(spoken):
        if places:
            distance = min(place - k + 1 if k <= place else k - place for place in places)
            by_distance.setdefault(distance, []).append(edits[i])
    right = [
        edits[spoken[k]] == edits[spoken[k + 1]] == "H" and not any(before[spoken[k] + 1 : spoken[k + 1] + 1])
        for k in places
    ]
    return by_distance, right


@hundreds
@given(lists)
def test_errors_at_switches_are_those_of_both_definitions(utterances):
    table = table_of(utterances)
    wanted = [switches_by_definition(*utterance) for utterance in utterances]
    for distance in (1, 2, 3):
        edits = [edit for by_distance, _ in wanted for edit in by_distance.get(distance, [])]
        counts = metric_named(f"switch_word[{distance}]").counts(table)
        assert totals(counts) == (edits.count("H"), edits.count("S"), edits.count("D"), 0)
    right = [each for _, rights in wanted for each in rights]
    assert totals(METRICS["switch_boundary"].counts(table)) == (sum(right), len(right) - sum(right), 0, 0)


def test_errors_at_switches_of_a_worked_example():
    """Two switches: that before `casa` has a word inserted, that after it is right although `um` is lost."""
    said = sentence("the/en big/en casa/es um/zxx is/en old/en")
    table = table_of([(said, "the big red casa is cold".split())])
    assert totals(METRICS["wer"].counts(table)) == (4, 1, 1, 1)
    assert totals(METRICS["switch_boundary"].counts(table)) == (1, 1, 0, 0)
    assert totals(METRICS["switch_word"].counts(table)) == (3, 0, 0, 0)  # big, casa, is; red is an insertion
    assert totals(metric_named("switch_word[2]").counts(table)) == (1, 1, 0, 0)  # the, old


def test_metrics_of_the_second_decoding_are_those_of_its_hypotheses():
    utterances = [(sentence("the/en casa/es old/en"), "x the casa old".split())]  # the second one lacks x
    counts = counts_by_metric(table_of(utterances))
    assert totals(counts["wer"]) == (3, 0, 0, 1) and totals(counts["wer_lm"]) == (3, 0, 0, 0)
    assert totals(counts["wer[en]"]) == (2, 0, 0, 1) and totals(counts["wer_lm[en]"]) == (2, 0, 0, 0)
    assert {name.replace("_lm", "") for name in counts if "_lm" in name} == {n for n in counts if "_lm" not in n}


def test_metrics_that_do_not_apply_are_left_out():
    untagged = score_columns("a b", "a")
    counts = counts_by_metric(ScoreTable({name: [value] for name, value in untagged.items()}))
    assert list(counts) == ["wer", "cer"]
    assert {"pier", "switch_word", "wer[es]"} <= counts_by_metric(table_of([(sentence("a/en b/es"), ["a"])])).keys()
    assert "wer[en]" not in counts_by_metric(table_of([(sentence("a/en b/en"), ["a"])]))
    row = score_columns("我 想 go", "我 想 go") | {"word_languages": None}
    assert "mer" not in counts_by_metric(ScoreTable({name: [value] for name, value in row.items()}))
    row = score_columns("我想 go", "我 go", text="我想 Go!")
    counts = counts_by_metric(ScoreTable({name: [value] for name, value in row.items()}))
    assert totals(counts["mer"]) == (2, 0, 1, 0) and totals(counts["wer_raw"]) == (0, 2, 0, 0)


def test_a_metric_that_there_is_not_is_named():
    for name in ("per", "per[es]", "cer[es]", "wer[]", "switch_word[0]"):
        with pytest.raises(HeadstartError, match=re.escape(name)):
            metric_named(name)
    assert metric_named("mer_lm[zh]").name == "mer_lm[zh]"


def test_an_utterance_without_reference_keeps_its_insertions_to_itself():
    rows = [score_columns("", "a b"), score_columns("a", "a")]
    languages = [language_columns("", []), language_columns("a", [("en", "a")])]
    rows = [row | own for row, own in zip(rows, languages, strict=True)]
    table = ScoreTable({name: [row[name] for row in rows] for name in rows[0]})
    assert METRICS["wer"].counts(table).errors.tolist() == [2, 0]
    assert metric_named("wer[en]").counts(table).errors.tolist() == [0, 0]


def test_tags_that_do_not_fit_the_words_are_named():
    row = score_columns("a b", "a") | {"word_languages": ["en"]}
    with pytest.raises(ValueError, match="row 1 has 1 language tags for 2 reference tokens"):
        counts_by_metric(ScoreTable({name: [value] for name, value in row.items()}))
    assert tag_words(["a我", "b"], [("en", "a"), ("zh", "我"), ("en", "b")]) == (["mul", "en"], ["en", "zh", "en"])
    assert tag_words(["a!"], [("en", "a"), ("zxx", "!")]) == (["en"], ["en"])


# ---------------------------------------------------------------------------------------------- indices

VECTOR = "EN EN HI HI UNIV UNIV HI HI EN EN EN HI HI".split()


def test_indices_of_a_worked_example():
    """Five EN, six HI; stretches of 2, 4, 3 and 2 without UNIV, so 3 switches among 10 neighbours."""
    indices = mixing([VECTOR], {"UNIV"})
    assert indices.cmi == indices.cmi_switched == pytest.approx(45.4545, abs=1e-4)
    assert indices.m_index == pytest.approx(60 / 61) == pytest.approx(0.98361, abs=1e-5)
    assert indices.entropy == pytest.approx(0.99403, abs=1e-5)
    assert indices.i_index == 0.3
    deviation = np.sqrt((0.75**2 + 1.25**2 + 0.25**2 + 0.75**2) / 4)
    assert indices.burstiness == pytest.approx((deviation - 2.75) / (deviation + 2.75))
    assert indices.memory == pytest.approx(-0.5)  # of (2, 4), (4, 3), (3, 2)


def test_utterances_are_not_joined():
    indices = mixing([["en", "en"], None, ["es", "zxx", "es"], ["en", "es"], ["zxx"], []])
    assert indices.i_index == 1 / 3
    assert indices.cmi == pytest.approx(50 / 3) and indices.cmi_switched == 50
    assert indices.m_index == 1  # three tokens each


def test_indices_at_their_ends():
    alone = mixing([["en", "en", "en"]])
    assert (alone.cmi, alone.m_index, alone.i_index, alone.burstiness, alone.entropy) == (0, 0, 0, -1, 0)
    assert alone.cmi_switched is None and alone.memory is None
    nothing = mixing([None, ["zxx"]])
    assert (nothing.cmi, nothing.m_index, nothing.i_index, nothing.burstiness) == (None, None, None, None)
    assert code_mixing_index(["zxx"]) == 0
    assert mixing([["en", "es", "fr"]]).m_index == pytest.approx(1)


def test_utterances_are_binned_by_their_mixing():
    said = ["a/en b/en", "a/en b/en c/en d/en e/en f/en g/en h/en i/en j/es", "a/en b/es", "a/zxx"]
    assert cmi_bins(table_of([(sentence(one), ["a"]) for one in said])).tolist() == [0, 1, 5, -1]


def test_substitutions_are_told_apart_by_language():
    said = [sentence("the/en casa/es no/en"), sentence("no/es old/en tree/en casa/es")]
    table = table_of([(said[0], "the old no".split()), (said[1], "no casa tri no".split())])
    learnt = learnt_languages(table)
    assert learnt == {"the": "en", "casa": "es", "no": "", "old": "en", "tree": "en"}
    # casa -> old and old -> casa are across; tree -> tri and casa -> no (of both languages) are not known.
    heard = hypothesis_languages(table, learnt)
    assert heard[1] == ["und", "es", "und", "und"]
    assert substitutions_across(table, heard) == {"within": 0, "across": 2, "unknown": 2}


def test_hallucinations_are_many_words_that_were_not_said():
    said = [("a/en", "a b c".split()), ("a/en", "a b c d".split()), ("a/en " * 8, "a a a a a a a a x y z".split())]
    table = table_of([(sentence(reference), heard) for reference, heard in said])
    assert hallucinated(METRICS["wer"].counts(table)).tolist() == [False, True, False]


def test_words_in_another_script_are_forgiven_and_misspellings_are_not():
    said = "मीटिंग/hi is/en фильм/ru bat/en".split()
    table = table_of([(sentence(" ".join(said)), "meeting is film bet".split())])
    assert totals(METRICS["wer"].counts(table)) == (1, 3, 0, 0)
    assert totals(transliteration_tolerant(table)) == (3, 1, 0, 0)
    assert skeleton("मीटिंग") == skeleton("meeting") != skeleton("matter")
    vowels = table_of([(sentence("ये/hi आ/hi"), "a you".split())])
    assert totals(transliteration_tolerant(vowels)) == (0, 2, 0, 0)  # without consonants, nothing is known to agree


def test_an_index_on_the_edge_of_a_bin_is_in_the_lower_one():
    said = ["a/en " * 7 + "b/es " * 3, "a/en " * 14 + "b/es " * 6, "a/en " * 9 + "b/es", "a/en " * 8 + "b/es " * 3]
    assert cmi_bins(table_of([(sentence(one.strip()), ["a"]) for one in said])).tolist() == [3, 3, 1, 3]
    assert cmi_bins(table_of([(sentence("a/en a/en b/es"), ["a"])])).tolist() == [4]
