rule score_run:
    input:
        unpack(score_input),
    output:
        scores="results/<study>/scores/{start}/{target}/{budget}/seed{seed}.parquet",
    log:
        "logs/score_run/<study>/{start}/{target}/{budget}/seed{seed}.log",
    benchmark:
        "benchmarks/score_run/<study>/{start}/{target}/{budget}/seed{seed}.tsv"
    threads: STUDY.threads
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        job=score_job,
    script:
        "../workflow/scripts/score_run.py"
