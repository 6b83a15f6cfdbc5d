rule summarise_study:
    input:
        unpack(summary_input),
    output:
        summary="results/<study>/summary.json",
        metrics="results/<study>/metrics.json",
        curves="results/<study>/curves.csv",
    log:
        "logs/summarise_study/<study>.log",
    benchmark:
        "benchmarks/summarise_study/<study>.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        settings=summary_settings,
    script:
        "../workflow/scripts/summarise_study.py"


# Without wildcards, because there are thousands of cards: Snakemake would compare each file of the study with each.
rule write_report:
    input:
        unpack(report_input),
    output:
        report="results/<study>/report.html",
        utterances=directory("results/<study>/utterances"),
        comparisons=directory("results/<study>/comparisons"),
        cards=[f"results/<study>/{card}" for card in WORKFLOW.cards()],
    log:
        "logs/write_report/<study>.log",
    benchmark:
        "benchmarks/write_report/<study>.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        settings=report_settings,
    script:
        "../workflow/scripts/write_report.py"
