from headstart.fetch import fetch_adapter
from headstart.jobs import FetchJob
from headstart.logs import log_to

log_to(snakemake.log[0])
fetch_adapter(FetchJob(**snakemake.params.job), snakemake.wildcards.language)
