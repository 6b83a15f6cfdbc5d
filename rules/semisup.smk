rule refine_start:
    input:
        unpack(start_input),
    output:
        model="results/<study>/starts/{start}/model.safetensors",
        config="results/<study>/starts/{start}/config.json",
        processor="results/<study>/starts/{start}/preprocessor_config.json",
        curve="results/<study>/starts/{start}/curve.parquet",
        recipe="results/<study>/starts/{start}/recipe.json",
    log:
        "logs/refine_start/<study>/{start}.log",
    benchmark:
        "benchmarks/refine_start/<study>/{start}.tsv"
    wildcard_constraints:
        start=any_of(WORKFLOW.refined()),
    # Runs before other jobs, because it takes long and many jobs depend on it.
    priority: 1
    threads: STUDY.threads * STUDY.devices
    resources:
        **WORKFLOW.node_resources(),
        mem_mb=3000,
        runtime=1440,
        gpu=0,
        processes=STUDY.devices,
    params:
        job=start_job,
    script:
        "../workflow/scripts/refine_start.py"
