from headstart.logs import log_to

log_to(snakemake.log[0])

from pathlib import Path

from headstart.corpora.synthetic.reader import SyntheticCorpus
from headstart.corpora.synthetic.synthesis import synthesise_corpus

corpus = SyntheticCorpus(**snakemake.params.settings["corpus"])
synthesise_corpus(Path(snakemake.output.table).parent, **corpus.synthesis)
