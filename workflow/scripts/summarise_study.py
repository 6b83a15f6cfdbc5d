from pathlib import Path

from headstart.config import parse_study
from headstart.logs import log_to
from headstart.recipes import files_recipe
from headstart.summary import write_summary

log_to(snakemake.log[0])
settings = snakemake.params.settings
write_summary(parse_study(settings["study"]), Path("results"), files_recipe(settings, dict(snakemake.input.items())))
