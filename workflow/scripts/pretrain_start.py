from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.jobs import PretrainJob
from headstart.training.launch import launch

launch(
    PretrainJob(**snakemake.params.job),
    threads=snakemake.threads,
    processes=snakemake.resources.processes,
    nodes=snakemake.resources.nodes,
    log_file=snakemake.log[0],
)
