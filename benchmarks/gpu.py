"""All that is worth knowing about training on this machine's GPU, in one table and under ten minutes.

For each stage and encoder family, our training loop beside transformers' model in a plain loop in bfloat16, on the same
batches: throughput, share of the peak of matrix products, memory. Then what `torch.compile` adds, whether two processes
on one device end as one does, and whether a job that is killed goes on to the same result. `--device cpu --size tiny`
runs everything without a GPU, which says nothing about speed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import training
from child import call
from speech import synthesise

from headstart.files import write_json
from headstart.jobs import PretrainJob
from headstart.study.pretrain import Pretrain

OBJECTIVES = ("wav2vec2", "data2vec", "best-rq", "hubert")
STAGES = (*OBJECTIVES, "ctc", "semisup")
FAMILIES = (
    "wav2vec2", "wav2vec2-conformer", "wav2vec2-bert", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio"
)  # fmt: skip
SHAPES = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
}
BATCH_SECONDS = {"tiny": 8.0, "base": 160.0, "large": 80.0}
COLUMNS = (
    "what",
    "ours, audio s/s",
    "transformers bf16",
    "ratio",
    "of peak",
    "memory MB",
    "memory MB of theirs",
    "note",
)


def sized(size: str, stage: str) -> training.Size:
    """A model's shape and batches. The clips of a fine-tuning batch are not cropped, as in pre-training."""
    if size == "tiny":
        return replace(training.SIZES["tiny"], batches=2)
    base, shape = training.SIZES["base"], SHAPES[size]
    names = {"num_hidden_layers": "layers", "num_attention_heads": "heads"}
    model = base.model.model_copy(update={names.get(name, name): value for name, value in shape.items()})
    return replace(base, model=model, batches=3, batch_seconds=BATCH_SECONDS[size])


def stage_rows(size: str, seconds: float, threads: int, peak: dict[str, float], speech: dict[str, str]) -> Iterator:
    """A row for each stage, beside the peer where transformers has the stage's loss (wav2vec 2.0 and CTC)."""
    chosen, best = sized(size, ""), max(peak.values())
    for stage in STAGES:
        kind = "ctc" if stage == "ctc" else "ssl"
        task = asdict(training.Task(kind, chosen.model.model_dump(), speech, chosen.batches, chosen.batch_seconds))
        row: dict[str, Any] = {"what": f"{stage}, {size}"}
        try:
            ours = call("gpu", "measure_stage", threads, task=task, stage=stage, seconds=seconds)
            row |= {"ours": ours["rate"], "memory": ours["memory_mb"], "note": ours["precision"]}
            if stage in ("wav2vec2", "ctc"):
                options = {"task": task, "batches": ours["batches"], "seconds": seconds, "precision": "bfloat16"}
                peer = call("training", "measure_peer", threads, **options, count=True)
                row |= {"peer": peer["rate"], "ratio": ours["rate"] / peer["rate"], "peer_memory": peer["memory_mb"]}
                row["of_peak"] = ours["rate"] * peer["flops_a_second"] / best
        except RuntimeError as error:
            row["note"] = f"failed: {error}"
        yield row


def family_rows(size: str, seconds: float, threads: int, peak: dict[str, float]) -> Iterator[dict[str, Any]]:
    """A row for each family's forward pass, and two more of wav2vec 2.0 with and without `torch.compile`."""
    options = {"size": size, "seconds": seconds}
    for family in FAMILIES:
        row: dict[str, Any] = {"what": f"forward, {family}, {size}"}
        try:
            found = call("gpu", "measure_forward", threads, family=family, **options)
            row |= {"ours": found["ours"], "peer": found["peer"], "ratio": found["ours"] / found["peer"]}
            row |= {"memory": found["memory_mb"], "of_peak": found["flops_a_second"] / max(peak.values())}
        except RuntimeError as error:
            row["note"] = f"failed: {error}"
        yield row
    row = {"what": f"forward and backward, compiled, {size}"}
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        yield row | {"note": "left out: on a CPU it needs a C++ compiler"}
        return
    try:
        found = call("gpu", "measure_compiled", threads, **options)
        row |= {"ours": found["compiled"], "memory": found["memory_mb"]}
        row["note"] = f"not compiled {found['plain']:.3g}; compiling took {found['compiling']:.0f} s"
    except RuntimeError as error:
        row["note"] = f"failed: {error}"
    yield row


# ------------------------------------------------------------------------------------------ in their own processes


def measure_stage(task: dict[str, Any], stage: str, seconds: float) -> dict[str, Any]:
    """Audio seconds a second of the training loop in a stage; see `training.measure_ours`."""
    import torch

    from headstart.encoder.checkpoints import encoder_model
    from headstart.features.clips import Clips
    from headstart.objectives.semisup import SemisupObjective
    from headstart.pretrain import make_objective, ssl_network
    from headstart.study.model import Model
    from headstart.study.semisup import Loss, Semisup
    from headstart.study.text import Text
    from headstart.text.units import UnitInventory

    if stage in ("wav2vec2", "ctc"):
        return training.measure_ours(task, seconds)
    given = training.Task(**task)
    clips, model = Clips.open(**given.speech), Model(**given.model)
    if stage == "semisup":
        names = ("learning_rate", "weight_decay", "updates", "batch_seconds", "warmup", "hold", "log_every", "dropout")
        common = {name: getattr(given.settings, name) for name in names}
        settings = Semisup(**common, save_minutes=1e6, pseudo=Loss(), min_confidence=0.0, dev_minutes=0.0)
        half = len(clips) // 2
        labelled, others = clips.take(range(half)), clips.take(range(half, len(clips)))
        inventory = UnitInventory.build(settings, Text(), labelled)
        torch.manual_seed(0)
        network = encoder_model(None, model, given.dropout)
        network.lm_head = torch.nn.Linear(network.config.hidden_size, len(inventory.vocabulary))
        objective = SemisupObjective(network, inventory, labelled, others, None, settings, None, True, 0)
    else:
        own = {"hubert": {"clusters": 64 if model.hidden_size > 32 else 8}}
        settings = given.settings.model_copy(update={"objective": stage, "hubert": Pretrain(**own).hubert})
        objective = make_objective(ssl_network(None, model, settings, clips, 0), clips, settings, False, 0)
    return training.measured(objective, settings, given.batches, seconds, stage)


def measure_forward(family: str, size: str, seconds: float) -> dict[str, Any]:
    """Audio seconds a second of our forward pass and of transformers' own, in bfloat16, on one padded batch.

    `flops_a_second` are the operations of matrix products that ours does in a second.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CONFIG_MAPPING, AutoModel

    from headstart.encoder.front_end import frame_counts, front_end
    from headstart.encoder.model import encode

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tiny = {"conv_dim": (16, 24), "conv_kernel": (400, 4), "conv_stride": (160, 2), "num_feat_extract_layers": 2}
    config = CONFIG_MAPPING[family](**SHAPES[size], **(tiny if size == "tiny" else {}))
    torch.manual_seed(0)
    network = AutoModel.from_config(config).to(device, torch.bfloat16).eval()
    clips = max(2, int(BATCH_SECONDS[size] // 10))
    samples = torch.linspace(80_000, 160_000, clips).long()
    audio = torch.randn(clips, 160_000) * (torch.arange(160_000) < samples[:, None])
    audio_s = float(samples.sum()) / 16_000
    frames = frame_counts(config, samples).to(device)
    mask = (torch.arange(160_000) < samples[:, None]).long().to(device)
    theirs = {"input_values": audio.to(device, torch.bfloat16), "attention_mask": mask}
    if family == "wav2vec2-bert":
        features = front_end(network, audio, samples)
        valid = torch.arange(features.shape[1], device=device) < frames[:, None]
        theirs = {"input_features": features, "attention_mask": valid.long()}

    def ours() -> None:
        features = theirs["input_features"] if "input_features" in theirs else front_end(network, audio, samples)
        encode(network, features, frames)

    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            ours()
        found = {"ours": rate_of(ours, audio_s, seconds), "peer": rate_of(lambda: network(**theirs), audio_s, seconds)}
    return {**found, "flops_a_second": counter.get_total_flops() / audio_s * found["ours"]}


def measure_compiled(size: str, seconds: float) -> dict[str, Any]:
    """Audio seconds a second of the Transformer's forward and backward pass, plain and compiled."""
    import torch
    from transformers import AutoModel, Wav2Vec2Config

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = Wav2Vec2Config(**SHAPES[size], do_stable_layer_norm=True, layerdrop=0.0)
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config).encoder.to(device, torch.bfloat16).train()
    clips = max(2, int(BATCH_SECONDS[size] // 10))
    x = torch.randn(clips, 500, config.hidden_size, device=device, dtype=torch.bfloat16)

    def step(run: Any) -> None:
        run(x.clone()).last_hidden_state.float().square().mean().backward()
        encoder.zero_grad()

    plain = rate_of(lambda: step(encoder), 10.0 * clips, seconds)
    began = time.monotonic()
    compiled = torch.compile(encoder)
    step(compiled)
    compiling = time.monotonic() - began
    return {"plain": plain, "compiled": rate_of(lambda: step(compiled), 10.0 * clips, seconds), "compiling": compiling}


def rate_of(run: Any, audio_s: float, seconds: float) -> float:
    """Audio seconds a second of a function that hears so many seconds, after one call that is not timed."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    run()
    wait()
    began, done = time.monotonic(), 0
    while not done or time.monotonic() - began < seconds:
        run()
        wait()
        done += 1
    return done * audio_s / (time.monotonic() - began)


# ------------------------------------------------------------------------------------------------ whole jobs


def job_rows(size: str, updates: int, threads: int, speech: dict[str, str], folder: Path) -> Iterator[dict[str, Any]]:
    """Two processes on one device against one, and a job that is killed and resumed against one left in peace."""
    chosen = sized(size, "")
    settings = Pretrain(
        objective="hubert", hubert={"clusters": 8}, updates=updates, batch_seconds=chosen.batch_seconds, log_every=1,
        save_minutes=1e-6, dropout=0.0, crop_seconds=4.0,
    )  # fmt: skip
    corpora = [{"name": "en", "hours": chosen.batch_seconds / 3600, "train": speech}]

    def prepared(name: str) -> Path:
        paths = {"output": str(folder / name), "state": str(folder / f"{name}.state")}
        job = PretrainJob.of(corpora=corpora, settings=settings, model=chosen.model, parent=None, seed=1, **paths)
        write_json(folder / f"{name}.json", {"threads": threads, **job.plain()})
        return folder / f"{name}.json"

    def started(file: Path, processes: int = 1) -> subprocess.Popen:
        launcher = [sys.executable, "-m"]
        if processes > 1:
            launcher += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
        with file.with_suffix(".log").open("a") as log:
            return subprocess.Popen([*launcher, "headstart.training.launch", "pretrain", str(file)], stderr=log)

    def seen(name: str) -> list[float]:
        import pyarrow.parquet as pq

        return pq.read_table(folder / name / "curve.parquet")["train_loss"].to_pylist()

    names = ("one", "two", "killed")
    files = {name: prepared(name) for name in names}
    if started(files["one"]).wait():
        yield {"what": f"a job of {updates} updates, {size}", "note": f"failed: see {files['one'].with_suffix('.log')}"}
        return
    alone = seen("one")
    row: dict[str, Any] = {"what": f"two processes on one device, {size}"}
    if started(files["two"], 2).wait():
        row["note"] = "failed: " + last_line(files["two"].with_suffix(".log"))
    else:
        apart = max(abs(a - b) / abs(a) for a, b in zip(alone, seen("two"), strict=True))
        row["note"] = f"losses differ by {apart:.1g} at most"
    yield row

    process, state = started(files["killed"]), folder / "killed.state" / "state.safetensors"
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    row = {"what": f"a kill and a resume, {size}"}
    if started(files["killed"]).wait():
        row["note"] = "failed: " + last_line(files["killed"].with_suffix(".log"))
    else:
        apart = max(abs(a - b) / abs(a) for a, b in zip(alone, seen("killed"), strict=True))
        resumed = "resumed at update" in files["killed"].with_suffix(".log").read_text()
        row["note"] = f"{'resumed' if resumed else 'NOT resumed'}; losses differ by {apart:.1g} at most"
    yield row


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    return lines[-1][:100] if lines else "no message"


# ------------------------------------------------------------------------------------------------- the table


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for row in rows:
        keys = ("ours", "peer", "ratio", "of_peak", "memory", "peer_memory")
        shown = (f"{row[key]:.3g}" if key in row else "" for key in keys)
        lines.append((row["what"], *shown, row.get("note", "")))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["auto", "cpu"], default="auto", help="auto takes the GPU")
    parser.add_argument("--size", nargs="+", choices=SHAPES, default=["base", "large"], help="default: base large")
    parser.add_argument("--seconds", type=float, default=4.0, help="least time of a measurement (default: 4)")
    parser.add_argument("--minutes", type=float, default=10.0, help="begin nothing new after so long (default: 10)")
    parser.add_argument("--updates", type=int, default=12, help="updates of the whole jobs (default: 12)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all)")
    parser.add_argument("--output", type=Path, default=Path("results/gpu.json"), help="default: %(default)s")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the processes that measure; torch is not imported here
    began, rows = time.monotonic(), []
    found = call("matmul", "measure", options.threads, seconds=options.seconds)
    peak = found["peak"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speech = synthesise(folder / "speech", 2 * max(BATCH_SECONDS[size] for size in options.size) + 16)
        groups = []
        for size in options.size:
            groups.append(stage_rows(size, options.seconds, options.threads, peak, speech))
        groups.append(job_rows(options.size[0], options.updates, options.threads, speech, folder))
        for size in options.size:
            groups.append(family_rows(size, options.seconds, options.threads, peak))
        for group in groups:
            for row in group:
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
                write_json(options.output, {"machine": found["machine"], "peak": peak, "rows": rows})
                if time.monotonic() - began > 60 * options.minutes:
                    rows.append({"what": "the rest", "note": f"left out after {options.minutes:g} minutes"})
                    break
            if time.monotonic() - began > 60 * options.minutes:
                break
    peaks = ", ".join(f"{rate / 1e12:.3g} TFLOP/s in {name}" for name, rate in peak.items())
    print(f"{found['machine']}; matrix products: {peaks}; {time.monotonic() - began:.0f} s in all\n\n{table(rows)}")
    print(f"\nRows: {options.output}")
    return any(str(row.get("note", "")).startswith(("failed", "NOT")) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
