from headstart.logs import log_to

log_to(snakemake.log[0])

from pathlib import Path

from headstart.study.reading import parse_study
from headstart.summarise.summary import write_summary
from headstart.training.recipes import files_recipe

settings = snakemake.params.settings
write_summary(parse_study(settings["study"]), Path("results"), files_recipe(settings, dict(snakemake.input.items())))
