from headstart.logs import log_to

log_to(snakemake.log[0])

import torch

from headstart.jobs import ProbeJob
from headstart.probe.probing import probe_start

torch.set_num_threads(snakemake.threads)
probe_start(ProbeJob(**snakemake.params.job))
