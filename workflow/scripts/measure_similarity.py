from headstart.logs import log_to

log_to(snakemake.log[0])

import torch

from headstart.jobs import SimilarityJob
from headstart.languages.acoustic import measure_similarity

torch.set_num_threads(snakemake.threads)
measure_similarity(SimilarityJob(**snakemake.params.job))
