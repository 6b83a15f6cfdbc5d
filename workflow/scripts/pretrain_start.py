from pathlib import Path

from headstart.launch import launch

settings, output = snakemake.params.settings, Path(snakemake.output.model).parent
files = zip(settings["corpora"].items(), snakemake.input.features, snakemake.input.audio, strict=True)
launch(
    "pretrain",
    {
        "corpora": [{"name": n, "hours": h, "features": features, "audio": audio} for (n, h), features, audio in files],
        "settings": settings["settings"],
        "model": settings["model"],
        "parent": settings["parent"],
        "seed": settings["seed"],
        "output": str(output),
        "state": str(Path("results/.state") / output.relative_to("results")),
        "threads": snakemake.threads,
    },
    processes=snakemake.resources.processes,
    log_file=snakemake.log[0],
)
