"""Many utterances prepared on two cores, beside a plain loop with librosa, with memory and a resumption.

The utterances are noise in bursts of 1 to 2 s. Every one is a file of its own, a link to one of `DIFFERENT` files. Ours
reads the corpus into manifests and extracts its features, in worker processes: it decodes, checks, resamples, measures
and hashes each clip and writes the store and its manifest. The peer loads each file of a sample of them with librosa,
takes the level of its 20 ms frames and of the clip, and saves the samples; its time is scaled to all files. A second
peer saves a log-mel spectrogram instead, as scripts often do. Beside the time that passed there is the time of the
processor, which is what can be compared on a machine that others use.

Run alone with `python benchmarks/preparation.py --utterances 100000`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from child import call

from headstart.features.audio import SAMPLE_RATE

DIFFERENT = 500  # clips that are encoded; files are copies of them
SAMPLE = 500  # files that the peer prepares
KINDS = {"wav16": ("wav", 16_000), "flac48": ("flac", 48_000), "mp344": ("mp3", 44_100)}
PATHS = ("data.arrow", "data.parquet", "data.rejects.parquet")


def rows(seconds: float = 6.0, threads: int = 2, utterances: int = 4000) -> list[dict[str, Any]]:
    """Utterances a second of both sides for each kind of file. `seconds` plays no part: all utterances are prepared."""
    return [row for kind in KINDS for row in measure(kind, utterances, threads)]


def measure(kind: str, utterances: int, processes: int, resume: bool = True) -> list[dict[str, Any]]:
    """Rows for one kind of file, one for each peer; with `resume`, an extraction is also killed and gone on with."""
    with tempfile.TemporaryDirectory() as folder:
        write_corpus(Path(folder), kind, utterances)
        peers = [call("preparation", "loop", 1, folder=folder, mel=mel, count=SAMPLE) for mel in (False, True)]
        ours = call("preparation", "prepare", 1, folder=folder, processes=processes)
        if resume:
            ours |= {f"resumed_{name}": value for name, value in resumption(Path(folder), processes).items()}
    found = []
    for peer in peers:
        row = {"name": f"preparation of {utterances} files, {kind}", "unit": "utterances/s"}
        row |= {"ours": utterances / ours["seconds"], "peer": SAMPLE / peer["seconds"]}
        row |= {"ratio": row["ours"] / row["peer"], "peer_name": peer["name"]}
        row["ratio_of_processor_times"] = utterances / ours["processor_s"] * peer["processor_s"] / SAMPLE
        row |= {"ours_memory_mb": ours["memory_mb"], "peer_memory_mb": peer["memory_mb"]}
        found.append(row | ours)
    return found


def processor_seconds() -> float:
    """Processor time of this process and those that it started and that have ended."""
    return sum(os.times()[:4])


def write_corpus(folder: Path, kind: str, utterances: int) -> None:
    """A table and its files."""
    suffix, rate = KINDS[kind]
    rng = np.random.default_rng(0)
    (folder / "clips").mkdir()
    with open(folder / "metadata.tsv", "w", encoding="utf-8") as table:
        table.write("id\tpath\ttext\tspeaker\tsplit\n")
        for number in range(utterances):
            path = folder / "clips" / f"{number:06d}.{suffix}"
            if number < DIFFERENT:
                length = round(rng.uniform(1, 2) * rate)
                level = np.repeat(rng.uniform(0.02, 0.4, length // 2000 + 1), 2000)[:length]
                soundfile.write(path, level * rng.standard_normal(length) * 0.3, rate)
            else:
                os.link(folder / "clips" / f"{number % DIFFERENT:06d}.{suffix}", path)
            table.write(f"u{number}\tclips/{path.name}\tari mana {number}\ts{number % 50}\ttrain\n")


def loop(folder: str, mel: bool, count: int) -> dict[str, Any]:
    """The peer's side, in a process of its own."""
    import librosa
    from child import peak_memory_mb

    files = sorted(Path(folder, "clips").iterdir())[-count:]
    output = Path(folder) / "clip.npy"

    def prepare(file: Path) -> None:
        samples, _ = librosa.load(file, sr=SAMPLE_RATE, mono=True)
        if mel:
            spectrum = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=400, hop_length=160, n_mels=80)
            np.save(output, librosa.power_to_db(spectrum))
            return
        level = librosa.amplitude_to_db(librosa.feature.rms(y=samples, frame_length=320, hop_length=320, center=False))
        np.percentile(level, [5, 95])
        np.sqrt(np.mean(samples**2))
        np.save(output, (samples * 32767).astype(np.int16))

    prepare(files[0])  # compiles what librosa compiles
    began, processor = time.perf_counter(), processor_seconds()
    for file in files:
        prepare(file)
    facts = {"seconds": time.perf_counter() - began, "processor_s": processor_seconds() - processor}
    name = f"librosa {librosa.__version__}, {'log-mel' if mel else 'levels'}, one file at a time"
    return {**facts, "name": name, "memory_mb": peak_memory_mb()}


def prepare(folder: str, processes: int) -> dict[str, Any]:
    """Our side, in a process of its own: time of both stages, and the most memory of this process and of a worker."""
    import resource

    from child import peak_memory_mb

    from headstart.corpora.readers.table import FolderCorpus
    from headstart.corpora.reading import read_corpus
    from headstart.corpora.registry import open_reader
    from headstart.features.extraction import extract_features

    began, processor = time.perf_counter(), processor_seconds()
    corpus = FolderCorpus(reader="folder", path=folder, language="qu", dev_share=0, test_share=0)
    corpus = corpus.model_copy(update={"columns": corpus.columns.model_copy(update={"split": "split"})})
    read_corpus(open_reader(corpus, ""), {"train": (f"{folder}/m", f"{folder}/r")}, processes)
    read = time.perf_counter() - began
    extract_features(f"{folder}/m", *(f"{folder}/{name}" for name in PATHS), processes=processes)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    seconds = time.perf_counter() - began
    facts = {"seconds": seconds, "reading_s": read, "processor_s": processor_seconds() - processor}
    return {**facts, "memory_mb": peak_memory_mb(), "worker_memory_mb": workers}


def resumption(folder: Path, processes: int) -> dict[str, Any]:
    """Kill an extraction on its way, go on, and compare the results with those of an extraction in one go."""
    whole = [(folder / name).read_bytes()[-1_000_000:] for name in PATHS]
    program = (
        "import sys; from headstart.features.extraction import extract_features as run\n"
        f"run('{folder}/m', *('{folder}/again.' + n for n in {PATHS}), processes={processes}, state='{folder}/state')"
    )
    journal, began = folder / "state/extraction/journal.jsonl", time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program])
    size = os.stat(folder / "data.parquet").st_size
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > size):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = journal.read_bytes().count(b"\n") if journal.exists() else 0
    stopped = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    same = whole == [(folder / f"again.{name}").read_bytes()[-1_000_000:] for name in PATHS]
    return {"after": done, "stopped_s": stopped, "rest_s": time.perf_counter() - began, "same": same}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=4000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--once", action="store_true", help="without killing an extraction and going on with it")
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        for row in measure(kind, arguments.utterances, arguments.processes, not arguments.once):
            shown = (f"{value:.4g}" if isinstance(value, float) else value for value in row.values())
            print(", ".join(f"{key} {value}" for key, value in zip(row, shown, strict=True)), flush=True)
