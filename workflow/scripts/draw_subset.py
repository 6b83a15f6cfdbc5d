from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.subsets import draw_subset

settings = snakemake.params.settings
by = settings.get("by", "random")
draw_subset(snakemake.input.features, settings["budget"], settings["seed"], snakemake.output.subset, by)
