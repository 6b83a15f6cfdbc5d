"""A wrong study file is refused with a message that names the key and what would be right."""

import copy
from pathlib import Path

import pytest
import yaml

from headstart.cli import main
from headstart.study.fields import budget_seconds
from headstart.study.reading import StudyError, load_study, parse_study
from headstart.study.reference import EXAMPLE, outdated
from headstart.study.study import Study

ROOT = Path(__file__).resolve().parents[1]
STUDIES = sorted([*(ROOT / "config").glob("*.yaml"), *(ROOT / "config" / "studies").rglob("*.yaml")])

STUDY = yaml.safe_load("""
study: small
corpora:
  synthetic: {reader: synthetic, language: en, hours: {train: 0.5}}
  real: {reader: folder, path: recordings, language: de}
starts:
  scratch: {kind: scratch}
  ssl: {kind: ssl, corpora: {synthetic: 0.5}}
  more: {kind: ssl, from: ssl, corpora: {real: 2}}
targets:
  spoken: {corpus: synthetic, kind: in-domain}
budgets: [1min, 10min]
seeds: [1, 2]
""")


def changed(**changes) -> dict:
    """The study above with `a__b=value` set at the key `a.b`."""
    study = copy.deepcopy(STUDY)
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = study
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return study


def problems(study: dict) -> list[str]:
    """The lines of the message about a study that is refused, less the first, which counts them."""
    with pytest.raises(StudyError) as refusal:
        parse_study(study, "small.yaml")
    first, *lines = str(refusal.value).split("\n")
    assert first == f"small.yaml: {len(lines)} problem{'s' if len(lines) > 1 else ''}"
    return [line.strip() for line in lines]


def test_a_start_goes_on_from_a_start_a_folder_or_a_model_and_nothing_is_guessed():
    """`facebook/wav2vec2-base` has a slash and is no folder."""
    corpora = {"real": 2}
    more = parse_study(changed(starts__more={"kind": "ssl", "path": "large", "corpora": corpora})).starts["more"]
    assert (more.from_, more.path, more.model) == (None, "large", None)
    hub = {"kind": "hub", "model": "facebook/wav2vec2-base", "revision": "0b5b8e8"}
    start = parse_study(changed(starts__hub=hub)).starts["hub"]
    assert (start.path, start.model, start.revision) == (None, "facebook/wav2vec2-base", "0b5b8e8")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            {"from": "checkpoints/large"},
            "more.from: there is no start 'checkpoints/large' .*; a folder is named by `path`",
        ),
        ({"from": "ssl", "path": "large"}, "more: from and path are given, but a start goes on from one checkpoint"),
        ({"path": "large", "model": "a/b"}, "more: path and model are given, but a start goes on from one checkpoint"),
        ({"path": "large", "revision": "main"}, "more: revision is given without model"),
        (
            {"model": "./checkpoints/large"},
            r"more.model: should be the name of a model on a hub.*a folder is named by `path`",
        ),
        ({"path": " "}, "more.path: is empty; name a folder"),
    ],
)
def test_one_checkpoint_is_named_in_one_way(start, message):
    with pytest.raises(StudyError, match=f"starts.{message}"):
        parse_study(changed(starts__more={"kind": "ssl", "corpora": {"real": 2}, **start}))


@pytest.mark.parametrize("kind", ["hub", "semisup"])
def test_a_start_that_needs_a_checkpoint_says_how_to_name_one(kind):
    start = {"kind": kind, **({"labelled": {"real": 1}} if kind == "semisup" else {})}
    (line,) = problems(changed(starts__more=start))
    assert "path" in line and "model" in line and line.startswith("starts.more: ") and "required" in line


@pytest.mark.parametrize("spelt", ["recordings", "./recordings", "recordings/", "a/../recordings//", "~/recordings"])
def test_a_path_has_one_spelling(spelt, monkeypatch):
    """A slash more or less would otherwise make everything run again."""
    monkeypatch.setenv("HOME", "/home/ana")
    right = "/home/ana/recordings" if spelt.startswith("~") else "recordings"
    study = parse_study(changed(corpora__real__path=spelt, starts__hub={"kind": "hub", "path": spelt}))
    assert study.corpora["real"].path == study.starts["hub"].path == right


def test_a_key_that_yaml_does_not_read_as_text_is_to_be_quoted():
    study = yaml.safe_load(
        yaml.safe_dump(STUDY).replace("path: recordings", "path: recordings\n    splits: {1: train}")
    )
    (line,) = problems(study)
    assert line == "corpora.real.splits: the key 1 is not text; write it in quotes: '1'"


@pytest.mark.parametrize("keep", ["<>", "a|b"])
def test_special_characters_are_no_letters(keep):
    (line,) = problems(changed(text={"keep": keep}))
    assert line.startswith("text.keep: should be characters other than |, < and >")


def test_a_valid_study_is_the_product_of_its_lists():
    study = parse_study(STUDY)
    assert len(study.runs()) == 3 * 1 * 2 * 2
    assert study.runs()[0] == ("scratch", "spoken", "1min", 1)
    assert study.starts["more"].from_ == "ssl"
    assert study.comparisons() == [("ssl", "scratch"), ("more", "scratch")]


def test_a_dumped_study_is_the_same_study():
    study = parse_study(STUDY)
    assert parse_study(study.model_dump(mode="json")) == study


def test_a_start_overrides_keys_of_pretrain():
    study = parse_study(changed(pretrain__updates=7, pretrain__negatives=5, starts__ssl__settings={"updates": 9}))
    assert (study.pretrain_of("ssl").updates, study.pretrain_of("ssl").negatives) == (9, 5)
    assert study.pretrain_of("more").updates == 7


@pytest.mark.parametrize("budget, seconds", [("90s", 90), ("10min", 600), ("1.5h", 5400)])
def test_budget_seconds(budget, seconds):
    assert budget_seconds(budget) == seconds


@pytest.mark.parametrize(
    "changes, message",
    [
        # unknown keys, at every depth
        ({"targts": {}}, "targts: unknown key (nearest valid: 'targets')"),
        ({"analyse__minuts": 3}, "analyse.minuts: unknown key (nearest valid: 'minutes')"),
        ({"finetune__udpates": 3}, "finetune.udpates: unknown key (nearest valid: 'updates')"),
        (
            {"corpora__real__columns__audioo": "x"},
            "corpora.real.columns.audioo: unknown key (nearest valid: 'audio')",
        ),
        (
            {"corpora__synthetic__hours__trian": 1},
            "corpora.synthetic.hours.trian: unknown key (nearest valid: 'train')",
        ),
        ({"starts__scratch__seed": 1}, "starts.scratch.seed: unknown key (valid: attention, kind, seed_offset)"),
        ({"starts__more__form": "ssl"}, "starts.more.form: unknown key (nearest valid: 'from')"),
        ({"starts__more__from_": "ssl"}, "starts.more.from_: unknown key (nearest valid: 'from')"),
        (
            {"starts__ssl__settings__udpates": 3},
            "starts.ssl.settings.udpates: unknown key (nearest valid: 'updates')",
        ),
        # readers and kinds
        (
            {"corpora__real__reader": "foldr"},
            "corpora.real.reader: there is no reader 'foldr' (nearest valid: 'folder')",
        ),
        (
            {"corpora__real": {"path": "x"}},
            "corpora.real.reader: this key is required (valid: ",
        ),
        ({"starts__ssl__kind": "slf"}, "starts.ssl.kind: there is no kind 'slf' (nearest valid: 'ssl')"),
        (
            {"starts__ssl": {"corpora": {"real": 1}}},
            "starts.ssl.kind: this key is required (valid: hub, scratch, semisup, ssl)",
        ),
        ({"starts__ssl": "scratch"}, "starts.ssl: should have keys (got 'scratch')"),
        # names of corpora and starts
        (
            {"targets__spoken__corpus": "sinthetic"},
            "targets.spoken.corpus: there is no corpus 'sinthetic' (nearest valid: 'synthetic')",
        ),
        (
            {"starts__ssl__corpora": {"rael": 1}},
            "starts.ssl.corpora: there is no corpus 'rael' (nearest valid: 'real')",
        ),
        ({"starts__more__from": "sll"}, "starts.more.from: there is no start 'sll' (nearest valid: 'ssl')"),
        ({"baseline": "scrtch"}, "baseline: there is no start 'scrtch' (nearest valid: 'scratch')"),
        (
            {"contrasts": [{"treatment": "mor", "baseline": "ssl"}]},
            "contrasts.0.treatment: there is no start 'mor' (nearest valid: 'more')",
        ),
        (
            {"contrasts": [{"treatment": "ssl", "baseline": "ssl"}]},
            "contrasts.0: 'ssl' is compared with itself",
        ),
        ({"starts__ssl__from": "more"}, "starts.ssl.from: a cycle, ssl from more from ssl"),
        ({"starts__ssl__from": "ssl"}, "starts.ssl.from: a cycle, ssl from ssl"),
        (
            {"corpora__synthetic__language": "in-es"},
            "corpora.synthetic.language: there is no grammar 'in-es' (nearest valid: 'en-es",
        ),
        # amounts of audio
        ({"budgets": ["31min"]}, "budgets: '31min' is more than corpora.synthetic.hours.train holds"),
        (
            {"starts__ssl__corpora": {"synthetic": 0.6}},
            "starts.ssl.corpora.synthetic: 0.6 h is more than corpora.synthetic.hours.train holds",
        ),
        (
            {
                "starts__S": {
                    "kind": "semisup",
                    "from": "ssl",
                    "labelled": {"synthetic": 0.4},
                    "unlabelled": {"synthetic": 0.3},
                }
            },
            "starts.S.labelled.synthetic and starts.S.unlabelled.synthetic: 0.7 h is more",
        ),
        (
            {"budgets": ["ten"]},
            "budgets.0: should be a number and a unit, such as 90s, 10min or 1h (got 'ten')",
        ),
        ({"budgets": ["0min"]}, "budgets.0: '0min' is no audio at all"),
        ({"budgets": ["60s", "1min"]}, "budgets: '1min' is as much audio as '60s', list it once"),
        ({"seeds": [3, 1, 3]}, "seeds: 3 is listed twice"),
        (
            {
                "decoding": {"language_model": None},
                "claims": [{"claim": "So.", "treatment": "ssl", "baseline": "scratch", "metric": "wer_lm[es]"}],
            },
            "claims.0.metric: wer_lm[es] needs a language model, but decoding.language_model is null",
        ),
        (
            {"claims": [{"claim": "So.", "treatment": "ssl", "baseline": "scratch", "metric": "wre"}]},
            "claims.0.metric: 'wre' is no metric; there are wer, cer,",
        ),
        # wrong types and values
        ({"semisup__labelled_share": 1}, "semisup.labelled_share: should be less than 1 (got 1)"),
        (
            {"semisup": {"supervised": {"end": 0.5}, "pseudo": {"begin": 0.6}}},
            "semisup: nothing is learnt after 0.5 of the updates",
        ),
        ({"finetune__updates": "many"}, "finetune.updates: should be a valid integer"),
        ({"finetune__updates": 0}, "finetune.updates: should be greater than or equal to 1 (got 0)"),
        (
            {"finetune__learning_rate": float("inf")},
            "finetune.learning_rate: should be a finite number (got inf)",
        ),
        ({"finetune": None}, "finetune: this section is empty: give it keys, or remove it"),
        ({"finetune__warmup": 0.8}, "finetune: warmup 0.8 and hold 0.4 are together more than all updates"),
        (
            {"starts__ssl__settings__mask_share": 2},
            "starts.ssl.settings.mask_share: should be less than or equal to 1 (got 2)",
        ),
        ({"model__heads": 5}, "model: hidden_size 192 is not a multiple of heads 5"),
        ({"budgets": "1min"}, "budgets: should be a valid list (got '1min')"),
        ({"starts": {}}, "starts: is empty"),
        (
            {"study": "a/b"},
            "study: should be letters, digits, _, + and -, a letter or digit first (got 'a/b')",
        ),
        ({"starts__a b": {"kind": "scratch"}}, "starts: 'a b' is no valid name"),
        (
            {"corpora__real__language": False},
            "corpora.real.language: should be text (got False; YAML reads no, off, yes and on so",
        ),
        (
            {"corpora__synthetic__snr_db": [25, 5]},
            "corpora.synthetic.snr_db: the range [25, 5] is upside down",
        ),
        ({"corpora__real__max_seconds": 0.1}, "corpora.real: min_seconds 0.2 is more than max_seconds 0.1"),
        (
            {"corpora__real__dev_share": 0.9},
            "corpora.real: dev_share and test_share together leave nothing to train on",
        ),
        (
            {"convergence": {"level": 0.3, "share": 1}},
            "convergence: level and share are both given, but there is one level; keep one of them",
        ),
        # how alike languages are
        ({"similarity": {"acoustic": {"start": "mno"}}}, "similarity.acoustic.start: there is no start 'mno'"),
        ({"similarity": {"acoustic": {"start": "scratch"}}}, "similarity.acoustic.start: 'scratch' is not pre-trained"),
        ({"similarity": {"acoustic": {"pieces": 5}}}, "similarity.acoustic: `pieces` is 5, less than `clusters`, 100"),
        ({"similarity": {"acoustic": {"layer": 5}}}, "similarity.acoustic: `layer` is 5, but no start is named"),
        ({"similarity": {"tables": {"acoustic": "a.tsv"}}}, "similarity: `tables` names 'acoustic', which is a"),
        # a target that nothing can be learnt from
        (
            {"corpora__real__columns": {"text": None}, "targets__spoken__corpus": "real"},
            "targets.spoken.corpus: corpus 'real' has no transcripts (its columns.text is null)",
        ),
        # text and the languages of code-switched speech
        (
            {"text": {"languages": {"tr": {"keeep": "-"}}}},
            "text.languages.tr.keeep: unknown key (nearest valid: 'keep')",
        ),
        (
            {"text": {"languages": {"Türkçe": {}}}},
            "text.languages: 'Türkçe' is no valid language, which is a BCP 47 tag such as tr or de-AT",
        ),
        ({"text": {"languages": {"tr": {"keep": "a|b"}}}}, "text.languages.tr.keep: should be characters other than |"),
        ({"text": {"map": {" ": "x"}}}, "text.map: has an empty text to replace"),
        ({"text": {"tags": "remove"}}, "text.tags: "),
        ({"probe": {"seeds": 9}}, "probe.seeds: 9 is more than the "),
        ({"starts__scratch__attention": {"left_chunks": -1}}, "starts.scratch.attention.left_chunks: "),
        (
            {"targets__spoken__languages": {"en": "synthetic", "de": "rael"}},
            "targets.spoken.languages.de: there is no corpus 'rael' (nearest valid: 'real')",
        ),
        (
            {"targets__spoken__languages": {"en": "synthetic", "de": None}},
            "targets.spoken.languages.de: en and de are both in Latin script, so words have to be known",
        ),
        ({"targets__spoken__languages": {"en": "synthetic"}}, "targets.spoken.languages: names one language"),
    ],
)
def test_a_problem_is_one_line_with_the_key(changes, message):
    (line,) = problems(changed(**changes))
    assert line.startswith(message)


def test_a_start_of_a_parent_that_is_trained_for_each_seed_is_so_itself():
    parent = {"kind": "ssl", "corpora": {"synthetic": 0.1}, "per_seed": True}
    child = {"kind": "ssl", "from": "parent", "corpora": {"synthetic": 0.1}}
    starts = {**STUDY["starts"], "parent": parent, "child": child}
    (line,) = problems({**STUDY, "starts": starts})
    assert line.startswith("starts.child.per_seed: 'parent', which it is trained from, is per_seed")
    study = parse_study({**STUDY, "starts": {**starts, "child": {**child, "per_seed": True}}}, "small.yaml")
    assert study.instances("child") == {1: "child/seed1", 2: "child/seed2"}


@pytest.mark.parametrize("key", ["study", "corpora", "starts", "targets", "budgets"])
def test_required_keys(key):
    study = {k: v for k, v in STUDY.items() if k != key}
    assert problems(study) == [f"{key}: this key is required"]


def test_all_problems_are_listed_at_once():
    study = changed(titel="x", finetune={"udpates": 3, "updates": 0}, corpora__real__path=3)
    assert {line.split(":")[0] for line in problems(study)} == {
        "titel",
        "finetune.udpates",
        "finetune.updates",
        "corpora.real.path",
    }


def test_names_that_point_nowhere_are_listed_at_once():
    study = changed(baseline="x", targets__spoken__corpus="y", starts__more__from="z", budgets=["1min", "60s"])
    assert {line.split(":")[0] for line in problems(study)} == {
        "baseline",
        "targets.spoken.corpus",
        "starts.more.from",
        "budgets",
    }


def test_a_scientific_number_without_a_dot_is_a_number():
    study = yaml.safe_load("learning_rate: 2e-3")  # text to YAML 1.1
    assert parse_study(changed(finetune=study)).finetune.learning_rate == 0.002


@pytest.mark.parametrize(
    "text, message",
    [
        ("study: [", "line 1: not valid YAML"),
        ("study: a\nseeds: [1]\nseeds: [2]\n", "line 3: not valid YAML: the key 'seeds' is written twice"),
        ("a: &a {b: *a}\n", "line 1: not valid YAML: an alias stands for a value that contains it"),
        (
            "".join(f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '0'] * 10)}]\n" for i in range(9)),
            "line 5: not valid YAML: its aliases stand for more than 100,000 values",
        ),
        (f"study: {'[' * 1200}{']' * 1200}\n", "its values are nested too deeply"),
        ("", "a study file is a mapping of keys"),
        ("- study", "a study file is a mapping of keys"),
    ],
)
def test_a_file_that_is_no_study(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as refusal:
        load_study(path)
    assert str(path) in str(refusal.value)
    assert message in str(refusal.value)


def test_a_file_in_another_encoding(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes("title: Führung".encode("latin-1"))
    with pytest.raises(StudyError, match="not UTF-8 text"):
        load_study(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(StudyError, match="nowhere.yaml: no such study file"):
        load_study(tmp_path / "nowhere.yaml")


def test_a_key_repeated_through_a_yaml_anchor_is_fine(tmp_path):
    path = tmp_path / "study.yaml"
    starts = "starts:\n  scratch: &one {kind: scratch}\n  other: {<<: *one, kind: scratch}\n"
    path.write_text(starts + yaml.safe_dump({k: v for k, v in STUDY.items() if k != "starts"}))
    assert list(load_study(path).starts) == ["scratch", "other"]


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_of_the_repository_load(path):
    assert isinstance(load_study(path), Study)


def test_the_example_of_the_reference_is_a_study():
    assert parse_study(yaml.safe_load(EXAMPLE)).runs()


def test_the_generated_documents_are_up_to_date():
    assert not outdated(ROOT), "run `make docs`"


def test_check_prints_what_a_study_would_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings/metadata.tsv").write_text("id\tpath\ttext\n")
    assert main(["check", str(path)]) == 0
    assert "2 pre-trainings, then 3 starts × 1 target × 2 budgets × 2 seeds = 12 runs" in capsys.readouterr().out
    path.write_text(yaml.safe_dump(changed(starts__more__per_seed=True)))
    assert main(["check", str(path)]) == 0
    assert "3 pre-trainings, then 3 starts × 1 target × 2 budgets × 2 seeds = 12 runs" in capsys.readouterr().out


def test_check_prints_the_problems_of_a_study(tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(changed(titel="x")))
    assert main(["check", str(path)]) == 2
    assert "titel: unknown key (nearest valid: 'title')" in capsys.readouterr().err


def test_docs_check_tells_when_a_document_is_stale(tmp_path, capsys):
    assert main(["docs", "--folder", str(tmp_path)]) == 0
    assert main(["docs", "--folder", str(tmp_path), "--check"]) == 0
    (tmp_path / "config/schema.json").write_text("{}")
    assert main(["docs", "--folder", str(tmp_path), "--check"]) == 1
    assert "schema.json is out of date" in capsys.readouterr().err
