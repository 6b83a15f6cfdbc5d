from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.fetch import fetch_model
from headstart.jobs import FetchJob

fetch_model(FetchJob(**snakemake.params.job))
