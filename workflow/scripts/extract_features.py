from headstart.features.extraction import extract_features
from headstart.logs import log_to

log_to(snakemake.log[0])
extract_features(snakemake.input.manifest, snakemake.output.audio, snakemake.output.features, snakemake.output.rejects)
