from pathlib import Path

from headstart.config import parse_study
from headstart.corpora import describe
from headstart.files import read_json
from headstart.logs import log_to
from headstart.report import write_report

log_to(snakemake.log[0])
study = parse_study(snakemake.params.settings["study"])
summary = read_json(snakemake.input.summary)
write_report(study, summary, Path("results"), describe(snakemake.input.manifests), Path(snakemake.output.report))
