from headstart.logs import log_to

log_to(snakemake.log[0])

from headstart.decode.language_model import train_language_model
from headstart.jobs import LanguageModelJob

train_language_model(LanguageModelJob(**snakemake.params.job))
