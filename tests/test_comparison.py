"""The page that shows two starts side by side, opened in a browser where there is one."""

import json
import re
import subprocess
from pathlib import Path

import jinja2
import numpy as np
import pytest
import soundfile
from test_report import CHROMIUM, fabricate, study_of, write_table, written

from headstart.features.audio import SAMPLE_RATE
from headstart.jobs import SplitFiles
from headstart.report.comparison import comparison_page, write_comparisons
from headstart.report.sentences import count
from headstart.score.score_file import score_columns
from headstart.summarise.tables import read_counts, score_path

STARTS = ("scratch", "xlsr")


@pytest.fixture(scope="module")
def compared(tmp_path_factory, make_clips):
    """Two starts, and the audio of all test utterances but the last; one transcript would be markup."""
    folder, study = tmp_path_factory.mktemp("compared"), study_of(report={"compared": 12})
    fabricate(folder, study)
    for start in study.starts:
        for seed in study.seeds:
            path = score_path(folder, "tiny", (start, "swahili", "10min", seed))
            import pyarrow.parquet as pq

            rows = pq.read_table(path).to_pylist()
            heard = "<img src=x onerror=alert(1)> </script> moja mbili tatu nne tano" if start == "xlsr" else ""
            rows[3] |= score_columns("<b>ndiyo</b> ndiyo", heard)
            write_table(path, rows)
    rng = np.random.default_rng(0)
    make_clips(folder, [0.1 * rng.standard_normal(8000 + 160 * i) for i in range(29)], ["x"] * 29)
    table = folder / "a.parquet"
    from headstart.corpora.manifests import FEATURES, read_table
    from headstart.corpora.manifests import write_table as write_manifest

    rows = [row | {"utterance_id": f"u{i:03d}"} for i, row in enumerate(read_table(table, FEATURES))]
    write_manifest(table, rows, FEATURES)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("headstart.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = count
    tests = {"swahili": SplitFiles(features=str(table), audio=str(folder / "a.arrow"))}
    write_comparisons(study, folder, environment, tests)
    return study, folder, (folder / "tiny" / comparison_page("swahili", "10min")).read_text(encoding="utf-8")


def data_of(page: str) -> dict:
    return json.loads(re.search(r"^const data = (.*);$", page, re.MULTILINE)[1])


def test_the_utterances_in_which_starts_differ_most_are_there(compared):
    study, folder, page = compared
    data = data_of(page)
    counts = {
        start: [read_counts(score_path(folder, "tiny", (start, "swahili", "10min", seed))) for seed in study.seeds]
        for start in study.starts
    }
    errors = np.array([sum(one.errors["wer"] for one in own) for own in counts.values()])
    spread = dict(zip(counts["scratch"][0].utterance_ids, errors.max(0) - errors.min(0), strict=True))
    shown = [row["id"] for row in data["utterances"]]
    assert len(shown) == 12 and "The 12 of 30 test utterances in which starts differ most" in page
    assert min(spread[name] for name in shown) >= max(spread[name] for name in spread if name not in shown)
    for row in data["utterances"]:
        place = counts["xlsr"][1].utterance_ids.index(row["id"])
        alignment = row["runs"]["xlsr"][1][1]
        assert sum(edit != "H" for edit in alignment) == counts["xlsr"][1].errors["wer"][place]


def test_transcripts_cannot_become_markup(compared):
    page = compared[-1]
    assert "onerror" in page and "<img" not in page and "</script> moja" not in page and "<b>ndiyo" not in page


def test_clips_lie_beside_the_page_and_hold_their_audio(compared):
    _, folder, page = compared
    pages = folder / "tiny/comparisons/swahili"
    rows = data_of(page)["utterances"]
    for row in rows:
        if row["id"] == "u029":
            assert row["clip"] is None
            continue
        samples, rate = soundfile.read(pages / row["clip"])
        # MP3 adds some silence at both ends.
        assert rate == SAMPLE_RATE and 0 <= len(samples) - (8000 + 160 * int(row["id"][1:])) < 3000
    assert len(list((folder / "tiny/comparisons/audio/sw").iterdir())) == sum(row["clip"] is not None for row in rows)


def test_differences_in_the_report_lead_to_the_page_with_their_starts(tmp_path):
    study = study_of()
    fabricate(tmp_path, study)
    _, report = written(study, tmp_path)
    links = set(re.findall(r'href="(comparisons/[^"]*)"', report))
    assert "comparisons/swahili/10min.html#a=ssl-multi&amp;b=ssl-mono" in links
    for link in links:
        assert (tmp_path / "tiny" / link.partition("#")[0]).is_file()
    assert data_of((tmp_path / "tiny/comparisons/swahili/10min.html").read_text())["utterances"][0]["clip"] is None


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no Chromium to open the page with")
def test_a_browser_shows_the_chosen_starts_worst_differences_first(compared, tmp_path):
    study, folder, page = compared
    options = "--headless --no-sandbox --disable-gpu --no-first-run --dump-dom --virtual-time-budget=5000"
    options += " --enable-logging=stderr"
    address = f"file://{folder}/tiny/{comparison_page('swahili', '10min', *STARTS)}&seed=3"
    done = subprocess.run(
        [CHROMIUM, *options.split(), f"--user-data-dir={tmp_path}", address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    articles = re.findall(r"<article.*?</article>", done.stdout, re.DOTALL)
    assert len(articles) == 12
    found = []
    for article in articles:
        assert re.findall(r'<span class="start">(.*?)</span>', article) == list(STARTS)
        left, right = map(int, re.findall(r"<small>(\d+) errors?</small>", article))
        marks = len(re.findall(r"<(?:ruby|del|ins)\b", article))
        assert marks == left + right
        assert ("worse" in article) == (left != right)
        found.append(abs(left - right))
    assert found == sorted(found, reverse=True) and found[0] > 0
    assert "&lt;img" in done.stdout and "<img" not in done.stdout
    wanted = {start: read_counts(score_path(folder, "tiny", (start, "swahili", "10min", 3))) for start in STARTS}
    ids = [row["id"] for row in data_of(page)["utterances"]]
    totals = [
        sum(int(e) for e, u in zip(own.errors["wer"], own.utterance_ids, strict=True) if u in ids)
        for own in wanted.values()
    ]
    assert f"{totals[0]} word errors of scratch, {totals[1]} word errors of xlsr" in done.stdout
