from pathlib import Path

from pydantic import TypeAdapter

from headstart.corpora.reading import as_folder, write_manifests
from headstart.logs import log_to
from headstart.study.sections import SPLITS, Corpus

log_to(snakemake.log[0])
corpus = TypeAdapter(Corpus).validate_python(snakemake.params.settings["corpus"])
folder = as_folder(corpus, Path(snakemake.input.table).parent)
write_manifests(folder, {s: (snakemake.output[s], snakemake.output[f"{s}_rejects"]) for s in SPLITS})
