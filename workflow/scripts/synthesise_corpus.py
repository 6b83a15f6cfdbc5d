from pathlib import Path

from headstart.logs import log_to
from headstart.settings import SyntheticCorpus
from headstart.synthesis import synthesise_corpus

log_to(snakemake.log[0])
corpus = SyntheticCorpus(**snakemake.params.settings["corpus"])
synthesise_corpus(Path(snakemake.output.table).parent, **corpus.model_dump(exclude={"reader"}))
