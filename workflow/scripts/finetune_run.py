from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.jobs import FinetuneJob
from headstart.training.launch import launch

launch(
    FinetuneJob(**snakemake.params.job),
    threads=snakemake.threads,
    processes=snakemake.resources.processes,
    nodes=snakemake.resources.nodes,
    log_file=snakemake.log[0],
)
