"""The report: what it claims, what it fetches (nothing), and what it does with odd input."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headstart
from headstart.files import write_json
from headstart.report import tables
from headstart.report.charts import start_styles
from headstart.report.page import page_of, settings, write_report
from headstart.report.selection import choice
from headstart.report.sentences import (
    answer,
    change,
    claim_sentences,
    decimal,
    decimals,
    duration,
    mixing_sentences,
    points,
    rate,
    span,
    verdict,
)
from headstart.report.utterances import marked_words, samples
from headstart.score.alignment import align_words
from headstart.score.score_file import score_columns
from headstart.study.reading import load_study
from headstart.study.selection import Select
from headstart.study.study import Study
from headstart.summarise.summary import summarise
from headstart.summarise.tables import representation_path, run_folder, score_path

WORDS = "habari ya leo mimi ninaenda sokoni kununua matunda na mboga kwa watoto wangu wapendwa".split()
BETTER = {"scratch": 1.0, "xlsr": 0.55, "ssl-mono": 0.75, "ssl-multi": 0.6}


def study_of(**changes) -> Study:
    """Four starts, one target, one budget, four seeds."""
    data = {
        "study": "tiny",
        "title": "Swahili from a little audio",
        "question": "Does pre-training help?",
        "corpora": {"sw": {"reader": "folder", "path": "sw", "language": "sw"}},
        "starts": {
            "scratch": {"kind": "scratch"},
            "ssl-mono": {"kind": "ssl", "corpora": {"sw": 1.5}},
            "ssl-multi": {"kind": "ssl", "from": "ssl-mono", "corpora": {"sw": 3}},
            "xlsr": {"kind": "hub", "path": "models/xlsr"},
        },
        "targets": {"swahili": {"corpus": "sw", "kind": "in-domain"}},
        "budgets": ["10min"],
        "seeds": [1, 2, 3, 4],
        "contrasts": [{"treatment": "ssl-multi", "baseline": "ssl-mono"}],
        "claims": [
            {"claim": "More audio helps.", "treatment": "ssl-multi", "baseline": "ssl-mono", "size": -0.4},
            {"claim": "It helps elsewhere.", "treatment": "xlsr", "baseline": "scratch", "kinds": ["cross-lingual"]},
        ],
        "analyse": {},
        "report": {"samples": 3},
    }
    return Study.model_validate({**data, **changes})


def garbled(rng, words, error):
    """Words with letters changed, words lost and words added, more of them with a higher `error`."""
    heard = []
    for word in words:
        chance = rng.random()
        if chance > error:
            heard.append(word)
        elif chance > 0.35 * error:
            i = rng.integers(len(word))
            heard.append(word[:i] + "aeioktm"[rng.integers(7)] + word[i + 1 :])
        elif chance < 0.1 * error:
            heard += [word, "ni"]
    return heard


def fabricate(results: Path, study: Study, utterances: int = 30, mixed: bool = False) -> None:
    """Score files, curves and recipes of every run of a study, better for some starts than for others."""
    for start, target, budget, seed in study.runs():
        rng = np.random.default_rng([seed, *map(ord, start + target + budget)])
        error = 0.5 * BETTER.get(start, 0.8) * (1 + 0.3 * list(study.targets).index(target))
        error /= 1 + 0.5 * study.budgets.index(budget)
        test, rows = np.random.default_rng(7), []
        for i in range(utterances):
            words = list(test.choice(WORDS, size=test.integers(3, 12)))
            reference, hypothesis = (
                " ".join(words),
                " ".join(garbled(rng, words, error * test.uniform(0.3, 1.7))),
            )
            row = {"utterance_id": f"u{i:03d}", "speaker": f"s{i % 4}", "language": "sw", "duration_s": 2.5}
            if mixed:  # every other run of three words is Spanish, and a language model mends half of the errors
                row["word_languages"] = [("sw", "es")[(i + place) // 3 % 2] for place in range(len(words))]
                row["language_source"] = "corpus"
            better = " ".join(garbled(rng, words, 0.5 * error)) if mixed else None
            rows.append({**row, **score_columns(reference, hypothesis, better)})
        write_table(score_path(results, study.study, (start, target, budget, seed)), rows)
        steps = np.arange(20, 601, 20)
        cer = 0.12 * error + 0.9 * np.exp(-steps / (140 * BETTER.get(start, 0.8))) + 0.01 * rng.random(len(steps))
        curve = [
            {"step": int(s), "audio_hours_seen": s * 24 / 3600, "wall_s": s * 0.3, "flops": 1e9 * s}
            | {"train_loss": 2 * float(c), "dev_wer": min(1.0, 2.2 * float(c)), "dev_cer": float(c)}
            for s, c in zip(steps, cer, strict=True)
        ]
        folder = run_folder(results, study.study, (start, target, budget, seed))
        write_table(folder / "curve.parquet", curve)
        rejected = [{"utterance_id": "u999", "reason": "the transcript has 90 characters, the audio 40 frames"}]
        recipe = {
            "stage": "finetune",
            "data": {"train_utterances": 200, "rejected": rejected, "unseen_characters": "ñ"},
            "versions": {"torch": "2.11.0", "python": "3.11.2"},
            "machine": {"cpu": "a fast one", "cores": 2, "device": "cpu"},
            "wall_s": 181.5,
            "parameters": 3_456_789,
        }
        (folder / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
    for start in study.analysed():
        for target in study.targets:
            for budget in study.budgets:
                fabricate_similarities(
                    representation_path(results, study.study, start, target, budget), study.seeds, BETTER[start]
                )
    for pace, start in ((900, "ssl-mono"), (500, "ssl-multi")):
        if start in study.starts:
            rows = [
                {"step": s, "audio_hours_seen": s / 75, "wall_s": s * 0.5, "flops": 2e9 * s}
                | {"train_loss": 4.6 * np.exp(-s / pace) + 0.1, "contrastive_loss": 4.6 * np.exp(-s / pace)}
                | {"diversity_loss": 0.5, "perplexity": 20 + s / 30, "accuracy": 1 - np.exp(-s / pace)}
                for s in range(50, 1001, 50)
            ]
            write_table(results / study.study / "starts" / start / "curve.parquet", rows)


def fabricate_similarities(path: Path, seeds: list[int], distance: float) -> None:
    """Four layers, the deeper the less alike, and the less with a larger `distance`."""
    rng = np.random.default_rng(int(1000 * distance))
    rows = []
    for layer in range(5):
        for seed in seeds:
            for measure, scale in (("pwcca", 0.5), ("svcca", 0.6), ("cka", 0.8)):
                value = 1 - scale * distance * (layer / 4) ** 2 * rng.uniform(0.9, 1.1)
                replicates = (value + 0.02 * layer * rng.standard_normal(40)).tolist()
                row = {"layer": layer, "seed": seed, "measure": measure}
                rows.append({**row, "similarity": value, "replicates": replicates})
    write_table(path, rows)


def write_table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


CORPORA = [
    {"corpus": "sw", "split": "train", "utterances": 1200, "hours": 1.5, "speakers": 12, "rejected": 3, "leaks": {}},
    {
        "corpus": "sw",
        "split": "test",
        "utterances": 30,
        "hours": 0.02,
        "speakers": None,
        "rejected": 0,
        "leaks": {"recordings": 1, "sentences": 7},
    },
]

TEXTS = [
    {
        "corpus": "sw",
        "split": "train",
        "mismatched": 4,
        "dropped": "- 2, , 1",
        "joined": "",
        "split_on": "- 2 (a-b)",
    }
    | {"tags": "[UNK] 3", "tags_dropped": "(uh) 1", "rare": "ñ 1"},
]
INFERRED = [
    {"target": "mixed", "languages": ["qu", "es"], "source": "words", "accuracy": 0.97, "measured_on": "some words"},
    {"target": "zh-en", "languages": ["zh", "en"], "source": "script", "accuracy": None, "measured_on": ""},
]


def written(study: Study, results: Path) -> tuple[dict, str]:
    """The summary of fabricated results, and the page."""
    summary = summarise(study, results)
    output = results / "report.html"
    write_report(study, summary, results, CORPORA, output, texts=TEXTS, inferred=INFERRED)
    return summary, output.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tables by id, as lists of rows of cell texts, and every attribute that could fetch something."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.addresses: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self._table = self._cell = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.addresses += [attributes[key] for key in ("src", "href", "data", "action") if key in attributes]
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id", ""), [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            # Runs of white space are one space; the no-break space in an interval stays.
            self._table[-1].append(re.sub(r"[ \n]+", " ", self._cell).strip())
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    study = study_of()
    fabricate(results, study)
    return study, results, *written(study, results)


def test_the_numbers_of_the_page_are_those_of_the_summary(tiny):
    study, _, summary, text = tiny
    tables = Page(text).tables
    cells = {row["start"]: row for row in summary["cells"]}
    assert tables["rate-table"][0][3:] == ["CER", "WER"]
    shown = {row[2]: row[3:] for row in tables["rate-table"][1:]}
    assert shown == {
        start: [
            f"{rate(c['cer'])} {span(c['cer_low'], c['cer_high'])}",
            f"{rate(c['wer'])} {span(c['wer_low'], c['wer_high'])}",
        ]
        for start, c in cells.items()
    }
    contrasts = {(r["treatment"], r["baseline"]): r for r in summary["contrasts"] if r["metric"] == "cer"}
    assert tables["difference-table"][0][4::3] == ["CER", "WER"]
    rows = {(row[2], row[3]): row[4:7] for row in tables["difference-table"][1:]}
    assert rows == {
        pair: [
            points(r["difference"]),
            f"{change(r['relative'])} {span(r['relative_low'], r['relative_high'], signed=True)}",
            verdict(r),
        ]
        for pair, r in contrasts.items()
    }
    assert "recordings 1, sentences 7" in text
    assert "- 2 (a-b)" in text and "spelt as words: [UNK] 3; dropped: (uh) 1" in text and "ñ 1" in text
    assert "(qu or es) is inferred by lists of words. That is right for 97.0% of some words" in text
    assert "(zh or en) is inferred by its script. Nothing here measures how often" in text
    assert "the tagged tokens of 4 utterances are not those of the transcript" in text
    updates = {row[2]: row[4] for row in tables["convergence-table"][1:]}
    assert updates == {r["start"]: f"{r['updates']:,.1f}".removesuffix(".0") for r in summary["convergence"]}
    speeds = {(row[2], row[3]): row[4:] for row in tables["speed-table"][1:]}
    assert speeds == {
        (r["treatment"], r["baseline"]): [
            f"{r['speedup']:.2f} [{r['low']:.2f},\N{NO-BREAK SPACE}{r['high']:.2f}]",
            verdict(r),
        ]
        for r in summary["speed"]
        if r["quantity"] == "updates"
    }


def test_claims_come_with_their_verdicts_and_what_they_rest_on(tiny):
    study, _, summary, text = tiny
    first, second = summary["claims"]
    sentences = claim_sentences(study, summary, first)
    assert f"95% interval {span(first['low'], first['high'], signed=True)}" in sentences[0]
    assert sentences[1].startswith("The source reports \N{MINUS SIGN}40.0%, which is ")
    assert claim_sentences(study, summary, second) == ["Not tested: the study has no cross-lingual target."]
    assert text.index("The answer</h2>") < text.index("Claims</h2>") < text.index("Error rates on the test sets</h2>")
    for claim in summary["claims"]:
        assert claim["statement"] in text and f'class="claim {claim["verdict"].replace(" ", "-")}"' in text
    assert text.count('class="interval"') == 1


def test_every_number_leads_to_the_utterances_behind_it(tiny):
    study, results, _, text = tiny
    links = {a["href"] for tag, a in Page(text).tags if tag == "a" and a["href"].startswith("utterances/")}
    assert links == {f"utterances/{start}/swahili/10min.html" for start in study.starts}
    page = (results / "tiny/utterances/xlsr/swahili/10min.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<article class="utterance" id="u\d+">', page)) == 30
    assert page.count("<dt>seed 3 ") == 30
    (results / "tiny/report.html").write_text("")
    assert (results / "tiny/utterances/xlsr/swahili" / Page(page).addresses[-1]).resolve() == (
        results / "tiny/report.html"
    ).resolve()


def test_what_fine_tuning_changes_is_shown_as_in_the_summary(tiny):
    _, _, summary, text = tiny
    tables = Page(text).tables
    assert {row[2]: row[3] for row in tables["gap-table"][1:]} == {
        r["start"]: f"{decimal(r['gap'])} {decimals(r['low'], r['high'])}" for r in summary["representation_gap"]
    }
    assert tables["gap-difference-table"][1:] == [
        [r["target"], r["budget"], r["treatment"], r["baseline"]]
        + [f"{decimal(r['difference'], True)} {decimals(r['low'], r['high'], True)}", verdict(r)]
        for r in summary["representation_contrasts"]
    ]
    assert [row[2:4] for row in tables["gap-difference-table"][1:]] == [["ssl-multi", "ssl-mono"]]
    assert tables["layer-table"][0][3:] == ["Layer", "PWCCA", "SVCCA", "linear CKA"]
    assert len(tables["layer-table"]) == 1 + 3 * 5
    row = next(r for r in tables["layer-table"] if r[2:4] == ["xlsr", "4"])
    (cka,) = [r for r in summary["representation"] if (r["start"], r["layer"], r["measure"]) == ("xlsr", 4, "cka")]
    assert row[6] == f"{decimal(cka['similarity'])} {decimals(cka['low'], cka['high'])}"
    assert "Similarity to the start by layer, swahili, 10min: ssl-mono layer 0 1.000" in text


def test_errors_where_languages_meet_are_shown_with_and_without_a_language_model(tmp_path):
    study = study_of(
        targets={"mixed": {"corpus": "sw", "kind": "code-switched"}},
        claims=[
            {"claim": "It helps with Spanish.", "treatment": "xlsr", "baseline": "scratch", "metric": "wer_lm[es]"},
            {"claim": "It helps at switches.", "treatment": "xlsr", "baseline": "scratch", "metric": "switch_boundary"},
        ],
    )
    fabricate(tmp_path, study, mixed=True)
    summary, page = written(study, tmp_path)
    assert [row["verdict"] for row in summary["claims"]] == ["supported", "supported"]
    (mixing,) = summary["mixing"]
    assert (
        mixing["target"] == "mixed" and set(mixing["languages"]) == {"sw", "es"} and set(mixing["source"]) == {"corpus"}
    )
    (section,) = tables.code_switching(study, summary)
    assert list(section["tables"]) == ["without a language model", "with a language model"]
    titles = [row["title"] for row in section["tables"]["with a language model"]]
    assert "word error rate of es" in titles and "point-of-interest error rate" in titles
    (cell,) = [cell for cell in summary["cells"] if cell["start"] == "xlsr"]
    for name in ("wer[es]", "wer_lm[es]", "pier", "switch_word", "switch_boundary_lm", "wer_cmi[40]"):
        assert cell[f"{name}_low"] < cell[name] < cell[f"{name}_high"]
        assert f"{rate(cell[name])}</a> <small>{span(cell[f'{name}_low'], cell[f'{name}_high'])}" in html.unescape(page)
    assert cell["wer_lm"] < cell["wer"]
    pages = (tmp_path / "tiny/utterances/xlsr/mixed/10min.html").read_text()
    assert (
        page.count("with a language model <small>") == 3 * 4 and pages.count("with a language model <small>") == 30 * 4
    )
    assert "tagged in the corpus" in page and 'href="#code-switching"' in page


def test_a_target_that_switches_between_utterances_only_is_described(tmp_path):
    row = {"languages": {"en": 2, "zh": 3}, "source": {"corpus": 5}, "cmi": 0.0, "cmi_switched": None}
    (_, index) = mixing_sentences({**row, "i_index": 0.0})
    assert index.startswith("The code-mixing index is 0 (the mean over utterances; none switches), and 0")
    assert mixing_sentences({**row, "i_index": None})[1].endswith("none switches).")


def test_a_study_without_analysis_says_nothing_of_it(tmp_path):
    study = study_of(analyse=None)
    fabricate(tmp_path, study)
    _, text = written(study, tmp_path)
    assert "What fine-tuning changes" not in text and 'href="#representation"' not in text


def test_run_times_come_from_recipes_and_else_from_curves(tiny):
    *_, text = tiny
    rows = {(row[0], row[1]): row[2:] for row in Page(text).tables["time-table"][1:]}
    assert rows["fine-tuning", "xlsr"] == ["3,456,789", "4", "3 min 02 s", "12 min 06 s", "–"]
    assert rows["pre-training", "ssl-mono"] == ["–", "1", "8 min 20 s", "8 min 20 s", "–"]


def test_the_page_fetches_nothing(tiny):
    *_, text = tiny
    page = Page(text)
    beside = ("#", "data:,", "utterances/", "comparisons/")  # the page's own parts and what lies with it
    assert [address for address in page.addresses if not address.startswith(beside)] == []
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(", text.split("</style>")[0])
    specs = re.search(r"const specs = (.*);", text).group(1)
    assert "http" not in specs and "$schema" not in specs
    assert len(text) < 2_500_000


def test_the_page_is_accessible(tiny):
    *_, text = tiny
    tags = Page(text).tags
    assert ("html", {"lang": "en"}) in tags
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    drawn = [attributes for tag, attributes in tags if "data-chart" in attributes]
    assert drawn and all(attributes["role"] == "img" and attributes["aria-label"] for attributes in drawn)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for t, a in tags if t == "a" and a["href"].startswith("#")} <= set(ids)


def test_the_answer_names_the_best_start_and_how_sure_that_is(tiny):
    study, _, summary, text = tiny
    best = min(summary["cells"], key=lambda row: row["cer"])
    given = answer(study, summary, "swahili", "10min")
    assert given["best"] == best["start"]
    assert given["rate"] == rate(best["cer"]) and given["other"].startswith(f"WER: {rate(best['wer'])} ")
    assert re.search(r"lower than scratch .*: clearly lower \(p [<=] 0\.\d+ after adjustment", given["sentences"][0])
    assert "clearly worse" in given["sentences"][1]
    assert "times as fast as scratch [" in given["sentences"][2]
    assert given["notes"][1].startswith("ssl-multi against ssl-mono")
    for sentence in given["sentences"] + given["notes"]:
        assert html.escape(sentence).replace("&#x27;", "&#39;") in text


def test_the_page_prints_the_verdicts_of_the_summary(tiny, tmp_path):
    """Whatever the intervals are: they are judged once, in the summary."""
    study, results, summary, _ = tiny
    judged = json.loads(json.dumps(summary))
    keys, words = ("higher", "unclear", "lower"), ("clearly higher", "unclear", "clearly lower")
    for row, key in zip(judged["contrasts"], keys * len(judged["contrasts"]), strict=False):
        row["verdict"] = key
    judged["representation_contrasts"][0]["verdict"] = "higher"
    write_report(study, judged, results, CORPORA, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    tables = Page(text).tables
    shown = {(row[2], row[3]): (row[6], row[9]) for row in tables["difference-table"][1:]}
    in_words = {
        (row["treatment"], row["baseline"], row["metric"]): words[keys.index(row["verdict"])]
        for row in judged["contrasts"]
    }
    assert shown == {pair: (in_words[*pair, "cer"], in_words[*pair, "wer"]) for pair in shown}
    assert [row[5] for row in tables["gap-difference-table"][1:]] == ["clearly higher"]
    best = answer(study, judged, "swahili", "10min")
    assert f": {in_words[best['best'], 'scratch', 'cer']} (p" in best["sentences"][0]
    bold = sum(attributes == {"class": "clear"} for tag, attributes in Page(text).tags if tag == "td")
    fast = sum(row["verdict"] != "unclear" for row in judged["speed"] if row["quantity"] == "updates")
    assert bold == 1 + fast + sum(row["verdict"] != "unclear" for row in judged["contrasts"])
    charts = json.dumps(page_of(study, judged, results, CORPORA)["charts"])
    assert all(charts.count(f'"verdict": "{text}"') == list(in_words.values()).count(text) for text in words)


def test_the_answer_does_not_call_an_unclear_difference_clear(tiny):
    study, _, summary, _ = tiny
    unclear = json.loads(json.dumps(summary))
    for row in unclear["contrasts"]:
        row |= {"p_adjusted": 0.2, "verdict": "unclear"}
    sentence = answer(study, unclear, "swahili", "10min")["sentences"][0]
    assert "unclear (p = 0.20 after adjustment" in sentence
    assert "clearly" not in sentence


def test_the_answer_when_the_baseline_is_best_or_never_reached(tiny):
    study, _, summary, _ = tiny
    other = json.loads(json.dumps(summary))
    for row in other["best"]:
        row |= {"start": "scratch", "rivals": ["xlsr"]}
    for row in other["speed"]:
        row["bound"] = "none"
    given = answer(study, other, "swahili", "10min")
    assert given["best"] == "scratch"
    assert given["sentences"] == [
        "This is the baseline: no other start has a lower CER.",
        "xlsr is not clearly worse and may be as good.",
    ]
    for row in other["best"]:
        row["start"] = "xlsr"
    assert "too few seeds" in answer(study, other, "swahili", "10min")["sentences"][2]


def test_the_answer_is_by_the_metric_of_the_study(tiny):
    _, results, summary, _ = tiny
    by_wer = study_of(report={"metric": "wer", "samples": 3})
    summary = json.loads(json.dumps(summarise(by_wer, results)))
    for row in summary["best"]:
        row["start"] = "scratch" if row["metric"] == "wer" else row["start"]
    for row in summary["cells"]:
        row["wer"] = 0.001 if row["start"] == "scratch" else row["wer"]
    given = answer(by_wer, summary, "swahili", "10min")
    assert (given["best"], given["rate"]) == ("scratch", "0.1%")
    assert given["notes"][0].startswith("Other starts against scratch, by WER: ")


def test_markup_in_a_hypothesis_and_a_name_stays_text(tmp_path):
    study = study_of(title="<b>bold</b> & co")
    fabricate(tmp_path, study)
    attack = "<script>alert(1)</script> <img src=x onerror=alert(2)>"
    path = score_path(tmp_path, "tiny", ("xlsr", "swahili", "10min", 1))
    rows = [{**row, **score_columns(row["reference"], attack)} for row in read(path)]
    write_table(path, [{**row, "utterance_id": "</script>" + row["utterance_id"]} for row in rows])
    for start, target, budget, seed in study.runs():
        path = score_path(tmp_path, "tiny", (start, target, budget, seed))
        ids = [row["utterance_id"].removeprefix("</script>") for row in read(path)]
        write_table(path, [{**r, "utterance_id": "</script>" + i} for r, i in zip(read(path), ids, strict=True)])
    _, text = written(study, tmp_path)
    assert "<script>alert" not in text and "<img src=x" not in text and "<b>bold" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert [tag for tag, _ in Page(text).tags].count("script") == 2


def read(path: Path) -> list[dict]:
    return pq.read_table(path).to_pylist()


def test_samples_spread_over_difficulty_and_show_every_start(tiny):
    study, results, *_ = tiny
    (sample,) = samples(study, results)
    difficulty = [float(item["difficulty"].rstrip("%")) for item in sample["utterances"]]
    assert len(difficulty) == 3 and difficulty == sorted(difficulty) and difficulty[0] < difficulty[-1]
    for item in sample["utterances"]:
        assert [h["start"] for h in item["hypotheses"]] == list(study.starts)
    assert samples(study, results) == samples(study, results)


def test_samples_are_all_there_is_when_that_is_few(tmp_path):
    study = study_of(report={"samples": 10})
    fabricate(tmp_path, study, utterances=2)
    (sample,) = samples(study, tmp_path)
    assert sorted(item["utterance_id"] for item in sample["utterances"]) == ["u000", "u001"]


def test_words_are_marked_by_their_alignment():
    assert marked_words("a b c d", "a x c d e", "HSHHI") == [
        {"kind": "hit", "text": "a"},
        {"kind": "substitution", "text": "x", "reference": "b"},
        {"kind": "hit", "text": "c"},
        {"kind": "hit", "text": "d"},
        {"kind": "insertion", "text": "e"},
    ]
    assert [word["kind"] for word in marked_words("a b", "", "DD")] == ["deletion", "deletion"]
    assert [word["kind"] for word in marked_words("", "a", "I")] == ["insertion"]
    texts = "नमस्ते दुनिया", "नमस्ते दुनीया"
    assert marked_words(*texts, align_words(*texts))[1]["reference"] == "दुनिया"


def test_samples_are_marked_by_the_alignment_of_the_score_file(tiny, tmp_path):
    """The report aligns nothing itself: where the score file has another alignment, it shows that one."""
    study, results, *_ = tiny
    shutil.copytree(results / study.study / "scores", tmp_path / study.study / "scores")
    for run in study.runs():
        path = score_path(tmp_path, study.study, run)
        sides = [(len(row["reference"].split()), len(row["hypothesis"].split())) for row in read(path)]
        rows = zip(read(path), sides, strict=True)
        write_table(path, [{**row, "word_alignment": "D" * of + "I" * said} for row, (of, said) in rows])
    (sample,) = samples(study, tmp_path)
    words = [word for item in sample["utterances"] for hypothesis in item["hypotheses"] for word in hypothesis["words"]]
    assert {word["kind"] for word in words} == {"deletion", "insertion"}


def test_the_report_and_the_summary_do_without_jiwer():
    program = "import sys, headstart.report.page, headstart.summarise.summary; print('jiwer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_tells_of_transcripts_that_a_start_has_had(tmp_path):
    amounts = {"labelled": {"sw": 0.4}, "unlabelled": {"sw": 0.2}}
    starts = {
        "scratch": {"kind": "scratch"},
        "refined": {"kind": "semisup", "from": "scratch", **amounts},
        "more": {"kind": "semisup", "from": "refined", **amounts, "labelled": {"sw": 0.3}},
        "shipped": {"kind": "hub", "path": str(tmp_path / "shipped")},
    }
    study = study_of(starts=starts, contrasts=[], claims=[], analyse=None)
    fabricate(tmp_path, study)
    recipe = {"stage": "semisup", "settings": {"updates": 9}, "data": {**amounts, "utterances": [3, 4]}}
    recipe |= {"version": 2, "seed": 0}
    write_json(tmp_path / "shipped" / "recipe.json", recipe)
    _, text = written(study, tmp_path)
    assert '<td class="basis">sw (0.4 h with transcripts), sw (0.2 h without transcripts)</td>' in text
    assert "9 updates on 0.4 h of sw, transcribed; 0.2 h of sw, untranscribed" in text
    assert "transcripts of the target&#39;s own corpus: refined (0.4 h), more (0.4 h)." in text
    assert "refined, more, shipped were trained once." in text


def test_the_page_says_which_audio_was_selected_for_a_start(tmp_path):
    study = study_of()
    fabricate(tmp_path, study)
    facts = {"utterances": 1234, "hours": 1.5, "mean_seconds": 4.376, "speakers": 7}
    whole = {"utterances": 5678, "hours": 6.25, "mean_seconds": 3.962, "speakers": 9}
    select = {"order": "longest", "by": "clusters", "clusters": 16, "temperature": None}
    recipe = {"stage": "pretrain", "data": {"select": select, "selection": {"sw": {"chosen": facts, "of": whole}}}}
    (instance,) = study.instances("ssl-multi").values()
    write_json(tmp_path / "tiny/starts" / instance / "recipe.json", recipe)
    _, text = written(study, tmp_path)
    how = "equal shares of 16 clusters of similar sound, the longest first"
    assert Page(text).tables["selection-table"][1:] == [
        ["ssl-multi", "sw", how, "1.50 of 6.25", "1,234 of 5,678", "4.4 s all: 4.0 s", "7 of 9"]
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "at random"),
        ({"order": "longest"}, "the longest first"),
        ({"by": "speaker", "order": "longest"}, "equal shares of speakers, the longest first"),
        ({"by": "language", "temperature": 2}, "shares of languages evened out with temperature 2, at random"),
        ({"by": "speaker", "temperature": 1}, "shares of speakers as in the corpus, at random"),
    ],
)
def test_a_selection_is_put_into_words(settings, words):
    assert choice(Select(**settings).model_dump(mode="json")) == words


def test_checkpoints_from_outside_are_listed_with_what_is_known_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    starts = {
        "scratch": {"kind": "scratch"},
        "xlsr": {"kind": "hub", "model": "facebook/wav2vec2-xls-r-300m"},
        "shipped": {"kind": "hub", "path": "mine", "facts": {"hours": 12.5, "languages": ["qxr"], "licence": "mit"}},
        "more": {"kind": "ssl", "from": "xlsr", "corpora": {"sw": 1}},
    }
    study = study_of(starts=starts, contrasts=[], claims=[], analyse=None)
    fabricate(tmp_path, study)
    source = {"model": "facebook/wav2vec2-xls-r-300m", "revision": "main", "commit": "1a640f3" + "0" * 33}
    write_json(tmp_path / "data/models/facebook--wav2vec2-xls-r-300m/main/source.json", source)
    _, text = written(study, tmp_path)
    rows = Page(text).tables["checkpoint-table"]
    published = ["436,000", "128", "at least 18", "apache-2.0", "arXiv 2111.09296"]
    assert [row[0] for row in rows[1:]] == ["xlsr", "shipped"]
    assert rows[1][1] == "facebook/wav2vec2-xls-r-300m (main, commit 1a640f3)"
    assert rows[1][3:7] == published[:4] and rows[1][7].startswith(published[4])
    assert rows[2][1] == "mine" and rows[2][3:] == ["12.5", "qxr", "Quechuan", "mit", "–"]
    assert "<td>facebook/wav2vec2-xls-r-300m</td>" in text  # in the table of all starts


@pytest.mark.parametrize("recipe", ['{"data": ["wikipedia"], "settings": 3}', "[1]", "{", '{"stage": "finetune"}'])
def test_a_recipe_of_another_tool_is_not_believed(recipe, tmp_path):
    """The report would fail on it, after hours of training."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "recipe.json").write_text(recipe)
    starts = {"scratch": {"kind": "scratch"}, "shipped": {"kind": "hub", "path": str(folder)}}
    study = study_of(starts=starts, contrasts=[], claims=[], analyse=None)
    fabricate(tmp_path, study)
    assert written(study, tmp_path)


def test_a_study_of_one_start_and_one_seed(tmp_path):
    study = study_of(starts={"scratch": {"kind": "scratch"}}, contrasts=[], claims=[], seeds=[5])
    fabricate(tmp_path, study)
    _, text = written(study, tmp_path)
    assert "difference-table" not in text and 'id="pretraining"' not in text
    assert "There is one seed" in text


def test_starts_with_different_objectives_are_on_different_axes(tmp_path):
    study = study_of()
    fabricate(tmp_path, study)
    starts, columns = tmp_path / study.study / "starts", ("trivial_loss", "target_variance", "prediction_variance")
    rows = [{"step": s, "regression_loss": 0.8 - s / 400, **dict.fromkeys(columns, 0.8)} for s in (50, 100)]
    write_table(starts / "ssl-multi" / "curve.parquet", rows)
    summary = summarise(study, tmp_path)
    page = page_of(study, summary, tmp_path, CORPORA)
    shown = {}
    for panel in page["pretraining"]:
        text = json.dumps(page["charts"][panel["chart"]]["datasets"])
        shown[panel["title"].split(":")[0]] = {start for start in ("ssl-mono", "ssl-multi") if start in text}
        if panel["title"].startswith("data2vec: share"):
            assert "0.6875" in text  # (0.8 - 100 / 400) / 0.8
    assert shown == {"wav2vec 2.0": {"ssl-mono"}, "data2vec": {"ssl-multi"}}


def fabricate_instances(results: Path, study: Study, start: str, rows: int) -> None:
    """Learning curves of all instances of a start, each of another accuracy and time."""
    for seed, instance in study.instances(start).items():
        curve = [
            {"step": s, "wall_s": 10.0 * seed * s / rows, "contrastive_loss": 4.0 - seed * s / rows / 10}
            | {"diversity_loss": 0.5, "perplexity": 20.0 + s, "accuracy": 0.1 * seed + 0.1 * s / rows}
            for s in range(1, rows + 1)
        ]
        write_table(results / study.study / "starts" / instance / "curve.parquet", curve)


def test_a_start_that_is_trained_for_each_seed_has_a_line_for_each_instance(tmp_path):
    starts = {
        "scratch": {"kind": "scratch"},
        "ssl-mono": {"kind": "ssl", "corpora": {"sw": 1.5}, "per_seed": True},
        "ssl-multi": {"kind": "ssl", "corpora": {"sw": 3}},
    }
    study = study_of(starts=starts, contrasts=[], claims=[])
    fabricate(tmp_path, study)
    fabricate_instances(tmp_path, study, "ssl-mono", rows=3)
    page = page_of(study, summarise(study, tmp_path), tmp_path, CORPORA)
    (panel,) = [panel for panel in page["pretraining"] if "share of masked frames" in panel["title"]]
    rows = [row for rows in page["charts"][panel["chart"]]["datasets"].values() for row in rows]
    ends = {(row["start"], row["seed"]): row["y"] for row in rows if "seed" in row and row["step"] == 3}
    assert ends == {("ssl-mono", seed): pytest.approx(0.1 * seed + 0.1) for seed in study.seeds}
    (mean,) = {row["y"] for row in rows if row["start"] == "ssl-mono" and "seed" not in row and row["step"] == 3}
    assert mean == pytest.approx(0.35)
    (times,) = [row for row in page["times"] if (row["stage"], row["start"]) == ("pre-training", "ssl-mono")]
    assert (times["runs"], times["mean"], times["total"]) == (4, 25.0, 100.0)
    assert page["once"] == ["ssl-multi"]


def test_many_instances_of_long_training_stay_a_small_chart(tmp_path):
    starts = {"scratch": {"kind": "scratch"}, "ssl-mono": {"kind": "ssl", "corpora": {"sw": 1.5}, "per_seed": True}}
    study = study_of(starts=starts, contrasts=[], claims=[], analyse=None, seeds=list(range(20)))
    fabricate(tmp_path, study, utterances=4)
    fabricate_instances(tmp_path, study, "ssl-mono", rows=1000)
    page = page_of(study, summarise(study, tmp_path), tmp_path, CORPORA)
    specs = [page["charts"][panel["chart"]] for panel in page["pretraining"]]
    assert len(specs) == 4  # of 20 lines and their mean each
    assert sum(len(rows) for spec in specs for rows in spec["datasets"].values()) < 5_000
    assert all(max(row["step"] for row in rows) == 1000 for spec in specs for rows in spec["datasets"].values())


def test_curves_and_recipes_may_be_missing(tmp_path):
    study = study_of()
    fabricate(tmp_path, study)
    shutil.rmtree(tmp_path / "tiny" / "runs")
    shutil.rmtree(tmp_path / "tiny" / "starts")
    _, text = written(study, tmp_path)
    assert "No learning curves were found." in text
    assert "no learning curve of scratch" in text


def test_a_large_study_stays_a_small_page(tmp_path):
    study = study_of(
        targets={f"target-{i}": {"corpus": "sw", "kind": "cross-lingual"} for i in range(6)},
        budgets=["10min", "1h", "10h"],
        seeds=[1, 2, 3],
    )
    fabricate(tmp_path, study, utterances=4)
    _, text = written(study, tmp_path)
    assert len(text) < 2_500_000
    assert re.search(r"has the lowest CER on \d+ of 18 combinations of target and label budget", text)


def test_many_starts_have_styles_of_their_own(tmp_path):
    starts = {f"s{i}": {"kind": "scratch"} for i in range(40)}
    styles = start_styles(study_of(starts=starts, baseline="s0", contrasts=[], claims=[], analyse=None)).values()
    assert len({style.colour for style in list(styles)[:16]}) == 16
    assert len({(style.colour, style.shape) for style in styles}) == 40
    sheet = (Path(headstart.__file__).parent / "report/templates/style.css").read_text()
    assert all(sheet.count(f"{style.colour[4:-1]}: #") == 2 for style in styles)  # light and dark


def test_durations_read_well():
    assert [duration(s) for s in (None, 4.21, 59, 190, 18120)] == [
        "–",
        "4.2 s",
        "59 s",
        "3 min 10 s",
        "5 h 02 min",
    ]


CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium to open the page with")
def test_a_browser_draws_every_chart_without_a_word_of_complaint(tiny, tmp_path):
    _, results, _, text = tiny
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync --dump-dom"
    options += " --disable-background-networking --disable-component-update --virtual-time-budget=20000"
    options += " --enable-logging=stderr"
    # No name resolves: a page that asked for anything from a network would say so in its console.
    offline = "--host-resolver-rules=MAP * ~NOTFOUND"
    done = subprocess.run(
        [CHROMIUM, *options.split(), offline, f"--user-data-dir={tmp_path}", f"file://{results}/report.html"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 'data-charts="drawn"' in done.stdout[:500]
    shown = Page(done.stdout).tags
    folded = text[text.index("Learning curves by dev") :].split("</details>")[0].count('class="chart"')
    drawings = sum(tag == "svg" and "marks" in attributes.get("class", "") for tag, attributes in shown)
    assert drawings == sum("data-chart" in attributes for _, attributes in shown) - folded
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_what_is_wrong_with_the_training_of_runs_is_said(tmp_path):
    study = study_of()
    fabricate(tmp_path, study)
    for seed in (2, 3):
        path = run_folder(tmp_path, "tiny", ("scratch", "swahili", "10min", seed)) / "recipe.json"
        finding = {"key": "blank", "sentence": f"Nearly all frames <of seed {seed}> are blank: raise finetune.updates."}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"diagnosis": [finding]}), encoding="utf-8")
    summary, text = written(study, tmp_path)
    runs = {(run["start"], run["seed"]): run["diagnosis"] for run in summary["runs"]}
    assert [finding["key"] for finding in runs["scratch", 2]] == ["blank"] and runs["xlsr", 2] == []
    assert "Runs that did not learn as they should" in text
    (item,) = re.findall(r'<ul id="diagnosis">(.*?)</ul>', text, re.DOTALL)
    assert item.count("<li>") == 1 and "swahili, 10min, seeds 2, 3: Nearly all frames &lt;of seed 2&gt;" in item


def test_runs_that_learn_have_no_list_of_what_is_wrong(tiny):
    assert "Runs that did not learn" not in tiny[-1]


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_settings_that_recipes_leave_out_are_shown(optimiser):
    study = load_study(Path(__file__).parent.parent / "config/config.yaml")
    finetune = study.finetune.model_copy(update={"optimiser": optimiser})
    rows = {table["title"]: table["rows"] for table in settings(study.model_copy(update={"finetune": finetune}))}
    shown = {row["name"]: row["value"] for row in rows["Fine-tuning"]}
    assert shown["optimiser"] == optimiser and shown["shifts"] == "16"
