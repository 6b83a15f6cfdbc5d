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
    threads: 1
    resources:
        mem_mb=1500,
        runtime=240,
    params:
        settings=features_settings,
    script:
        "../workflow/scripts/extract_features.py"


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
