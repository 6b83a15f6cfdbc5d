"""What runs again after an edit: exactly the jobs of docs/reruns.md, row by row.

A study is made whose data are real, and whose trained files are only there, in a folder with Snakemake's records of
them. Each test edits a copy of it and asks Snakemake for its plan.
"""

import os
import shutil
from itertools import product
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from dry_runs import CORPUS, ROOT, Plan, edit, planned, snakemake, write_corpus, write_noise

from headstart.features.extraction import extract_features
from headstart.study.fields import SPLITS
from headstart.study.reading import load_study
from headstart.study.study import Study
from headstart.subsets import draw_subset
from headstart.versions import VERSIONS
from headstart.workflow import Workflow

STUDY = {
    "study": "tiny",
    "title": "Tiny",
    "corpora": {"heard": {"path": "heard", **CORPUS}, "spoken": {"path": "spoken", **CORPUS}},
    "starts": {
        "scratch": {"kind": "scratch"},
        "own": {"kind": "ssl", "corpora": {"heard": 0.0002, "spoken": 0.0002}},
        "own+S": {"kind": "semisup", "from": "own", "labelled": {"heard": 0.0002}, "unlabelled": {"spoken": 0.0002}},
    },
    "targets": {"spoken": {"corpus": "spoken", "kind": "in-domain"}},
    "budgets": ["1s"],
    "seeds": [1, 2],
    "model": {"hidden_size": 32, "layers": 2, "heads": 2, "intermediate_size": 64, "conv_dim": [16, 16]},
    "analyse": {"bootstrap_replicates": 20},
    "claims": [{"claim": "It helps.", "treatment": "own+S", "baseline": "own", "metric": "cer"}],
}
STARTS = ("scratch", "own", "own+S")
RUNS = {f"{start}/spoken/1s/{seed}" for start in STARTS for seed in (1, 2)}
CELLS = {f"{start}/spoken/1s" for start in ("own", "own+S")}
END: Plan = {"summarise_study": {""}, "write_report": {""}}
TESTED: Plan = {"score_run": RUNS, **END}
TUNED: Plan = {"finetune_run": RUNS, "analyse_start": CELLS, **TESTED}
USED = {"heard/train", "heard/dev", "spoken/train", "spoken/dev", "spoken/test"}  # splits
SUBSETS = {"spoken/1s/1", "spoken/1s/2"}
ALL: Plan = {"pretrain_start": {"own"}, "refine_start": {"own+S"}, **TUNED}


def substituted(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def finished(folder: Path, study: dict) -> Path:
    """Make a folder in which a study of recorded corpora is finished, as far as Snakemake can tell."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for seed, name in enumerate(study["corpora"]):
        write_corpus(folder / name, seed)
    status, text = snakemake(folder, "--", *(f"data/manifests/{name}/train.parquet" for name in study["corpora"]))
    assert status == 0, text
    before = Path.cwd()
    os.chdir(folder)
    try:
        workflow = Workflow(load_study("study.yaml"))
        for name in study["corpora"]:
            for split, files in workflow.corpus_files(name).items():
                own = workflow.split(name, split)
                Path(own.features).parent.mkdir(parents=True, exist_ok=True)
                extract_features(files.manifest, own.audio, own.features, own.features.replace(".", ".rejects.", 1))
        for target, budget, seed in product(study["targets"], study["budgets"], study["seeds"]):
            corpus = study["targets"][target]["corpus"]
            path = workflow.subset(corpus, budget, seed)
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            draw_subset(workflow.split(corpus, "train").features, budget, seed, path)
        inputs = [workflow.summary_input(), workflow.report_input()]
        inputs += [workflow.finetune_input(*run) for run in workflow.study.runs()]
        inputs += [workflow.score_input(*run) for run in workflow.study.runs()]
        inputs += [workflow.probe_input(*cell) for cell in workflow.probed()]
        files = {
            p for groups in inputs for group in groups.values() for p in ([group] if isinstance(group, str) else group)
        }
        made = {"summary.json", "metrics.json", "curves.csv", "report.html", *workflow.cards()}
        files |= {f"{workflow.results}/{name}" for name in made}
        for path in map(Path, sorted(files)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_text(str(path))
        for name in ("utterances", "comparisons"):
            Path(workflow.results, name).mkdir()
    finally:
        os.chdir(before)
    status, text = snakemake(folder, "--touch", "--forceall")
    assert status == 0, text
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """The finished study."""
    return finished(tmp_path_factory.mktemp("tiny"), STUDY)


@pytest.fixture
def study(original, tmp_path) -> Path:
    """A copy of the finished study, for a test to edit."""
    return Path(shutil.copytree(original, tmp_path / "tiny", symlinks=True))


def test_nothing_runs_without_an_edit(study):
    assert planned(study) == {}


def runs_of(*starts: str, budget: str = "1s", seeds: tuple[int, ...] = (1, 2), target: str = "spoken") -> set[str]:
    return {f"{start}/{target}/{budget}/{seed}" for start in starts for seed in seeds}


def after(*starts: str) -> Plan:
    """The jobs that follow when the runs of some starts are trained again."""
    cells = {f"{start}/spoken/1s" for start in starts if start != "scratch"}
    return {"finetune_run": runs_of(*starts), "score_run": runs_of(*starts), "analyse_start": cells, **END}


PRETRAINED: Plan = {"pretrain_start": {"own"}, "refine_start": {"own+S"}, **after("own", "own+S")}
REFINED: Plan = {"refine_start": {"own+S"}, **after("own+S")}
LANGUAGE_MODEL: Plan = {"train_language_model": {"spoken"}}


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({"finetune": {"learning_rate": 0.0017}}, TUNED),
        ({"starts": {"own+S": {"settings": {"learning_rate": 0.0017}}}}, REFINED),
        ({"starts": {"own": {"settings": {"learning_rate": 0.0017}}}}, PRETRAINED),
        ({"pretrain": {"updates": 7}}, PRETRAINED),
        ({"semisup": {"updates": 7}}, REFINED),
        ({"finetune": {"shifts": 16}}, TUNED),
        ({"pretrain": {"shifts": 16}}, PRETRAINED),
        ({"semisup": {"shifts": 16}}, REFINED),
        ({"model": {"layers": 3}}, ALL),
        ({"targets": {"spoken": {"languages": {"en": None, "ru": None}}}}, TESTED),
        ({"targets": {"spoken": {"kind": "cross-domain"}}}, END),
        ({"baseline": "own"}, END),
        ({"text": {"lowercase": False}}, {**REFINED, **TUNED, **LANGUAGE_MODEL}),
        ({"decoding": {"beam": 8}}, TESTED),
        ({"decoding": {"language_model": {"order": 2}}}, {**LANGUAGE_MODEL, **TESTED}),
        ({"analyse": {"bootstrap_replicates": 21}}, {"analyse_start": CELLS, **END}),
        ({"analyse": {"measure": "svcca"}}, END),
        ({"claims": []}, END),
        ({"contrasts": [{"treatment": "own", "baseline": "own+S"}]}, END),
        ({"report": {"confidence": 0.9}}, END),
        ({"report": {"samples": 9, "compared": 9, "clips": False}}, {"write_report": {""}}),
        ({"title": "Another", "question": "Which?"}, {"write_report": {""}}),
        ({"threads": 2, "devices": 2, "nodes": 2}, {}),
        ({"corpora": {"heard": {"licence": "cc0-1.0"}}}, END),
    ],
    ids=lambda value: "" if "write_report" in value or not value else "-".join(value),
)
def test_a_changed_key_runs_what_reads_it(study, changes, plan):
    edit(study, **changes)
    assert planned(study) == plan


def test_probes_and_similarity_of_languages_run_alone(tmp_path):
    """In a study that asks what makes a start transfer, which needs four languages and four trained starts."""
    names = {"one": "en", "two": "fi", "three": "sw", "four": "tr"}
    corpora = {name: {"path": name, **CORPUS, "language": language} for name, language in names.items()}
    starts = {f"on-{name}": {"kind": "ssl", "corpora": {name: 0.0002}} for name in names}
    wide = {**STUDY, "corpora": corpora, "starts": {"scratch": {"kind": "scratch"}, **starts}, "seeds": [1]}
    wide |= {"targets": {name: {"corpus": name, "kind": "in-domain"} for name in names}, "claims": [], "probe": {}}
    folder = finished(tmp_path, wide)
    assert planned(folder) == {}
    edit(folder, similarity={"acoustic": {"minutes": 4.0}})
    assert planned(folder) == {"measure_similarity": {""}, **END}
    edit(folder, similarity={"acoustic": {"minutes": 5.0}}, probe={"updates": 7})
    assert planned(folder) == {"probe_start": {f"{s}/{t}/1s" for s in wide["starts"] for t in names}, **END}
    (folder / "pairs.tsv").write_text("language_a\tlanguage_b\tsimilarity\nen\tfi\t0.1\n")
    edit(folder, similarity={"tables": {"mine": "pairs.tsv"}}, probe={"updates": 100})
    assert planned(folder) == END


def test_every_section_of_a_study_has_a_row_in_the_page():
    page = (ROOT / "docs/reruns.md").read_text()
    rows = page[page.index("## Edits of the study file") : page.index("## Edits of a corpus")]
    named = {"study": "another name", "corpora": "a corpus and", "targets": "target", "budgets": "budget"}
    named |= {"seeds": "one more seed"}
    missing = [key for key in Study.model_fields if (named.get(key) or f"`{key}") not in rows]
    assert not missing


def test_the_order_of_keys_runs_nothing_but_what_lists_them(study):
    content = yaml.safe_load((study / "study.yaml").read_text())
    (study / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=True))
    assert planned(study) == END  # starts are listed in another order
    content = {key: content[key] for key in reversed(content)}
    (study / "study.yaml").write_text("# a comment\n" + yaml.safe_dump(content, sort_keys=False))
    assert planned(study) == {}


def test_what_is_added_leaves_the_rest(study):
    edit(study, seeds=[1, 2, 3])
    new = runs_of(*STARTS, seeds=(3,))
    assert planned(study) == {
        "draw_subset": {"spoken/1s/3"},
        "finetune_run": new,
        "score_run": new,
        "analyse_start": CELLS,  # over all seeds
        **END,
    }
    edit(study, seeds=[1, 2], budgets=["1s", "2s"])
    new = runs_of(*STARTS, budget="2s")
    cells = {f"{start}/spoken/2s" for start in ("own", "own+S")}
    subsets = {"spoken/2s/1", "spoken/2s/2"}
    assert planned(study) == {
        "draw_subset": subsets,
        "finetune_run": new,
        "score_run": new,
        "analyse_start": cells,
        **END,
    }
    edit(study, budgets=["1s"], starts={"more": {"kind": "ssl", "from": "own", "corpora": {"heard": 0.0002}}})
    assert planned(study) == {"pretrain_start": {"more"}, **after("more")}


def test_an_added_language_leaves_the_rest(study):
    write_corpus(study / "third", seed=3)
    target = {"third": {"corpus": "third", "kind": "cross-lingual"}}
    edit(study, corpora={"third": {"path": "third", **CORPUS}}, targets=target)
    new = runs_of(*STARTS, target="third")
    assert planned(study) == {
        "read_corpus": {"third"},
        "extract_features": {f"third/{split}" for split in SPLITS},
        "draw_subset": {"third/1s/1", "third/1s/2"},
        "train_language_model": {"third"},
        "finetune_run": new,
        "score_run": new,
        "analyse_start": {f"{start}/third/1s" for start in ("own", "own+S")},
        **END,
    }


def test_a_renamed_study_makes_its_results_from_the_same_data(study):
    substituted(study / "study.yaml", "study: tiny\n", "study: renamed\n")
    assert planned(study) == {**ALL, **LANGUAGE_MODEL}


def test_times_alone_run_nothing(study):
    for path in sorted(study.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts:
            path.touch()
    assert planned(study) == {}


def test_edits_of_the_library_and_of_scripts_run_nothing(study, tmp_path):
    folder = tmp_path / "repository"
    for name in ("Snakefile", "rules", "workflow", "profiles"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        folder.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    (folder / "src").symlink_to(ROOT / "src")
    for script in (folder / "workflow/scripts").iterdir():
        script.write_text(f"# a comment\n{script.read_text()}")
    assert planned(study, snakefile=folder / "Snakefile") == {}


@pytest.mark.slow
def test_a_raised_version_runs_its_stage(study, monkeypatch):
    data = {
        "extract_features": USED,
        "draw_subset": SUBSETS,
        **LANGUAGE_MODEL,
        **ALL,
    }
    raised = {
        "corpora": {},  # read again while planning, and as before
        "features": data,
        "subsets": {"draw_subset": SUBSETS, **TUNED},
        "decode": {**LANGUAGE_MODEL, **TESTED},
        "pretrain": PRETRAINED,
        "semisup": REFINED,
        "finetune": TUNED,
        "score": TESTED,
        "analyse": {"analyse_start": CELLS, **END},
        "report": END,
    }
    for stage, plan in raised.items():
        with monkeypatch.context() as patch:
            patch.setitem(VERSIONS, stage, 1000)
            assert planned(study) == plan, stage


def test_a_transcript_runs_what_reads_it(study):
    table = study / "spoken/metadata.tsv"
    before = table.read_text()
    plans = {
        "test": TESTED,
        "dev": {**LANGUAGE_MODEL, **TUNED},
        "train": {"draw_subset": SUBSETS, **LANGUAGE_MODEL, **TUNED},
    }
    for split, plan in plans.items():
        copy = Path(shutil.copytree(study, study.parent / split, symlinks=True))
        number = {"train": 1, "dev": 9, "test": 11}[split]
        substituted(copy / table.relative_to(study), f"word{number} ", "another ")
        assert planned(copy) == plan
        texts = pq.read_table(copy / f"data/features/spoken/{split}.parquet")["text"].to_pylist()
        assert texts.count("another here") == 1
        (copy / table.relative_to(study)).write_text(before)
        assert planned(copy) == {}  # and back


def test_transcripts_that_are_not_read_run_nothing(study):
    substituted(study / "heard/metadata.tsv", "word1 ", "another ")
    assert planned(study) == REFINED  # `own` hears the corpus, `own+S` reads it
    substituted(study / "heard/metadata.tsv", "word11 ", "another ")
    assert planned(study) == REFINED  # its test split is not used


def test_replaced_audio_runs_what_hears_it(study):
    copies = [Path(shutil.copytree(study, study.parent / name, symlinks=True)) for name in ("train", "test", "unused")]
    write_noise(copies[0] / "spoken/1.wav", 9)
    extracted = {"extract_features": {"spoken/train"}}
    assert planned(copies[0]) == {**extracted, "draw_subset": SUBSETS, **LANGUAGE_MODEL, **ALL}
    write_noise(copies[1] / "spoken/11.wav", 9)
    assert planned(copies[1]) == {"extract_features": {"spoken/test"}, "analyse_start": CELLS, **TESTED}
    write_noise(copies[2] / "heard/11.wav", 9)
    assert planned(copies[2]) == {}


def test_rows_of_a_table_run_what_uses_their_split(study):
    table = study / "spoken/metadata.tsv"
    write_noise(study / "spoken/new.wav", 9)
    table.write_text(table.read_text() + "new\tnew.wav\ttest\tnew here\n")
    assert planned(study) == {"extract_features": {"spoken/test"}, "analyse_start": CELLS, **TESTED}


def test_deleted_intermediates_are_not_missed_until_they_are_needed(study):
    shutil.rmtree(study / "data")
    assert planned(study) == {}
    edit(study, decoding={"beam": 8})
    # Snakemake does not know that what is made again will be the same; trainings compare hashes, and end at once.
    data = {"read_corpus": {"heard", "spoken"}, "extract_features": USED, "draw_subset": SUBSETS}
    assert planned(study) == {**data, **LANGUAGE_MODEL, **ALL}


def test_deleted_results_are_made_again(study):
    plans = {
        "runs/own/spoken/1s/seed1/model.safetensors": {
            "finetune_run": {"own/spoken/1s/1"},
            "score_run": {"own/spoken/1s/1"},
            "analyse_start": {"own/spoken/1s"},
            **END,
        },
        "scores/own/spoken/1s/seed1.parquet": {"score_run": {"own/spoken/1s/1"}, **END},
        "representation/own/spoken/1s.parquet": {"analyse_start": {"own/spoken/1s"}, **END},
        "starts/own+S/model.safetensors": REFINED,
        "language_models/spoken.arpa": {**LANGUAGE_MODEL, **TESTED},
        "summary.json": END,
        "report.html": {"write_report": {""}},
    }
    for path, plan in plans.items():
        (study / "results/tiny" / path).rename(study / "away")
        assert planned(study) == plan, path
        (study / "away").rename(study / "results/tiny" / path)
        assert planned(study) == {}


def test_another_corpus_of_the_same_name_is_refused(study):
    content = (study / "study.yaml").read_text().replace("study: tiny\n", "study: other\n")
    (study / "other.yaml").write_text(content.replace("path: heard\n", "path: spoken\n"))
    status, text = snakemake(study, "--dry-run", study="other.yaml")
    assert status == 1
    assert "corpora.heard: study 'tiny' has another corpus of this name (path: spoken, was heard there)" in text
    assert planned(study) == {}
