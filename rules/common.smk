# The study, and every helper of the rule files. What a job depends on is passed as one plain dict in `params`, with the
# stage's version in it: Snakemake compares params without their names, and sees no change in imported modules.
import os
import re
import sys
from functools import cache

from snakemake.exceptions import WorkflowError

# Jobs are processes of their own, and find the library beside the Snakefile as the Snakefile does: it needs no install.
# `envvars` hands the variable on to jobs on other machines.
LIBRARY = os.path.join(workflow.basedir, "src")
sys.path.insert(0, LIBRARY)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [LIBRARY, os.environ.get("PYTHONPATH")]))


envvars:
    "PYTHONPATH",


from headstart.config import HubStart, SemisupStart, SslStart, StudyError, is_folder, parse_study, read_yaml
from headstart.files import checkpoint_files
from headstart.settings import SyntheticCorpus
from headstart.corpora import CorpusError, audio_state, check_folder
from headstart.versions import VERSIONS

try:
    for file in workflow.configfiles:
        read_yaml(file)  # Snakemake has read it, but says nothing of a key that is there twice
    STUDY = parse_study(config, ", ".join(map(str, workflow.configfiles)))
except StudyError as error:
    raise WorkflowError(str(error))

SYNTHETIC = [name for name, corpus in STUDY.corpora.items() if isinstance(corpus, SyntheticCorpus)]
for name, corpus in STUDY.corpora.items():
    if name not in SYNTHETIC:
        try:
            check_folder(corpus)
        except CorpusError as error:
            raise WorkflowError(f"corpora.{name}: {error}")

for name, start in STUDY.starts.items():
    folder = start.path if isinstance(start, HubStart) else getattr(start, "from_", None)
    is_local = isinstance(start, HubStart) or (folder is not None and is_folder(folder))
    if is_local and not os.path.isfile(os.path.join(folder, "config.json")):
        raise WorkflowError(f"starts.{name}: {folder}: no checkpoint in Hugging Face format here (no config.json)")


PRETRAINED = [name for name, start in STUDY.starts.items() if isinstance(start, SslStart)]
REFINED = [name for name, start in STUDY.starts.items() if isinstance(start, SemisupStart)]


def any_of(names):
    """A wildcard constraint: one of these names. "(?!)" matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def settings(stage, **values):
    """One dict for `params`: what the job depends on, as plain values, and the version of its stage."""
    return {"version": VERSIONS[stage], **values}


def dump(section):
    return section.model_dump(mode="json", by_alias=True)


@cache
def recordings(corpus):
    """State of a recorded corpus's audio, which its table does not show; nothing of a synthetic one, made from settings."""
    return {} if corpus in SYNTHETIC else {"audio": audio_state(STUDY.corpora[corpus])}


def corpus_settings(wildcards):
    return settings("corpora", corpus=dump(STUDY.corpora[wildcards.corpus]), **recordings(wildcards.corpus))


def features_settings(wildcards):
    # The manifest stays as it was where samples changed and lengths did not.
    return settings("features", **recordings(wildcards.corpus))


def synthesis_settings(wildcards):
    return settings("synthesis", corpus=dump(STUDY.corpora[wildcards.corpus]))


def corpus_table(wildcards):
    corpus = STUDY.corpora[wildcards.corpus]
    if isinstance(corpus, SyntheticCorpus):
        return f"data/raw/{wildcards.corpus}/metadata.tsv"
    return f"{corpus.path}/{corpus.table}"


def features_of(corpus, split):
    return {
        "features": f"data/features/{corpus}/{split}.parquet",
        "audio": f"data/features/{corpus}/{split}.arrow",
    }


def start_folder(start):
    """Checkpoint folder of a start, which is a name or itself a folder; None for random weights."""
    if start is None or is_folder(start):
        return start
    if start in PRETRAINED + REFINED:
        return f"results/{STUDY.study}/starts/{start}"
    return getattr(STUDY.starts[start], "path", None)


def start_files(start):
    """Files whose change makes a job that begins with this start run again."""
    folder = start_folder(start)
    if folder is None:
        return []
    if start in PRETRAINED + REFINED:
        return [f"{folder}/model.safetensors"]
    # A local checkpoint: what there is of it, or what should be there for Snakemake to name as missing.
    return list(map(str, checkpoint_files(folder))) or [f"{folder}/config.json", f"{folder}/model.safetensors"]


def pretrain_input(wildcards):
    start = STUDY.starts[wildcards.start]
    corpora = [features_of(corpus, "train") for corpus in start.corpora]
    return {
        "features": [files["features"] for files in corpora],
        "audio": [files["audio"] for files in corpora],
        "parent": start_files(start.from_),
    }


def pretrain_settings(wildcards):
    start = STUDY.starts[wildcards.start]
    folder = start_folder(start.from_)
    return settings(
        "pretrain",
        settings=dump(STUDY.settings_of(wildcards.start)),
        # The shape of an encoder with random weights; a checkpoint brings its own.
        model=None if folder else dump(STUDY.model),
        corpora=dict(start.corpora),
        parent=folder,
        seed=start.seed,
    )


def semisup_input(wildcards):
    start = STUDY.starts[wildcards.start]
    files = {"parent": start_files(start.from_)}
    for kind, split in (("labelled", "train"), ("labelled", "dev"), ("unlabelled", "train")):
        for key in ("features", "audio"):
            name = f"dev_{key}" if split == "dev" else f"{kind}_{key}"
            files[name] = [features_of(corpus, split)[key] for corpus in getattr(start, kind)]
    return files


def semisup_settings(wildcards):
    start, chosen = STUDY.starts[wildcards.start], STUDY.settings_of(wildcards.start)
    folder = start_folder(start.from_)
    return settings(
        "semisup",
        settings=dump(chosen),
        ssl=dump(STUDY.pretrain_of(wildcards.start)) if chosen.ssl.weight else None,
        text=dump(STUDY.text),
        model=None if folder else dump(STUDY.model),
        labelled=dict(start.labelled),
        unlabelled=dict(start.unlabelled),
        parent=folder,
        seed=start.seed,
    )


def subset_settings(wildcards):
    return settings("subsets", budget=wildcards.budget, seed=int(wildcards.seed))


def finetune_input(wildcards):
    corpus = STUDY.targets[wildcards.target].corpus
    return {
        **{f"train_{key}": path for key, path in features_of(corpus, "train").items()},
        **{f"dev_{key}": path for key, path in features_of(corpus, "dev").items()},
        "subset": f"data/subsets/{corpus}/{wildcards.budget}/seed{wildcards.seed}.parquet",
        "start": start_files(wildcards.start),
    }


def finetune_settings(wildcards):
    folder = start_folder(wildcards.start)
    return settings(
        "finetune",
        settings=dump(STUDY.finetune),
        text=dump(STUDY.text),
        model=None if folder else dump(STUDY.model),
        start=folder,
        seed=int(wildcards.seed),
    )


def score_input(wildcards):
    run = "results/{study}/runs/{start}/{target}/{budget}/seed{seed}"
    return {
        "model": f"{run}/model.safetensors",
        **features_of(STUDY.targets[wildcards.target].corpus, "test"),
    }


def score_settings(wildcards):
    return settings("score", text=dump(STUDY.text))


def analyse_input(wildcards):
    run = f"results/{STUDY.study}/runs/{wildcards.start}/{wildcards.target}/{wildcards.budget}"
    return {
        "start": start_files(wildcards.start),
        "models": [f"{run}/seed{seed}/model.safetensors" for seed in STUDY.seeds],
        **features_of(STUDY.targets[wildcards.target].corpus, "test"),
    }


def analyse_settings(wildcards):
    # The measure of the gap is for the summary to choose; all are computed.
    return settings(
        "analyse",
        settings=STUDY.analyse.model_dump(mode="json", exclude={"measure"}),
        start=start_folder(wildcards.start),
        seeds=STUDY.seeds,
    )


def all_representations(wildcards):
    return [
        f"results/{STUDY.study}/representation/{start}/{target}/{budget}.parquet"
        for start in STUDY.analysed()
        for target in STUDY.targets
        for budget in STUDY.budgets
    ]


def study_settings(wildcards):
    return settings("report", study=dump(STUDY))


def all_scores(wildcards):
    return [
        f"results/{STUDY.study}/scores/{start}/{target}/{budget}/seed{seed}.parquet"
        for start, target, budget, seed in STUDY.runs()
    ]


def all_manifests(wildcards):
    """Feature manifests that the study uses: what the report counts."""
    used = {(t.corpus, split) for t in STUDY.targets.values() for split in ("train", "dev", "test")}
    for start in STUDY.starts.values():
        used |= {(corpus, "train") for corpus in getattr(start, "corpora", {})}
        used |= {(corpus, "dev") for corpus in getattr(start, "labelled", {})}
    return [f"data/features/{corpus}/{split}.parquet" for corpus, split in sorted(used)]


def all_rejects(wildcards):
    """What the report counts of these splits beside their utterances."""
    paths = [path.replace(".parquet", ".rejects.parquet") for path in all_manifests(wildcards)]
    return paths + [path.replace("data/features/", "data/manifests/") for path in paths]


def hub_recipes(wildcards):
    folders = [start_folder(start) for start, kind in STUDY.starts.items() if isinstance(kind, HubStart)]
    return [file for folder in folders if os.path.exists(file := f"{folder}/recipe.json")]
