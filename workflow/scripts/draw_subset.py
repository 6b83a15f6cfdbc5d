from headstart.logs import log_to
from headstart.subsets import draw_subset

log_to(snakemake.log[0])
settings = snakemake.params.settings
by = settings.get("by", "random")
draw_subset(snakemake.input.features, settings["budget"], settings["seed"], snakemake.output.subset, by)
