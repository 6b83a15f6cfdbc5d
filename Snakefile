# Headstart: raw speech -> manifests -> features -> starts -> fine-tuned runs -> scores -> report.
#
#   snakemake --cores 2                                           the default study, config/config.yaml
#   snakemake --cores 2 --configfile config/studies/kichwa.yaml   another one
from snakemake.utils import min_version

min_version("9.27")


# The default study is only read without `--configfile`, because Snakemake would merge the two files.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


include: "rules/common.smk"


# In the paths of the rules, `<study>` is the name of the study. With a wildcard there, Snakemake would compare each file
# with the paths of many rules.
pathvars:
    study=STUDY.study,


wildcard_constraints:
    corpus=any_of(STUDY.corpora),
    split="train|dev|test",
    start=any_of(STUDY.starts),
    target=any_of(STUDY.targets),
    budget=any_of(STUDY.budgets),
    seed="[0-9]+",
    clusters="[0-9]+",


rule all:
    default_target: True
    input:
        "results/<study>/summary.json",
        "results/<study>/report.html",
        # The files that `dvc metrics` and `dvc plots` read.
        "results/<study>/metrics.json",
        "results/<study>/curves.csv",
        # Models and tables are results too: one that was deleted is made again.
        WORKFLOW.outputs(),


include: "rules/corpora.smk"
include: "rules/features.smk"
include: "rules/fetch.smk"
include: "rules/pretrain.smk"
include: "rules/semisup.smk"
include: "rules/finetune.smk"
include: "rules/decode.smk"
include: "rules/score.smk"
include: "rules/analyse.smk"
include: "rules/probe.smk"
include: "rules/similarity.smk"
include: "rules/report.smk"
