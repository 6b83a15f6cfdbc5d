from headstart.logs import log_to

log_to(snakemake.log[0])

from pathlib import Path

from pydantic import TypeAdapter

from headstart.changes import RECORD, read_recorded
from headstart.corpora.registry import Corpus, open_reader
from headstart.study.fields import SPLITS
from headstart.workflow import raw_folder

settings, output = snakemake.params.settings, snakemake.output
reader = open_reader(TypeAdapter(Corpus).validate_python(settings["corpus"]), raw_folder(snakemake.wildcards.corpus))
paths = {split: (output[split], output[f"{split}_rejects"]) for split in SPLITS}
folder = Path(output.train).parent
state = folder.parent / ".state" / folder.name  # no parameter of the rule, because the manifests do not depend on it
read_recorded(reader, paths, settings, folder / RECORD, snakemake.threads, state)
