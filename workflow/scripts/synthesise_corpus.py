from pathlib import Path

from headstart.config import SyntheticCorpus
from headstart.logs import log_to
from headstart.synthesis import synthesise_corpus

log_to(snakemake.log[0])
corpus = SyntheticCorpus(**snakemake.params.settings["corpus"])
synthesise_corpus(Path(snakemake.output.table).parent, **corpus.model_dump(exclude={"reader"}))
