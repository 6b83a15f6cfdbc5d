from pathlib import Path

from headstart.config import parse_study
from headstart.corpora import describe
from headstart.files import read_json
from headstart.logs import log_to
from headstart.recipes import files_recipe
from headstart.report import write_report

log_to(snakemake.log[0])
settings, files = snakemake.params.settings, snakemake.input
write_report(
    parse_study(settings["study"]),
    read_json(files.summary),
    Path("results"),
    describe(files.manifests),
    Path(snakemake.output.report),
    files_recipe(settings, dict(files.items())),
)
