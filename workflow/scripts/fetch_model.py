from headstart.fetch import fetch_model
from headstart.jobs import FetchJob
from headstart.logs import log_to

log_to(snakemake.log[0])
fetch_model(FetchJob(**snakemake.params.job))
