rule train_language_model:
    input:
        unpack(language_model_input),
    output:
        arpa="results/<study>/language_models/{target}.arpa",
        recipe="results/<study>/language_models/{target}.json",
    log:
        "logs/train_language_model/<study>/{target}.log",
    benchmark:
        "benchmarks/train_language_model/<study>/{target}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        job=language_model_job,
    script:
        "../workflow/scripts/train_language_model.py"
