"""The version of every stage, for the workflow: a raised one makes its jobs, and what follows, run again.

Snakemake sees neither a change in an imported module nor, with our profile, one in a script. The numbers stand here and
not beside the stages, so that planning the workflow does not import torch.
"""

VERSIONS = {
    "synthesis": 1,
    "corpora": 1,
    "features": 1,
    "subsets": 1,
    "pretrain": 3,
    "semisup": 2,
    "finetune": 2,
    "score": 1,
    "analyse": 1,
    "report": 5,
}
