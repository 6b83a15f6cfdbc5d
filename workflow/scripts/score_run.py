import torch

from headstart.jobs import ScoreJob
from headstart.logs import log_to
from headstart.score.scoring import score_run

log_to(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
score_run(ScoreJob(**snakemake.params.job))
