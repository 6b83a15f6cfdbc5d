# The study and its jobs. headstart.workflow determines the inputs and settings of every job; the functions below only
# pass it the wildcards. The settings of a job go into `params` as one plain dict that includes the version of the
# stage, because Snakemake compares params without their names and does not notice changes in imported modules.
import gc
import glob
import os
import re
import sys

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# Snakemake keeps nearly all objects that it makes for thousands of jobs. Python looks through them for garbage again and
# again, which took a tenth of the time of planning; so let it look less often.
gc.set_threshold(50_000)

# The library need not be installed: the Snakefile and its jobs, which are separate processes, find it in src/, beside
# this file's folder. `envvars` passes the variable on to jobs on other machines.
LIBRARY = os.path.join(os.path.dirname(str(workflow.current_basedir)), "src")
if os.path.isdir(LIBRARY):
    sys.path.insert(0, LIBRARY)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [LIBRARY, os.environ.get("PYTHONPATH")]))
os.environ.setdefault("PYTHONPATH", "")  # of a module from GitHub, whose library is installed


envvars:
    "PYTHONPATH",


from headstart.logs import CALL, name_call
from headstart.readings import claim_corpora, follow_corpora, followed, unread
from headstart.study.reading import StudyError, parse_study, read_yaml
from headstart.study.planned import keep_planned, planned_path, planned_study, variable
from headstart.workflow import Workflow

# The name of this workflow where another Snakefile includes it by `module`; None otherwise. docs/cluster.md
MODULE = workflow.modifier.namespace

# A job on another machine reads the workflow again. It then uses the study with which the jobs were planned, because
# the study file may have been edited since.
try:
    if workflow.is_main_process:
        name_call()
        for file in workflow.configfiles:
            read_yaml(file)  # Snakemake has read it too, but accepts repeated keys
        SOURCE = f"module {MODULE}" if MODULE else ", ".join(map(str, workflow.configfiles))
        STUDY = parse_study(config, SOURCE)
        WORKFLOW = Workflow(STUDY)
        WORKFLOW.check(SOURCE)
        # What was edited in a corpus is brought into its manifests first, so that only jobs run that it concerns.
        # Not beside another Snakemake, whose jobs may be reading them.
        if not glob.glob(".snakemake/locks/*"):
            for sentence in follow_corpora(WORKFLOW, processes=2):
                logger.info(sentence)
        UNREAD = unread(WORKFLOW)
        os.environ[variable(MODULE)] = planned_path(STUDY)
        if MODULE:
            keep_planned(STUDY)  # Snakemake does not call `onstart` of a module
    else:
        os.environ.setdefault(CALL, "")  # a job that is started by hand belongs to no call
        STUDY = planned_study(MODULE)
        WORKFLOW = Workflow(STUDY)
        UNREAD = list(STUDY.corpora)
except StudyError as error:
    raise WorkflowError(str(error))


envvars:
    variable(MODULE),
    CALL,


onstart:
    keep_planned(STUDY)
    claim_corpora(WORKFLOW)


def any_of(names):
    """Wildcard constraint that matches exactly these names; without names, "(?!)" matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def untouched(files):
    """Input files of which those under `untranscribed` count only if another input has changed with them.

    A feature manifest is written anew when transcripts change, which these jobs do not read. What else is in it changes
    together with the audio.
    """
    return {**files, "untranscribed": ancient(files["untranscribed"])}


def corpus_inputs(wildcards):
    files = WORKFLOW.corpus_inputs(wildcards.corpus)
    return ancient(files) if followed(WORKFLOW, wildcards.corpus) else files


def corpus_settings(wildcards):
    return WORKFLOW.corpus_settings(wildcards.corpus)


def features_settings(wildcards):
    return WORKFLOW.features_settings()


def shards_input(wildcards):
    return WORKFLOW.shards(wildcards.corpus)


def synthesis_settings(wildcards):
    return WORKFLOW.synthesis_settings(wildcards.corpus)


def subset_settings(wildcards):
    return WORKFLOW.subset_settings(wildcards.corpus, wildcards.budget, int(wildcards.seed))


def fetch_job(wildcards):
    return WORKFLOW.fetch_job(f"data/models/{wildcards.model}/{wildcards.revision}").plain()


def clusters_input(wildcards):
    return untouched(WORKFLOW.clusters_input(wildcards.corpus))


def clusters_settings(wildcards):
    return WORKFLOW.clusters_settings(int(wildcards.clusters))


def start_job(wildcards):
    return WORKFLOW.start_job(wildcards.start).plain()


def start_input(wildcards):
    return untouched(WORKFLOW.start_input(wildcards.start))


def run_of(wildcards):
    return wildcards.start, wildcards.target, wildcards.budget, int(wildcards.seed)


def finetune_job(wildcards):
    return WORKFLOW.finetune_job(*run_of(wildcards)).plain()


def finetune_input(wildcards):
    return WORKFLOW.finetune_input(*run_of(wildcards))


def language_model_job(wildcards):
    return WORKFLOW.language_model_job(wildcards.target).plain()


def language_model_input(wildcards):
    return WORKFLOW.language_model_input(wildcards.target)


def score_job(wildcards):
    return WORKFLOW.score_job(*run_of(wildcards)).plain()


def score_input(wildcards):
    return WORKFLOW.score_input(*run_of(wildcards))


def analyse_job(wildcards):
    return WORKFLOW.analyse_job(wildcards.start, wildcards.target, wildcards.budget).plain()


def analyse_input(wildcards):
    return untouched(WORKFLOW.analyse_input(wildcards.start, wildcards.target, wildcards.budget))


def summary_settings(wildcards):
    return WORKFLOW.summary_settings()


def report_settings(wildcards):
    return WORKFLOW.report_settings()


def probe_job(wildcards):
    return WORKFLOW.probe_job(wildcards.start, wildcards.target, wildcards.budget).plain()


def probe_input(wildcards):
    return WORKFLOW.probe_input(wildcards.start, wildcards.target, wildcards.budget)


def similarity_job(wildcards):
    return WORKFLOW.similarity_job().plain()


def similarity_input(wildcards):
    return WORKFLOW.similarity_input()


def summary_input(wildcards):
    return WORKFLOW.summary_input()


def report_input(wildcards):
    return WORKFLOW.report_input()
