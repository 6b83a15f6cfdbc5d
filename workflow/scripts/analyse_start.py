from headstart.logs import log_to

log_to(snakemake.log[0])

import torch

from headstart.analyse.analysis import analyse_start
from headstart.jobs import AnalyseJob

torch.set_num_threads(snakemake.threads)
analyse_start(AnalyseJob(**snakemake.params.job))
