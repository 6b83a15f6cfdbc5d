rule probe_start:
    input:
        unpack(probe_input),
    output:
        probes="results/<study>/probes/{start}/{target}/{budget}.parquet",
    log:
        "logs/probe_start/<study>/{start}/{target}/{budget}.log",
    benchmark:
        "benchmarks/probe_start/<study>/{start}/{target}/{budget}.tsv"
    threads: STUDY.threads
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        job=probe_job,
    script:
        "../workflow/scripts/probe_start.py"
