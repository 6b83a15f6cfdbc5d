"""The version of every stage. Raising a number makes Snakemake run the stage's jobs, and those that follow, again.

It is needed because Snakemake does not notice changes in imported modules nor, with our profile, in scripts. The
numbers are here and not in the stages' modules, so that planning the workflow does not import torch.
"""

VERSIONS = {
    "normalisation": 2,  # of transcripts: not a stage, but a part of the jobs of those that normalise text
    "synthesis": 2,
    "corpora": 5,
    "features": 7,
    "subsets": 1,
    "fetch": 1,
    "clusters": 1,
    "pretrain": 4,
    "semisup": 2,
    "finetune": 4,
    "probe": 1,
    "decode": 2,
    "score": 4,
    "analyse": 1,
    "similarity": 1,
    "report": 12,
}
