"""Plans: which jobs Snakemake would run in a folder, asked of a process that has already imported Snakemake.

Also a corpus to plan for: twelve clips of noise with a table.
"""

import io
import multiprocessing
import os
import re
import sys
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import soundfile
import yaml

from headstart.study.fields import SPLITS

ROOT = Path(__file__).parent.parent
CORPUS = {"reader": "folder", "language": "en", "columns": {"split": "split"}, "min_seconds": 0.1}
Plan = dict[str, set[str]]  # rule -> its jobs, each as the values of its wildcards with slashes between


def planned(folder: Path, *arguments: str, **options: str | Path) -> Plan:
    """The jobs that Snakemake would run now. The wildcard `study` is left out; `options` are those of `snakemake`."""
    status, text = snakemake(folder, "--dry-run", *arguments, **options)
    assert status == 0, text
    jobs: Plan = defaultdict(set)
    for block in re.split(r"\n\[.*\]\n", text)[1:]:
        rule = re.match(r"(?:local)?(?:rule|checkpoint) (\w+):", block)[1]
        wildcards = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
        values = dict(part.split("=", 1) for part in wildcards[1].split(", ")) if wildcards else {}
        jobs[rule].add("/".join(value for name, value in values.items() if name != "study"))
    jobs.pop("all", None)
    return dict(jobs)


def snakemake(
    folder: Path, *arguments: str, study: str = "study.yaml", snakefile: Path = ROOT / "Snakefile"
) -> tuple[int, str]:
    """Call Snakemake in a child of this process; returns its exit status and what it wrote."""
    command = ["--snakefile", str(snakefile), "--directory", str(folder), "--cores", "2"]
    command += ["--configfile", str(folder / study), *arguments]
    import snakemake.cli  # noqa: F401  (here, so that children need not import it)

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_call, args=(command, sender))
    child.start()
    sender.close()
    status, text = receiver.recv()
    child.join()
    return status, text


def _call(command: list[str], sender) -> None:
    from snakemake.cli import main

    for name in [name for name in os.environ if name.startswith("SNAKEMAKE")]:
        del os.environ[name]
    written, status = io.StringIO(), 0
    with redirect_stdout(written), redirect_stderr(written):
        try:
            main(command)
        except SystemExit as end:
            status = int(end.code or 0)
        sys.stdout.flush()
    sender.send((status, written.getvalue()))
    sender.close()
    os._exit(0)


def edit(folder: Path, study: str = "study.yaml", **changes) -> None:
    """Replace sections of a study file; a dict is merged into the section, at all depths."""
    path = folder / study
    path.write_text(yaml.safe_dump(_merged(yaml.safe_load(path.read_text()), changes), sort_keys=False))


def _merged(old: dict, new: dict) -> dict:
    both = {
        k: _merged(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v for k, v in new.items()
    }
    return {**old, **both}


def write_noise(path: Path, *seed: int) -> None:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(8000)
    soundfile.write(path, samples, 16000, subtype="PCM_16")


def write_corpus(folder: Path, seed: int) -> None:
    folder.mkdir()
    lines = ["id\tpath\tsplit\ttext"]
    for number in range(12):
        write_noise(folder / f"{number}.wav", seed, number)
        lines.append(f"{number}\t{number}.wav\t{SPLITS[max(0, number - 7) // 2]}\tword{number} here")
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n")
