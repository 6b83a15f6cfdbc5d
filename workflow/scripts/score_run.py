from headstart.logs import log_to

log_to(snakemake.log[0])

import torch

from headstart.jobs import ScoreJob
from headstart.score.scoring import score_run

torch.set_num_threads(snakemake.threads)
score_run(ScoreJob(**snakemake.params.job))
