from pathlib import Path

from headstart.finetune import finetune_run
from headstart.logs import log_to

log_to(snakemake.log[0])
settings, files, output = snakemake.params.settings, snakemake.input, Path(snakemake.output.model).parent
finetune_run(
    train={"features": files.train_features, "audio": files.train_audio},
    dev={"features": files.dev_features, "audio": files.dev_audio},
    subset=files.subset,
    settings=settings["settings"],
    text=settings["text"],
    model=settings["model"],
    start=settings["start"],
    seed=settings["seed"],
    output=output,
    state=Path("results/.state") / output.relative_to("results"),
    threads=snakemake.threads,
)
