rule extract_features:
    input:
        manifest="data/manifests/{corpus}/{split}.parquet",
    output:
        features="data/features/{corpus}/{split}.parquet",
        audio="data/features/{corpus}/{split}.arrow",
        rejects="data/features/{corpus}/{split}.rejects.parquet",
    log:
        "logs/extract_features/{corpus}/{split}.log",
    benchmark:
        "benchmarks/extract_features/{corpus}/{split}.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=features_settings,
        state="data/features/.state/{corpus}/{split}",
    script:
        "../workflow/scripts/extract_features.py"


# The training split of a corpus with `shards` is extracted in several jobs. They read the whole manifest, but decode
# only their part of it.
rule extract_shard:
    input:
        manifest="data/manifests/{corpus}/train.parquet",
    output:
        features="data/features/{corpus}/shards/train/{shard}-of-{shards}.parquet",
        audio="data/features/{corpus}/shards/train/{shard}-of-{shards}.arrow",
        rejects="data/features/{corpus}/shards/train/{shard}-of-{shards}.rejects.parquet",
    log:
        "logs/extract_shard/{corpus}/{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/extract_shard/{corpus}/{shard}-of-{shards}.tsv"
    wildcard_constraints:
        shard="[0-9]+",
        shards="[0-9]+",
    threads: 2
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=features_settings,
        state="data/features/.state/{corpus}/train-{shard}-of-{shards}",
    script:
        "../workflow/scripts/extract_features.py"


ruleorder: join_shards > extract_features


rule join_shards:
    input:
        unpack(shards_input),
    output:
        features="data/features/{corpus}/{split}.parquet",
        audio="data/features/{corpus}/{split}.arrow",
        rejects="data/features/{corpus}/{split}.rejects.parquet",
    log:
        "logs/join_shards/{corpus}/{split}.log",
    benchmark:
        "benchmarks/join_shards/{corpus}/{split}.tsv"
    wildcard_constraints:
        corpus=any_of(WORKFLOW.sharded()),
        split="train",
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        settings=features_settings,
    script:
        "../workflow/scripts/join_shards.py"


rule draw_subset:
    input:
        features="data/features/{corpus}/train.parquet",
    output:
        subset="data/subsets/{corpus}/{budget}/seed{seed}.parquet",
    log:
        "logs/draw_subset/{corpus}/{budget}/seed{seed}.log",
    benchmark:
        "benchmarks/draw_subset/{corpus}/{budget}/seed{seed}.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        settings=subset_settings,
    script:
        "../workflow/scripts/draw_subset.py"


rule cluster_clips:
    input:
        unpack(clusters_input),
    output:
        clusters="data/clusters/{corpus}/{clusters}.parquet",
    log:
        "logs/cluster_clips/{corpus}/{clusters}.log",
    benchmark:
        "benchmarks/cluster_clips/{corpus}/{clusters}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=clusters_settings,
    script:
        "../workflow/scripts/cluster_clips.py"
