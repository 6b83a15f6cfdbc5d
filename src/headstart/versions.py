"""The version of every stage, for the workflow: a raised one makes its jobs, and what follows, run again.

Snakemake sees neither a change in an imported module nor, with our profile, one in a script. The numbers stand here and
not beside the stages, so that planning the workflow does not import torch.
"""

VERSIONS = {
    "synthesis": 1,
    "corpora": 3,
    "features": 3,
    "subsets": 1,
    "pretrain": 3,
    "semisup": 2,
    "finetune": 3,
    "score": 3,
    "analyse": 1,
    "report": 6,
}
