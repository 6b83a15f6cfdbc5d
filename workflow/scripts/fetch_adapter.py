from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.fetch import fetch_adapter
from headstart.jobs import FetchJob

fetch_adapter(FetchJob(**snakemake.params.job), snakemake.wildcards.language)
