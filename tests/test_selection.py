"""Selection of audio: what is chosen, that shares are those of the formula, and that nothing changes without it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from headstart import semisup
from headstart.corpora.manifests import CLUSTERS, FEATURES, read_columns, read_table, write_table
from headstart.errors import HeadstartError
from headstart.features.clips import Clips
from headstart.jobs import CorpusHours, PretrainJob, SemisupJob
from headstart.pretrain import chosen_clips, pretrain_recipe, pretrain_start
from headstart.selection import order_of_choice, write_selection
from headstart.study.pretrain import Pretrain
from headstart.study.reading import StudyError, parse_study
from headstart.study.selection import Select
from headstart.study.semisup import Semisup
from headstart.study.starts import SemisupStart
from headstart.study.text import Text
from headstart.subsets import BudgetError, draw
from headstart.workflow import Workflow

SECOND = 16_000
# Lengths in seconds of nine utterances of three speakers; ben has most.
LENGTHS = {"ana": [1, 4], "ben": [2, 6, 3, 9, 1], "eva": [5, 2]}


@pytest.fixture(scope="module")
def corpus(make_clips, tmp_path_factory):
    """A function that makes a corpus of these speakers, or of others, and returns it as a start's job has it."""

    def make(name: str, hours: float, speakers=LENGTHS, language="en", clusters=None) -> CorpusHours:
        folder = tmp_path_factory.mktemp(name)
        rng = np.random.default_rng(len(name))
        seconds = [length for lengths in speakers.values() for length in lengths]
        make_clips(folder, [0.1 * rng.standard_normal(length * SECOND) for length in seconds], ["a"] * len(seconds))
        rows = read_table(folder / "a.parquet", FEATURES)
        names = [speaker for speaker, lengths in speakers.items() for _ in lengths]
        for row, speaker in zip(rows, names, strict=True):
            row |= {"speaker": speaker or None, "language": language, "utterance_id": f"{name}{row['utterance_id']}"}
        write_table(folder / "a.parquet", rows, FEATURES)
        files = {"features": str(folder / "a.parquet"), "audio": str(folder / "a.arrow")}
        if clusters is not None:
            table = [{"utterance_id": row["utterance_id"], "cluster": c} for row, c in zip(rows, clusters, strict=True)]
            write_table(folder / "clusters.parquet", table, CLUSTERS)
        path = None if clusters is None else str(folder / "clusters.parquet")
        return CorpusHours(name=name, hours=hours / 3600, train=files, clusters=path)

    return make


def job(*corpora: CorpusHours, seed=1, **how) -> PretrainJob:
    settings = {"settings": Pretrain(), "model": None, "parent": None, "output": "o", "state": "s"}
    return PretrainJob.of(corpora=list(corpora), select=Select(**how) if how else None, seed=seed, **settings)


def held(clips: Clips, column: str) -> dict[str, list[int]]:
    """Lengths in seconds of the chosen utterances, ascending, by speaker or language."""
    found: dict[str, list[int]] = {}
    for (name,), samples in zip(clips.rows(column), clips.lengths.tolist(), strict=True):
        found.setdefault(name, []).append(samples // SECOND)
    return {name: sorted(lengths) for name, lengths in found.items()}


def test_the_longest_utterances_are_chosen(corpus):
    clips = chosen_clips(job(corpus("c", 19.5), order="longest"))
    assert held(clips, "speaker") == {"ben": [6, 9], "eva": [5]}


def test_speakers_share_the_hours_equally_as_far_as_they_have_them(corpus):
    # 5 s each would be equal; ana has 5 s, eva 7 s. By hand: ana both, ben two or three clips, eva one or both.
    for seed in range(8):
        clips = chosen_clips(job(corpus("c", 15), seed=seed, by="speaker"))
        seconds = {name: sum(lengths) for name, lengths in held(clips, "speaker").items()}
        assert set(seconds) == {"ana", "ben", "eva"}
        assert 15 <= sum(seconds.values()) < 15 + 9
    # Longest first: middles are ana 2, 4.5; eva 2.5, 6; ben 4.5, 12, ... so ben's second clip comes last of these.
    clips = chosen_clips(job(corpus("c", 20.5), by="speaker", order="longest"))
    assert held(clips, "speaker") == {"ana": [1, 4], "ben": [9], "eva": [2, 5]}


def test_clusters_share_the_hours_equally(corpus):
    # Cluster 0 holds two clips, of 1 s and of 4 s, and cluster 1 the others.
    clips = chosen_clips(job(corpus("c", 13.5, clusters=[0, 0, *[1] * 7]), by="clusters", clusters=2, order="longest"))
    assert held(clips, "speaker") == {"ana": [1, 4], "ben": [9]}


def test_languages_share_the_hours_of_all_corpora_by_the_temperature(corpus):
    many = {"ana": [2] * 90}
    corpora = [
        corpus("en", 40, many),
        corpus("es", 20, {"eva": [2] * 10}, "es"),
        corpus("sw", 4, {"ali": [2] * 40}, "sw"),
    ]
    hours = {"en": 180, "es": 20, "sw": 80}
    for temperature in (1.0, 2.0, 5.0):
        clips = chosen_clips(job(*corpora, by="language", temperature=temperature))
        seconds = {name: sum(lengths) for name, lengths in held(clips, "language").items()}
        weights = {name: amount ** (1 / temperature) for name, amount in hours.items()}
        for name, weight in weights.items():
            assert abs(seconds[name] - 64 * weight / sum(weights.values())) <= 2, temperature
    # Equal shares of 96 s would be 32 s. Spanish has 20 s, and the others give 38 s each.
    corpora = [c.model_copy(update={"hours": 31.9 / 3600}) for c in corpora]
    seconds = {name: sum(x) for name, x in held(chosen_clips(job(*corpora, by="language")), "language").items()}
    assert seconds == {"en": 38, "es": 20, "sw": 38}


def test_shares_of_many_groups_are_those_of_the_formula():
    """Against a direct solution of the shares, where groups with too little give all they have."""
    rng = np.random.default_rng(3)
    groups = rng.choice(12, 3000, p=rng.dirichlet(np.ones(12)))
    lengths = rng.integers(SECOND, 9 * SECOND, 3000)
    for temperature, how in ((None, "random"), (1.0, "random"), (3.0, "longest")):
        order = order_of_choice(lengths, Select(by="speaker", temperature=temperature, order=how), 5, groups)
        assert sorted(order) == list(range(3000))
        held = np.bincount(groups, lengths, 12)
        weights = np.where(held > 0, 1.0, 0.0) if temperature is None else held ** (1 / temperature)
        total = lengths[order[:800]].sum()
        full: set[int] = set()
        while True:
            free = [g for g in range(12) if g not in full]
            level = (total - sum(held[g] for g in full)) / weights[free].sum()
            over = [g for g in free if weights[g] * level >= held[g]]
            if not over:
                break
            full |= set(over)
        wanted = np.array([held[g] if g in full else weights[g] * level for g in range(12)])
        got = np.bincount(groups[order[:800]], lengths[order[:800]], 12)
        assert np.abs(got - wanted).max() <= 9 * SECOND


def test_a_larger_choice_contains_a_smaller_one_and_a_seed_gives_it_again(corpus):
    for how in ({"by": "speaker"}, {"order": "longest"}, {"by": "speaker", "temperature": 2.0}):
        small, large = (set(chosen_clips(job(corpus("c", s), **how)).column("utterance_id")) for s in (8, 20))
        assert small < large
    ids = [chosen_clips(job(corpus("c", 12), seed=seed, by="speaker")).column("utterance_id") for seed in range(10)]
    assert len({tuple(one) for one in ids}) > 2
    assert chosen_clips(job(corpus("c", 12), seed=3, by="speaker")).column("utterance_id") == ids[3]


def test_without_select_the_draw_and_the_recipe_are_what_they_were(corpus):
    one, two = corpus("c", 12), corpus("d", 9)
    plain, explicit = chosen_clips(job(one, two, seed=4)), chosen_clips(job(one, two, seed=4, order="random"))
    for k, c in enumerate((one, two)):
        lengths = read_columns(c.train.features, FEATURES, ["num_samples"])["num_samples"].to_numpy()
        assert plain.row[plain.split == k].tolist() == draw(lengths, c.hours * 3600, 4 + k, "c").tolist()
    assert plain.content == explicit.content
    recipe = pretrain_recipe(job(one), plain)
    assert set(recipe["data"]) == {"corpora", "utterances", "seconds", "content", "read"}
    assert "select" not in json.dumps(job(one).plain()) and "clusters" not in json.dumps(job(one).plain())


def test_the_recipe_and_a_file_say_what_was_chosen(corpus, tmp_path, caplog):
    wanted = job(corpus("c", 19.5), order="longest")
    clips = chosen_clips(wanted)
    with caplog.at_level("INFO"):
        data = pretrain_recipe(wanted, clips)["data"]
    assert data["select"] == {"order": "longest", "by": None, "clusters": None, "temperature": None}
    # By hand: clips of 9, 6 and 5 s of two speakers, of nine clips of 33 s of three.
    assert data["selection"] == {
        "c": {
            "chosen": {"utterances": 3, "hours": round(20 / 3600, 4), "mean_seconds": 6.667, "speakers": 2},
            "of": {"utterances": 9, "hours": round(33 / 3600, 4), "mean_seconds": 3.667, "speakers": 3},
        }
    }
    assert "c: 3 of 9 utterances chosen, 0.01 of 0.01 h, 6.67 s long on average (all: 3.67 s), 2 of 3" in caplog.text
    write_selection(tmp_path, wanted.corpora, clips)
    rows = pq.read_table(tmp_path / "selection.parquet").to_pylist()
    assert sorted((row["speaker"], row["seconds"]) for row in rows) == [("ben", 6.0), ("ben", 9.0), ("eva", 5.0)]
    assert {row["utterance_id"] for row in rows} == set(clips.column("utterance_id"))


def test_a_corpus_in_shards_is_one_corpus(corpus, tmp_path):
    from headstart.features.shards import join_shards

    halves = [corpus("half", 0, {"ana": [1, 5]}).train, corpus("other", 0, {"ben": [7, 2]}).train]
    names = [str(tmp_path / name) for name in ("audio", "features", "rejects")]
    parts = [(h.features, h.audio, h.features.replace("a.parquet", "a.rejects.parquet")) for h in halves]
    join_shards(parts, *names)
    whole = CorpusHours(name="whole", hours=11.5 / 3600, train={"features": names[1], "audio": names[0]})
    wanted = job(whole, corpus("c", 8.5), order="longest")
    clips = chosen_clips(wanted)
    facts = pretrain_recipe(wanted, clips)["data"]["selection"]
    assert [facts[name]["chosen"]["utterances"] for name in ("whole", "c")] == [2, 1]
    assert facts["whole"]["of"] == {"utterances": 4, "hours": 0.0042, "mean_seconds": 3.75, "speakers": 2}
    write_selection(tmp_path, wanted.corpora, clips)
    rows = pq.read_table(tmp_path / "selection.parquet").to_pylist()
    assert sorted((row["corpus"], row["seconds"]) for row in rows) == [("c", 9.0), ("whole", 5.0), ("whole", 7.0)]


def test_what_cannot_be_selected_is_refused(corpus):
    mute = {**LENGTHS, "": [3, 3]}
    with pytest.raises(HeadstartError, match="'c' of a start: 2 of 11 utterances have no speaker.* select by clusters"):
        chosen_clips(job(corpus("c", 9, mute), by="speaker"))
    with pytest.raises(BudgetError, match="1.0 min of audio asked for, the split holds 0.6 min"):
        chosen_clips(job(corpus("c", 60), by="speaker"))
    other = corpus("c", 9, clusters=[0] * 9).clusters
    with pytest.raises(HeadstartError, match="is not about corpus 'd' of a start; delete it"):
        chosen_clips(job(corpus("d", 9, mute).model_copy(update={"clusters": other}), by="clusters", clusters=1))


def study(select):
    corpora = {
        "a": {"reader": "synthetic", "language": "en"},
        "b": {"reader": "folder", "path": "b", "language": "en"},
    }
    ssl = {"kind": "ssl", "corpora": {"a": 0.1, "b": 0.1}, "select": select}
    plain = {"study": "s", "budgets": ["1min"], "targets": {"t": {"corpus": "a", "kind": "in-domain"}}}
    return parse_study({**plain, "corpora": corpora, "starts": {"scratch": {"kind": "scratch"}, "x": ssl}}, "s.yaml")


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ({"by": "speaker"}, r"starts.x.select.by: corpus 'b' has no speakers \(its columns.speaker is null\)"),
        ({"temperature": 2}, "starts.x.select: temperature is given without by"),
        ({"clusters": 9}, "starts.x.select: clusters is given, but utterances are not grouped by them"),
        ({"by": "clusters"}, "starts.x.select: by: clusters is given without clusters"),
        ({"by": "sex"}, "starts.x.select.by: .*speaker"),
        ({"by": "language", "temperature": 0.5}, "starts.x.select.temperature: .*1"),
    ],
)
def test_a_study_that_asks_for_it_is_refused_before_it_runs(select, message):
    with pytest.raises(StudyError, match=message):
        study(select)


def test_selection_of_nothing_is_refused_in_the_semi_supervised_stage():
    with pytest.raises(ValueError, match="select is given, but it is about unlabelled audio, of which there is none"):
        SemisupStart(kind="semisup", path="p", labelled={"a": 0.1}, select=Select(order="longest"))


def test_the_workflow_clusters_what_is_selected_by_clusters():
    workflow = Workflow(study({"by": "clusters", "clusters": 7}))
    assert workflow.start_input("x")["clusters"] == ["data/clusters/a/7.parquet", "data/clusters/b/7.parquet"]
    assert Workflow(study({"order": "longest"})).start_input("x")["clusters"] == []


def test_the_unlabelled_part_is_selected_from_what_is_not_labelled(corpus):
    files = corpus("c", 0)
    names = ["labelled", "unlabelled"]
    parts = {
        name: [files.model_copy(update={"hours": hours / 3600})] for name, hours in zip(names, (8, 11.5), strict=True)
    }
    common = {
        "settings": Semisup(),
        "ssl": None,
        "text": Text(),
        "model": None,
        "parent": "p",
        "output": "",
        "state": "",
    }
    for seed in range(5):
        how = {"select": Select(order="longest"), "seed": seed}
        labelled, unlabelled = semisup.chosen_clips(SemisupJob.of(**parts, **common, **how))
        ours, others = (set(clips.column("utterance_id")) for clips in (labelled, unlabelled))
        assert not ours & others
        plain, _ = semisup.chosen_clips(SemisupJob.of(**parts, **common, seed=seed))
        assert set(plain.column("utterance_id")) == ours  # labelled utterances are drawn as ever
        everything = Clips.open(files.train.features, files.train.audio)
        left = sorted(np.delete(everything.lengths, labelled.row), reverse=True)
        assert sorted(unlabelled.lengths, reverse=True) == left[: len(others)]


def test_a_start_is_trained_on_its_selection(corpus, tiny_model, tmp_path, one_thread):
    wanted = job(corpus("c", 19.5), order="longest")
    options = Pretrain(updates=2, batch_seconds=8.0, negatives=4, crop_seconds=2.0)
    paths = {"output": str(tmp_path / "o"), "state": str(tmp_path / "s")}
    pretrain_start(wanted.model_copy(update={"settings": options, "model": tiny_model, **paths}))
    assert sorted(pq.read_table(tmp_path / "o" / "selection.parquet")["seconds"].to_pylist()) == [5.0, 6.0, 9.0]
    assert json.loads((tmp_path / "o" / "recipe.json").read_text())["data"]["select"]["order"] == "longest"
