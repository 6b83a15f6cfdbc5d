from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.features.extraction import extract_features

shard = snakemake.wildcards.get("shard", 0), snakemake.wildcards.get("shards", 1)
extract_features(
    snakemake.input.manifest,
    snakemake.output.audio,
    snakemake.output.features,
    snakemake.output.rejects,
    shard=tuple(map(int, shard)),
    processes=snakemake.threads,
    state=snakemake.params.state,
    settings=snakemake.params.settings,
)
