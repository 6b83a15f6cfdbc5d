from headstart.logs import log_to

log_to(snakemake.log[0])

from pydantic import TypeAdapter

from headstart.corpora.reading import read_corpus
from headstart.corpora.registry import Corpus, open_reader
from headstart.study.fields import SPLITS
from headstart.workflow import raw_folder

corpus = TypeAdapter(Corpus).validate_python(snakemake.params.settings["corpus"])
reader = open_reader(corpus, raw_folder(snakemake.wildcards.corpus))
read_corpus(reader, {s: (snakemake.output[s], snakemake.output[f"{s}_rejects"]) for s in SPLITS}, snakemake.threads)
