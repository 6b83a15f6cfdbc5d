from pathlib import Path

from headstart.logs import log_to
from headstart.score import score_run

log_to(snakemake.log[0])
score_run(
    run=Path(snakemake.input.model).parent,
    features=snakemake.input.features,
    audio=snakemake.input.audio,
    text=snakemake.params.settings["text"],
    output=snakemake.output.scores,
    threads=snakemake.threads,
)
