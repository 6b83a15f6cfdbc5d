from pathlib import Path

from headstart.logs import log_to
from headstart.pretrain import pretrain_start

log_to(snakemake.log[0])
settings, output = snakemake.params.settings, Path(snakemake.output.model).parent
files = zip(settings["corpora"].items(), snakemake.input.features, snakemake.input.audio, strict=True)
pretrain_start(
    corpora=[{"name": n, "hours": h, "features": features, "audio": audio} for (n, h), features, audio in files],
    settings=settings["settings"],
    model=settings["model"],
    parent=settings["parent"],
    seed=settings["seed"],
    output=output,
    state=Path("results/.state") / output.relative_to("results"),
    threads=snakemake.threads,
)
