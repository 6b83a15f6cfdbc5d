rule analyse_start:
    input:
        unpack(analyse_input),
    output:
        similarities="results/<study>/representation/{start}/{target}/{budget}.parquet",
    log:
        "logs/analyse_start/<study>/{start}/{target}/{budget}.log",
    benchmark:
        "benchmarks/analyse_start/<study>/{start}/{target}/{budget}.tsv"
    threads: STUDY.threads
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        job=analyse_job,
    script:
        "../workflow/scripts/analyse_start.py"
