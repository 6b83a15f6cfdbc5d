"""`headstart score REF HYP`: files of anybody's system, what is said of them, and what is wrong with them."""

import json
import math

import jiwer
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from headstart.cli import main
from headstart.summarise.design import rate_interval

REFERENCE = (
    "id\ttext\ttoken_languages\nu1\tthe casa is old\ten es en en\nu2\tElla dijo nada\tes es es\nu3\tgood bye\ten en\n"
)
HYPOTHESIS = "id\ttext\nu1\tthe cosa is\nu2\tella dijo nada más\nu3\tgood bye\n"


def written(folder, name: str, content: str):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path):
    return written(tmp_path, "ref.tsv", REFERENCE), written(tmp_path, "hyp.tsv", HYPOTHESIS)


def scored(capsys, *arguments: str) -> dict:
    assert main(["score", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def failed(capsys, *arguments: str) -> str:
    assert main(["score", *arguments]) == 2
    printed = capsys.readouterr()
    assert not printed.out and printed.err.count("\n") == 1
    return printed.err


def test_every_measure_of_a_list(files, capsys):
    result = scored(capsys, *files)
    references = ["the casa is old", "Ella dijo nada", "good bye"]
    hypotheses = ["the cosa is", "ella dijo nada más", "good bye"]
    assert result["wer"] == jiwer.wer(references, hypotheses) == result["mer"]
    assert result["cer"] == jiwer.cer(references, hypotheses)
    assert result["wer_by_language"] == {"en": 1 / 5, "es": 3 / 4}  # Ella is heard in lower case, más is inserted
    assert (result["matrix_language"], result["points_of_interest"], result["pier"]) == ("en", ["es"], 3 / 4)
    assert result["pier_as_published"] == 1  # of casa alone: all words of Ella dijo nada are points of interest
    assert result["switch_points"]["boundary_error"] == 1
    assert result["switch_points"]["word_error"] == 1 / 3
    assert result["switch_points"]["word_error_by_distance"] == {"1": 1 / 3, "2": 1.0, "3": None}
    assert result["cmi"] == pytest.approx(25 / 3) and result["cmi_switched"] == 25
    squares = (5 / 9) ** 2 + (4 / 9) ** 2
    assert result["m_index"] == pytest.approx((1 - squares) / squares)
    assert result["i_index"] == pytest.approx(2 / 6)
    assert result["deletion_share"] == 1 / 9 and result["hallucination_share"] == 0
    assert result["substitutions_across_languages"] == {"within": 0, "across": 0, "unknown": 2}
    counts = {"hits": 6, "substitutions": 2, "deletions": 1, "insertions": 1, "errors": 4, "reference": 9}
    assert result["counts"]["wer"] == counts
    bins = [(row["above"], row["up_to"], row["utterances"], row["wer"]) for row in result["wer_by_cmi"]]
    assert bins == [(None, 0, 2, 2 / 5), (20, 30, 1, 2 / 4)]


def test_points_of_interest_and_neutral_tags_are_a_choice(files, tmp_path, capsys):
    assert scored(capsys, *files, "--poi", "en")["pier"] == 1 / 5
    assert scored(capsys, *files, "--poi", "en", "--poi", "es")["pier"] == 4 / 9
    tags = "EN EN HI HI UNIV UNIV HI HI EN EN EN HI HI"
    reference = written(tmp_path, "tags.tsv", f"id\ttext\ttoken_languages\nu\t{' '.join('abcdefghijklm')}\t{tags}\n")
    hypothesis = written(tmp_path, "tags.txt", f"u {' '.join('abcdefghijklm')}\n")
    result = scored(capsys, reference, hypothesis, "--neutral", "UNIV")
    assert result["cmi"] == pytest.approx(45.4545, abs=1e-4) and result["m_index"] == pytest.approx(60 / 61)
    assert result["counts"]["switch_boundary"]["reference"] == 3
    assert scored(capsys, reference, hypothesis)["counts"]["switch_boundary"]["reference"] == 5
    assert "--poi fr: no reference word has this tag; it has en, es" in failed(capsys, *files, "--poi", "fr")


def test_nothing_is_normalised_unless_asked_for(tmp_path, capsys):
    reference = written(
        tmp_path, "ref.tsv", "id\ttext\ttokens\ttoken_languages\nu\tIŞIK, Ella!\tIŞIK , Ella !\ttr zxx es zxx\n"
    )
    hypothesis = written(tmp_path, "hyp.tsv", "id\ttext\nu\tışık  ella\n")
    raw = scored(capsys, reference, hypothesis)
    assert (raw["wer"], raw["wer_raw"]) == (1, None)
    assert raw["wer_by_language"] == {"es": 1, "tr": 1}  # a mark that hangs on a word has no language of its own
    normalised = scored(capsys, reference, hypothesis, "--text", "tr")
    assert (normalised["wer"], normalised["cer"], normalised["wer_raw"]) == (0, 0, 1)
    assert normalised["wer_by_language"] == {"es": 0, "tr": 0}


def test_every_format_says_the_same(files, tmp_path, capsys):
    wanted = scored(capsys, *files)
    rows = [dict(zip(("id", "text"), line.split("\t"), strict=True)) for line in HYPOTHESIS.splitlines()[1:]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hyp.parquet")
    kaldi = written(tmp_path, "hyp.txt", "".join(f"{row['id']}  {row['text']}\n" for row in rows))
    lines = [
        f"{row['id']} 1 {10 - i:.2f} 0.5 {word} 0.9" for row in rows for i, word in enumerate(row["text"].split()[::-1])
    ]
    ctm = written(tmp_path, "hyp.ctm", ";; a comment\n" + "\n".join(lines) + "\n")
    for path in (str(tmp_path / "hyp.parquet"), kaldi, ctm):
        assert scored(capsys, files[0], path) == wanted
    references = [
        dict(zip(REFERENCE.splitlines()[0].split("\t"), line.split("\t"), strict=True))
        for line in REFERENCE.splitlines()[1:]
    ]
    for row in references:
        row["token_languages"] = row["token_languages"].split()
    pq.write_table(pa.Table.from_pylist(references), tmp_path / "ref.parquet")
    assert scored(capsys, str(tmp_path / "ref.parquet"), kaldi) == wanted


def test_tags_of_hypotheses_come_first(tmp_path, capsys):
    reference = written(tmp_path, "ref.tsv", "id\ttext\ttoken_languages\nu\tthe casa\ten es\n")
    hypothesis = written(tmp_path, "hyp.tsv", "id\ttext\ttoken_languages\nu\tdie cosa\tde es\n")
    untagged = written(tmp_path, "hyp.txt", "u die cosa\n")
    result, without = scored(capsys, reference, hypothesis), scored(capsys, reference, untagged)
    assert result["substitutions_across_languages"] == {"within": 1, "across": 1, "unknown": 0}
    assert without["substitutions_across_languages"] == {"within": 0, "across": 0, "unknown": 2}
    assert (result["hypothesis_mixing"]["cmi"], without["hypothesis_mixing"]["cmi"]) == (50, None)
    assert result["counts"] == without["counts"]


def test_channels_of_a_ctm_are_utterances(tmp_path, capsys):
    both = "call A 0.0 0.5 hello\ncall B 0.2 0.5 yes\ncall A 0.7 0.5 there\n"
    reference, hypothesis = written(tmp_path, "ref.ctm", both), written(tmp_path, "hyp.ctm", "call A 0 1 hello\n")
    result = scored(capsys, reference, hypothesis, "--missing", "empty")
    assert result["utterances"] == 2 and result["counts"]["wer"]["deletions"] == 2
    for mark in "-_.":
        named = written(tmp_path, "ref.txt", f"call{mark}A hello there\ncall{mark}B yes\n")
        assert scored(capsys, named, reference)["wer"] == 0
    alone = written(tmp_path, "alone.txt", "call hello there\n")
    assert (
        "hyp2.ctm, line 1: 'call' has 2 channels, but one reference; references of channels are named like 'call-A'"
        in (failed(capsys, alone, written(tmp_path, "hyp2.ctm", both)))
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis", "message"),
    [
        (
            REFERENCE,
            "id\ttext\nu1\ta\nu2\tb\n",
            "ref.tsv, line 4: 'u3' is not in {hyp}; add them, or count them as empty",
        ),
        (REFERENCE, HYPOTHESIS + "u4\ta\n", "hyp.tsv, line 5: 'u4' is not in {ref}"),
        (REFERENCE, HYPOTHESIS + "u1\ta\n", "hyp.tsv, line 5: 'u1' is in line 2 already"),
        (REFERENCE, "id\ttranscript\nu1\ta\n", "hyp.tsv: no column 'text', only 'id', 'transcript'"),
        (REFERENCE, "id\ttext\nu1\ta\tb\n", "hyp.tsv, line 2: 3 cells, but the header has 2"),
        (REFERENCE, "id\ttext\n\ta\n", "hyp.tsv, line 2: the id is empty"),
        (REFERENCE, "id\ttext\n", "hyp.tsv: no utterances"),
        (
            "id\ttext\ttoken_languages\nu1\ta b\ten\n",
            "id\ttext\nu1\ta\n",
            "ref.tsv, line 2: 2 tokens, but 1 language tags",
        ),
        (
            "id\ttext\ttokens\ttoken_languages\nu1\ta b\ta c\ten es\n",
            "id\ttext\nu1\ta\n",
            "ref.tsv, line 2: the tokens are not the words of the text",
        ),
        ("id\ttext\ttokens\nu1\ta b\ta b\n", "id\ttext\nu1\ta\n", "ref.tsv: tokens without token_languages"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_line(reference, hypothesis, message, tmp_path, capsys):
    paths = {"ref": written(tmp_path, "ref.tsv", reference), "hyp": written(tmp_path, "hyp.tsv", hypothesis)}
    assert message.format(**paths) in failed(capsys, *paths.values())


def test_files_that_cannot_be_read_are_named(files, tmp_path, capsys):
    assert "nothing.tsv: no such file" in failed(capsys, files[0], str(tmp_path / "nothing.tsv"))
    (tmp_path / "latin.txt").write_bytes("u1 niño\n".encode("latin-1"))
    assert "latin.txt: not UTF-8 text" in failed(capsys, files[0], str(tmp_path / "latin.txt"))
    broken = written(tmp_path, "broken.parquet", "no parquet")
    assert "broken.parquet: not a parquet file that can be read" in failed(capsys, files[0], broken)
    ctm = written(tmp_path, "bad.ctm", "u1 1 zero 0.5 the\n")
    assert "bad.ctm, line 1: not a line of CTM" in failed(capsys, files[0], ctm)
    assert "--text 'english language': not a language tag" in failed(capsys, *files, "--text", "english language")


def test_the_table_has_intervals_in_closed_form(files, capsys):
    assert main(["score", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 utterances; intervals are over utterances"
    (line,) = [line for line in lines if line.startswith("word error rate  ")]
    # The delta method on the log of a ratio: errors 2, 2, 0 of words 4, 3, 2 in three utterances, t with 2 degrees.
    influence = np.array([2, 2, 0]) / 4 - np.array([4, 3, 2]) / 9
    half = stats.t.ppf(0.975, 2) * math.sqrt(1.5 * (influence**2).sum())
    low, high = (100 * 4 / 9 * math.exp(sign * half) for sign in (-1, 1))
    assert line.split()[3:] == ["44.44", "%", f"{low:.1f}", "to", f"{high:.1f}", "4", "2", "1", "1", "9"]
    assert any(line.startswith("Most words are en; points of interest are es.") for line in lines)


def test_sentences_written_as_one_word_have_languages_but_no_words_of_one(tmp_path, capsys):
    reference = written(
        tmp_path, "ref.tsv", "id\ttext\ttokens\ttoken_languages\nu\t我想去shopping\t我想去 shopping\tzh en\n"
    )
    hypothesis = written(tmp_path, "hyp.tsv", "id\ttext\nu\t我想去 shopping\n")
    assert main(["score", reference, hypothesis]) == 0
    printed = capsys.readouterr().out
    assert "Most words are zh" in printed and "Substituted words" not in printed


def test_nothing_is_said_of_languages_without_tags(tmp_path, capsys):
    reference, hypothesis = written(tmp_path, "ref", "u1 a b\n"), written(tmp_path, "hyp", "u1 a\n")
    result = scored(capsys, reference, hypothesis)
    for key in ("pier", "cmi", "m_index", "i_index", "matrix_language", "substitutions_across_languages"):
        assert result[key] is None
    assert result["wer_by_language"] == {} and result["switch_points"]["word_error"] is None
    assert main(["score", reference, hypothesis]) == 0
    assert "The references have no language tags" in capsys.readouterr().out


def test_intervals_are_over_speakers_where_they_are_known(tmp_path, capsys):
    reference = written(tmp_path, "ref.tsv", "id\ttext\tspeaker\nu1\ta b\tann\nu2\ta b\tben\nu3\ta b\tben\n")
    assert main(["score", reference, written(tmp_path, "hyp.txt", "u1 a\nu2 a b\nu3 c d\n")]) == 0
    assert "3 utterances; intervals are over speakers" in capsys.readouterr().out
    errors, words = np.array([1, 0, 2]), np.array([2, 2, 2])
    assert rate_interval(errors, words, np.array([0, 1, 1]), 0.95) != rate_interval(errors, words, np.arange(3), 0.95)
    assert rate_interval(errors, words, np.zeros(3, int), 0.95) is None
    assert rate_interval(np.ones(3), words, np.arange(3), 0.95) is None
