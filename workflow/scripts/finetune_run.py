from pathlib import Path

from headstart.launch import launch

settings, files, output = snakemake.params.settings, snakemake.input, Path(snakemake.output.model).parent
launch(
    "finetune",
    {
        "train": {"features": files.train_features, "audio": files.train_audio},
        "dev": {"features": files.dev_features, "audio": files.dev_audio},
        "subset": files.subset,
        "settings": settings["settings"],
        "text": settings["text"],
        "model": settings["model"],
        "start": settings["start"],
        "seed": settings["seed"],
        "output": str(output),
        "state": str(Path("results/.state") / output.relative_to("results")),
        "threads": snakemake.threads,
    },
    processes=snakemake.resources.processes,
    log_file=snakemake.log[0],
)
