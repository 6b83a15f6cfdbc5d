from headstart.logs import log_to

log_to(snakemake.log[0])

from pathlib import Path

from headstart.corpora.overview import describe
from headstart.files import read_sealed
from headstart.report.cards import write_cards
from headstart.report.page import write_report
from headstart.study.reading import parse_study
from headstart.text.summary import describe_texts
from headstart.text.token_languages import describe_languages
from headstart.training.recipes import files_recipe
from headstart.workflow import Workflow

settings, files = snakemake.params.settings, snakemake.input
study, summary, corpora = parse_study(settings["study"]), read_sealed(files.summary), describe(files.manifests)
workflow, results = Workflow(study), Path("results")
write_cards(study, summary, results, corpora)
write_report(
    study,
    summary,
    results,
    corpora,
    Path(snakemake.output.report),
    files_recipe(settings, dict(files.items())),
    describe_texts(files.manifests, study.text),
    describe_languages(*workflow.inferred_languages(), study.text),
    workflow.played(),
)
