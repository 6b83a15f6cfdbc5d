rule finetune_run:
    input:
        unpack(finetune_input),
    output:
        model="results/<study>/runs/{start}/{target}/{budget}/seed{seed}/model.safetensors",
        config="results/<study>/runs/{start}/{target}/{budget}/seed{seed}/config.json",
        processor="results/<study>/runs/{start}/{target}/{budget}/seed{seed}/preprocessor_config.json",
        vocabulary="results/<study>/runs/{start}/{target}/{budget}/seed{seed}/vocab.json",
        curve="results/<study>/runs/{start}/{target}/{budget}/seed{seed}/curve.parquet",
        recipe="results/<study>/runs/{start}/{target}/{budget}/seed{seed}/recipe.json",
    log:
        "logs/finetune_run/<study>/{start}/{target}/{budget}/seed{seed}.log",
    benchmark:
        "benchmarks/finetune_run/<study>/{start}/{target}/{budget}/seed{seed}.tsv"
    threads: STUDY.threads * STUDY.devices
    resources:
        **WORKFLOW.node_resources(),
        mem_mb=2500,
        runtime=480,
        gpu=0,
        processes=STUDY.devices,
    params:
        job=finetune_job,
    script:
        "../workflow/scripts/finetune_run.py"
