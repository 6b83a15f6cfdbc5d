rule measure_similarity:
    input:
        unpack(similarity_input),
    output:
        similarity="results/<study>/similarity/acoustic.safetensors",
    log:
        "logs/measure_similarity/<study>.log",
    benchmark:
        "benchmarks/measure_similarity/<study>.tsv"
    threads: STUDY.threads
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        job=similarity_job,
    script:
        "../workflow/scripts/measure_similarity.py"
