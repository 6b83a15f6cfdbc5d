# Models of a hub. These rules run where Snakemake runs, because a cluster's nodes may have no network.
rule fetch_model:
    output:
        model="data/models/{model}/{revision}/model.safetensors",
        config="data/models/{model}/{revision}/config.json",
        processor="data/models/{model}/{revision}/preprocessor_config.json",
        source="data/models/{model}/{revision}/source.json",
    log:
        "logs/fetch_model/{model}/{revision}.log",
    benchmark:
        "benchmarks/fetch_model/{model}/{revision}.tsv"
    wildcard_constraints:
        model="[^/]+",
        revision="[^/]+",
    priority: 2
    localrule: True
    threads: 1
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        job=fetch_job,
    script:
        "../workflow/scripts/fetch_model.py"


rule fetch_adapter:
    input:
        source="data/models/{model}/{revision}/source.json",
    output:
        adapter="data/models/{model}/{revision}/adapter.{language}.safetensors",
    log:
        "logs/fetch_adapter/{model}/{revision}/{language}.log",
    benchmark:
        "benchmarks/fetch_adapter/{model}/{revision}/{language}.tsv"
    wildcard_constraints:
        model="[^/]+",
        revision="[^/]+",
        language="[^/.]+",
    localrule: True
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        job=fetch_job,
    script:
        "../workflow/scripts/fetch_adapter.py"
