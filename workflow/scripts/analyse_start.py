from pathlib import Path

from headstart.analyse import analyse_start
from headstart.logs import log_to

log_to(snakemake.log[0])
settings, files = snakemake.params.settings, snakemake.input
folders = [str(Path(model).parent) for model in files.models]
analyse_start(
    start=settings["start"],
    runs=dict(zip(settings["seeds"], folders, strict=True)),
    features=files.features,
    audio=files.audio,
    settings=settings["settings"],
    output=snakemake.output.similarities,
    threads=snakemake.threads,
)
