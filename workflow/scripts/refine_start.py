from pathlib import Path

from headstart.launch import launch

settings, files, output = snakemake.params.settings, snakemake.input, Path(snakemake.output.model).parent


def corpora(kind, **paths):
    """One dict a corpus: its name, its hours, and its files by these keys."""
    rows = zip(settings[kind].items(), *paths.values(), strict=True)
    return [{"name": name, "hours": hours, **dict(zip(paths, own, strict=True))} for (name, hours), *own in rows]


launch(
    "semisup",
    {
        "labelled": corpora(
            "labelled",
            features=files.labelled_features,
            audio=files.labelled_audio,
            dev_features=files.dev_features,
            dev_audio=files.dev_audio,
        ),
        "unlabelled": corpora("unlabelled", features=files.unlabelled_features, audio=files.unlabelled_audio),
        **{key: settings[key] for key in ("settings", "ssl", "text", "model", "parent", "seed")},
        "output": str(output),
        "state": str(Path("results/.state") / output.relative_to("results")),
        "threads": snakemake.threads,
    },
    processes=snakemake.resources.processes,
    log_file=snakemake.log[0],
)
