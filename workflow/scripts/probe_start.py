import torch

from headstart.jobs import ProbeJob
from headstart.logs import log_to
from headstart.probe.probing import probe_start

log_to(snakemake.log[0])
torch.set_num_threads(snakemake.threads)
probe_start(ProbeJob(**snakemake.params.job))
