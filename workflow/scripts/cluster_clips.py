from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.features.clusters import cluster_clips

data, settings = snakemake.input, snakemake.params.settings
cluster_clips(data.untranscribed, data.audio, settings["clusters"], snakemake.output.clusters)
