from pathlib import Path

from headstart.corpora.synthetic.synthesis import synthesise_corpus
from headstart.logs import log_to
from headstart.study.corpora import SyntheticCorpus

log_to(snakemake.log[0])
corpus = SyntheticCorpus(**snakemake.params.settings["corpus"])
synthesise_corpus(Path(snakemake.output.table).parent, **corpus.model_dump(exclude={"reader", "text"}))
