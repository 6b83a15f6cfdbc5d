from pathlib import Path

from headstart.config import parse_study
from headstart.logs import log_to
from headstart.summary import write_summary

log_to(snakemake.log[0])
write_summary(parse_study(snakemake.params.settings["study"]), Path("results"))
