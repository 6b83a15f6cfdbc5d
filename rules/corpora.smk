rule synthesise_corpus:
    output:
        table="data/raw/{corpus}/metadata.tsv",
    log:
        "logs/synthesise_corpus/{corpus}.log",
    benchmark:
        "benchmarks/synthesise_corpus/{corpus}.tsv"
    wildcard_constraints:
        # Only synthetic corpora, so that this rule never overwrites the table of recorded speech.
        corpus=any_of(WORKFLOW.synthetic()),
    threads: 1
    resources:
        mem_mb=1500,
        runtime=60,
    params:
        settings=synthesis_settings,
    script:
        "../workflow/scripts/synthesise_corpus.py"


rule read_corpus:
    input:
        corpus=corpus_inputs,
    output:
        train="data/manifests/{corpus}/train.parquet",
        dev="data/manifests/{corpus}/dev.parquet",
        test="data/manifests/{corpus}/test.parquet",
        train_rejects="data/manifests/{corpus}/train.rejects.parquet",
        dev_rejects="data/manifests/{corpus}/dev.rejects.parquet",
        test_rejects="data/manifests/{corpus}/test.rejects.parquet",
    log:
        "logs/read_corpus/{corpus}.log",
    benchmark:
        "benchmarks/read_corpus/{corpus}.tsv"
    wildcard_constraints:
        # The manifests of a corpus that was read follow its edits by themselves; see readings.py.
        corpus=any_of(UNREAD),
    threads: 2
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        settings=corpus_settings,
    script:
        "../workflow/scripts/read_corpus.py"
