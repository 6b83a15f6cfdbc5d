"""The `headstart` command: check and plan a study, fetch its models, keep and restore results, and more."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from headstart import __version__
from headstart.transcribe.command import add_transcribe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0; 1 when `docs --check` finds outdated documents; 2 when the input is invalid.
    """
    options = _parser().parse_args(arguments)
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headstart",
        description="Which pre-trained start gets speech recognition for my language to a low error rate?",
        epilog="To run a study: snakemake --cores all. What a study file holds: config/README.md.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check",
        help="say what a study would run, or what is wrong with it",
        description="Read a study file and print what it would run, or every problem in it (exit status 2).",
    )
    check.add_argument("study", type=Path, metavar="STUDY.yaml")
    check.set_defaults(run=_check)

    plan = commands.add_parser(
        "plan",
        help="say how long a study will take, and what it can find out",
        description="Say, before anything runs: the jobs of each stage, the time, disk and memory that they need on "
        "this machine, and which change each claim's test can find. For the times, the real stages run for a few "
        "updates each, as many side by side as in the study; that takes a minute or two.",
    )
    plan.add_argument("study", type=Path, metavar="STUDY.yaml")
    plan.add_argument("--cores", default="all", help="cores to run on, as for Snakemake (default: %(default)s)")
    plan.add_argument("--json", type=Path, metavar="FILE", help="also write the plan as JSON")
    plan.add_argument("--no-calibrate", action="store_true", help="measure nothing: no times, disk and memory")
    plan.set_defaults(run=_plan)

    fetch = commands.add_parser(
        "fetch",
        help="download the models of a hub that a study names",
        description="Download the models of a hub that a study names by `model`, of each only what is loaded, into the "
        "cache of huggingface_hub. Snakemake does it too, before the jobs that need them; do it here where the study "
        "will run without a network. A branch or tag stays at the commit that it was when it was first fetched.",
    )
    fetch.add_argument("study", type=Path, metavar="STUDY.yaml")
    fetch.add_argument("--update", action="store_true", help="take the commits that branches and tags are at now")
    fetch.set_defaults(run=_fetch)

    restore = commands.add_parser(
        "restore",
        help="after a clone, mark the results that the study would make again just so",
        description="Compare each result with what the study asks for now. Those that agree are marked as good, so "
        "that Snakemake does not make them again; the others stay where they are until Snakemake runs and makes them "
        "again. Missing manifests, features and label budgets are made first, from the corpora.",
    )
    restore.add_argument("study", type=Path, metavar="STUDY.yaml")
    restore.add_argument("--cores", type=int, default=os.cpu_count(), help="for making data (default: %(default)s)")
    restore.set_defaults(run=_restore)

    dvc = commands.add_parser(
        "dvc",
        help="write the file with which DVC keeps a study",
        description="Write versions/NAME/dvc.yaml, with which `dvc repro`, `dvc metrics diff`, `dvc plots diff`, `dvc "
        "params diff` and `dvc exp run` work for this study too; docs/versioning.md shows how. The default study has "
        "dvc.yaml.",
    )
    dvc.add_argument("study", type=Path, metavar="STUDY.yaml")
    dvc.set_defaults(run=_dvc)

    corpora = commands.add_parser(
        "corpora",
        help="list the kinds of corpora that can be read, and what each has to look like on disk",
        description="Without NAME, list every reader of corpora with the files that it expects. With NAME, a `reader:` "
        "of a study, also show its keys, what it makes of the corpus's quirks, and an example.",
    )
    corpora.add_argument("reader", nargs="?", metavar="NAME")
    corpora.set_defaults(run=_corpora)

    docs = commands.add_parser(
        "docs",
        help="write the documents that are generated from the code",
        description="Write config/README.md, config/schema.json, docs/corpora.md and dvc.yaml, which follow from the "
        "typed study and the readers of corpora.",
    )
    docs.add_argument("--folder", type=Path, default=Path("."), help="the repository (default: %(default)s)")
    docs.add_argument("--check", action="store_true", help="write nothing; exit status 1 when they are out of date")
    docs.set_defaults(run=_docs)

    score = commands.add_parser(
        "score",
        help="score the transcripts of any system against references",
        description="Compare the transcripts of any system with references: word, character and mixed error rates, and "
        "where references have language tags, rates by language, at points of interest and at switches of language. "
        "Files are TSV with the columns id and text (and in REF, if you have them, tokens, token_languages and "
        "speaker), Kaldi text, CTM or parquet. docs/scoring.md says what is counted.",
    )
    score.add_argument("reference", type=Path, metavar="REF")
    score.add_argument("hypothesis", type=Path, metavar="HYP")
    score.add_argument("--json", action="store_true", help="print one JSON object, with rates as fractions")
    score.add_argument(
        "--poi",
        action="append",
        metavar="LANG",
        help="tag of the points of interest, for PIER; may be given again (default: every language but the most "
        "frequent one)",
    )
    score.add_argument(
        "--neutral",
        action="append",
        default=[],
        metavar="TAG",
        help="tag of no language, such as UNIV, besides zxx, und, mul and mis; may be given again",
    )
    score.add_argument(
        "--text",
        metavar="LANG",
        help="normalise both sides as text of this language, such as sw (default: nothing is normalised)",
    )
    score.add_argument(
        "--missing",
        choices=("error", "empty"),
        default="error",
        help="what an utterance without a hypothesis is (default: %(default)s)",
    )
    score.set_defaults(run=_score)

    add_transcribe(commands)

    advise = commands.add_parser(
        "advise",
        help="say which start of a finished study to take for another language",
        description="Rank the starts of a finished study for a language that is not in it, by the languages of the "
        "study that are like it: in family and place, by a table of yours, or, given a folder of audio, in sound. With "
        "the error of such advice on the study's own languages, left out in turn, beside two plain rules. "
        "docs/transfer.md explains it.",
    )
    advise.add_argument("language", metavar="LANGUAGE_OR_FOLDER", help="tag, code or name; or a folder of audio")
    advise.add_argument(
        "--study", type=Path, required=True, metavar="STUDY.yaml", help="a study whose summary is there"
    )
    advise.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of results (default: %(default)s)"
    )
    advise.set_defaults(run=_advise)

    typology = commands.add_parser(
        "typology",
        help="write the typological similarities of a study's languages, from URIEL+",
        description="Write how alike the languages of a study are in URIEL+ (CC BY-SA 4.0), one minus the distance, as "
        "a table that the study can name under similarity.tables. Needs the package urielplus.",
    )
    typology.add_argument("study", type=Path, metavar="STUDY.yaml")
    typology.add_argument("output", type=Path, metavar="OUTPUT.tsv")
    typology.add_argument("more", nargs="*", metavar="LANGUAGE", help="more languages, to advise on: their tags")
    typology.add_argument("--kind", default="phonological", help="of distance, such as %(default)s (the default)")
    typology.set_defaults(run=_typology)

    export = commands.add_parser(
        "export",
        help="copy a run or a start to a folder that can be shared, or push it to a hub",
        description="Copy a run into a folder that transformers.pipeline and `headstart transcribe` load, with its "
        "language model and its model card. Or copy a start's checkpoint folder, weights in float16, to where a study "
        "names it as a hub start.",
    )
    export.add_argument(
        "model", type=Path, metavar="MODEL", help="results/STUDY/runs/…/seedN or results/STUDY/starts/…"
    )
    export.add_argument("output", type=Path, metavar="FOLDER", help="folder to write, such as starts/NAME")
    export.add_argument("--push", metavar="USER/NAME", help="then upload the folder to this model repository of a hub")
    export.add_argument("--private", action="store_true", help="a repository that --push makes is private")
    export.set_defaults(run=_export)
    return parser


def _check(options: argparse.Namespace) -> int:
    from headstart.study.reading import StudyError, load_study
    from headstart.study.starts import SemisupStart, SslStart
    from headstart.workflow import Workflow

    try:
        study = load_study(options.study)
        Workflow(study).check(str(options.study))
    except StudyError as error:
        print(error, file=sys.stderr)
        return 2
    kinds = {SslStart: "pre-training", SemisupStart: "refinement"}
    counts = {
        name: sum(len(study.instances(start)) for start, s in study.starts.items() if isinstance(s, kind))
        for kind, name in kinds.items()
    }
    trained = [_count(number, name) for name, number in counts.items() if number]
    factors = ("starts", "targets", "budgets", "seeds")
    product = " × ".join(_count(len(getattr(study, name)), name.removesuffix("s")) for name in factors)
    runs = _count(len(study.runs()), "run")
    print(f"{options.study}: " + ", ".join(trained) + ", then " * bool(trained) + f"{product} = {runs}")
    workflow = Workflow(study)
    for folder in workflow.to_fetch():
        print("to be downloaded first: {} ({})".format(*workflow.hub_models()[folder]))
    return 0


def _plan(options: argparse.Namespace) -> int:
    from headstart.errors import HeadstartError
    from headstart.files import write_json
    from headstart.plan.plan import all_cores, in_words, plan
    from headstart.study.reading import load_study
    from headstart.workflow import Workflow

    if options.cores != "all" and not (options.cores.isdigit() and int(options.cores)):
        print(f"--cores is a number of cores or all, not {options.cores!r}", file=sys.stderr)
        return 2
    cores = all_cores() if options.cores == "all" else int(options.cores)
    try:
        study = load_study(options.study)
        Workflow(study).check(str(options.study))
        outcome = plan(
            study, cores, not options.no_calibrate, lambda what: print(f"measuring {what} …", file=sys.stderr)
        )
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        write_json(options.json, outcome)
    print(in_words(outcome, str(options.study)))
    return 0


def _fetch(options: argparse.Namespace) -> int:
    from headstart.errors import HeadstartError
    from headstart.logs import log_to_terminal
    from headstart.study.reading import load_study
    from headstart.workflow import Workflow

    try:
        workflow = Workflow(load_study(options.study))
        models = workflow.hub_models()
        if not models:
            print(f"{options.study}: no start names a model of a hub")
            return 0
        from headstart.fetch import fetch_adapter, fetch_model

        log_to_terminal()
        for folder, (model, revision) in models.items():
            source = fetch_model(workflow.fetch_job(folder), options.update)
            print(f"{model} ({revision}) is commit {source['commit']}, in {folder}")
        for name, start in workflow.study.starts.items():
            if getattr(start, "hub_model", None) and workflow.adapter(name):
                fetch_adapter(workflow.fetch_job(workflow.start_folder(name)), start.adapter)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _restore(options: argparse.Namespace) -> int:
    from headstart.errors import HeadstartError
    from headstart.restore import restore

    try:
        outcome = restore(options.study, options.cores)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{_count(len(outcome.good), 'result')} agree with the study and are marked as good")
    for path, reason in outcome.stale.items():
        print(f"will be made again: {path}: {reason}")
    if outcome.missing:
        print(f"{_count(len(outcome.missing), 'result')} are not there yet, such as {outcome.missing[0]}")
    return 0


def _dvc(options: argparse.Namespace) -> int:
    from headstart.errors import HeadstartError
    from headstart.study.reading import load_study
    from headstart.versioning import write_dvc_file

    try:
        print(write_dvc_file(str(options.study), load_study(options.study).study))
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _corpora(options: argparse.Namespace) -> int:
    from headstart.corpora.catalogue import details, listing
    from headstart.corpora.registry import READERS
    from headstart.study.explain import nearest

    if options.reader is None:
        print(listing())
    elif options.reader in READERS:
        print(details(options.reader))
    else:
        print(f"there is no reader {options.reader!r}{nearest(options.reader, list(READERS))}", file=sys.stderr)
        return 2
    return 0


def _docs(options: argparse.Namespace) -> int:
    from headstart.study.reference import outdated, write_documents

    if not options.folder.is_dir():
        print(f"{options.folder}: no such folder; run this at the top of the repository", file=sys.stderr)
        return 2
    if not options.check:
        write_documents(options.folder)
        return 0
    stale = outdated(options.folder)
    for path in stale:
        print(f"{path} is out of date: run `make docs`", file=sys.stderr)
    return 1 if stale else 0


def _score(options: argparse.Namespace) -> int:
    import json

    from headstart.errors import HeadstartError
    from headstart.score.evaluation import counts_of_lists, evaluation, list_table, paired

    try:
        pairs = paired(options.reference, options.hypothesis, options.missing == "empty")
        table = list_table(pairs, options.text, options.neutral, options.poi)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    counts = counts_of_lists(table)
    result = evaluation(table, counts)
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        from headstart.listing import listing  # imports scipy, which takes a second

        print(listing(table, counts, result))
    return 0


def _advise(options: argparse.Namespace) -> int:
    from headstart.advice import AdviceError, advise, in_words, subject_of
    from headstart.errors import HeadstartError
    from headstart.files import read_sealed
    from headstart.study.reading import load_study
    from headstart.study.similarity import ACOUSTIC_FILE

    try:
        study = load_study(options.study)
        folder = options.results / study.study
        path = folder / "summary.json"
        if not path.is_file():
            raise AdviceError(f"{path}: no such file; run the study first: snakemake --configfile {options.study}")
        subject = subject_of(options.language, folder / ACOUSTIC_FILE)
        print(in_words(advise(read_sealed(path).get("transfer"), subject, study.report.confidence)))
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _typology(options: argparse.Namespace) -> int:
    from headstart.errors import HeadstartError
    from headstart.languages.pairs import write_pairs
    from headstart.languages.typology import KINDS, typological_pairs
    from headstart.study.reading import load_study
    from headstart.summarise.pretraining_data import languages_of

    if options.kind not in KINDS:
        print(f"--kind is one of {', '.join(KINDS)}, not {options.kind!r}", file=sys.stderr)
        return 2
    try:
        targets, others = languages_of(load_study(options.study))
        pairs, unknown = typological_pairs([*targets, *options.more], others, options.kind)
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    for name in unknown:
        print(f"not known to URIEL+: {name}", file=sys.stderr)
    source = f"URIEL+ {options.kind} distances (Khan et al. 2025, CC BY-SA 4.0); the similarity is 1 less the distance"
    write_pairs(options.output, pairs, source)
    print(f"{options.output}: {_count(len(pairs.values), 'pair')} of languages")
    return 0


def _export(options: argparse.Namespace) -> int:
    from headstart.errors import HeadstartError
    from headstart.export import export, push

    try:
        for remark in export(options.model, options.output):
            print(f"{options.output}: {remark}", file=sys.stderr)
        if options.push:
            print(push(options.output, options.push, options.private))
    except HeadstartError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
