from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.features.shards import join_shards

parts = zip(snakemake.input.features, snakemake.input.audio, snakemake.input.rejects, strict=True)
join_shards(list(parts), snakemake.output.audio, snakemake.output.features, snakemake.output.rejects)
