"""The plan of a study: what it will run and need, and what it can find out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstart.errors import HeadstartError
from headstart.plan.graph import Graph, Node, schedule
from headstart.plan.measure import measured
from headstart.study.study import Study
from headstart.summarise.power import planned_claims
from headstart.workflow import Workflow

Row = dict[str, Any]
STAGES = (
    "downloads",
    "synthesis",
    "corpora",
    "features",
    "label budgets",
    "clusters",
    "pre-training",
    "refinement",
    "language models",
    "fine-tuning",
    "scoring",
    "analysis",
    "probes",
    "similarity",
    "report",
)


def plan(study: Study, cores: int, calibrate: bool, say: Callable[[str], None] = lambda _: None) -> Row:
    """The plan of a study on this machine.

    Results that exist are taken as done; whether they are up to date, only Snakemake knows.

    Args:
        cores: that jobs run on side by side.
        calibrate: whether to measure what jobs cost, which takes a minute or two; without it there are no times.
        say: is called with what is being measured.

    Returns:
        `study`, `cores`, `stages` (rows of stage, jobs, to_do, seconds of all jobs to do), `seconds` until the end,
        `disk_bytes`, `job_memory_bytes` (of the largest job), `memory_bytes` (of as many of these as run side by side)
        and `claims` (see `planned_claims`). Times and sizes are None if they were not measured.

    Raises:
        HeadstartError: a measurement failed, or needs a model of a hub that is not fetched yet.
    """
    graph = Graph(Workflow(study))
    to_do = [node for node in graph.nodes.values() if not node.done]
    widest = max((node.threads for node in to_do), default=1)
    copies = max(1, cores // widest)
    costs: dict[str, dict[str, float]] | None = None
    if calibrate and to_do:
        kinds = {node.kind for node in to_do}
        for after in ("score ", "analyse ", "probe "):
            kinds = {kind.removeprefix(after) for kind in kinds}
        kinds &= set(graph.examples)
        # What evaluations cost is measured with fine-tuning.
        kinds |= {kind for kind, job in graph.examples.items() if job.stage == "finetune"}
        examples = {kind: graph.examples[kind] for kind in graph.examples if kind in kinds}
        jobs = {kind: (job, graph.root(job)) for kind, job in examples.items()}
        if missing := sorted({root for _, root in jobs.values() if root in graph.workflow.to_fetch()}):
            raise HeadstartError(
                f"{missing[0]}: this model of a hub is not there yet, so what its jobs take cannot be measured. Run "
                "`headstart fetch STUDY.yaml` first; or with --no-calibrate, the plan has no times"
            )
        costs = measured(study, jobs, copies, say)
    seconds = {node.name: _seconds(node, costs) for node in to_do} if costs else {}
    memory = max(cost["memory"] for cost in costs.values()) if costs else None
    rows = []
    for stage in STAGES:
        jobs = [node for node in graph.nodes.values() if node.stage == stage]
        left = [node for node in jobs if not node.done]
        if jobs:
            total = sum(seconds[node.name] for node in left) if costs else None
            rows.append({"stage": stage, "jobs": len(jobs), "to_do": len(left), "seconds": total})
    return {
        "study": study.study,
        "cores": cores,
        "stages": rows,
        "seconds": schedule(graph.nodes, lambda node: seconds[node.name], cores) if costs else None if to_do else 0.0,
        "disk_bytes": _disk(to_do, costs) if costs else None,
        "job_memory_bytes": memory,
        "memory_bytes": copies * memory if memory is not None else None,
        "claims": planned_claims(study, Path("results")),
    }


def _seconds(node: Node, costs: dict[str, dict[str, float]]) -> float:
    """How long a job takes."""
    if node.kind in ("light", "synthesis", "features", "clusters"):
        before = costs["data"]["light"] + (costs["data"]["resampler"] if node.kind == "synthesis" else 0.0)
        return before + node.work.get("audio", 0.0) * costs["data"].get(node.kind, 0.0)
    evaluation = next(cost["audio"] for cost in costs.values() if "audio" in cost)
    if node.kind.startswith("score "):
        cost = costs[node.kind.removeprefix("score ")]
        return cost["start"] + cost["first"] + node.work["audio"] * cost["score"]
    if node.kind.startswith("analyse "):
        cost = costs[node.kind.removeprefix("analyse ")]
        return cost["start"] + node.work["audio"] * cost["audio"] + node.work["runs"] * cost["analysis"]
    if node.kind.startswith("probe "):
        cost = costs[node.kind.removeprefix("probe ")]
        return cost["start"] + node.work["audio"] * cost["audio"] + node.work["updates"] * cost["probe"]
    cost = costs[node.kind]
    return cost["start"] + node.work["updates"] * cost["updates"] + node.work["audio"] * cost.get("audio", evaluation)


def _disk(to_do: list[Node], costs: dict[str, dict[str, float]]) -> float:
    """Bytes that the jobs will write: audio, features and checkpoints."""
    total = 0.0
    for node in to_do:
        if node.kind == "synthesis":
            total += node.work["audio"] * costs["data"]["raw_bytes"]
        elif node.kind == "features":
            total += node.work["audio"] * costs["data"]["feature_bytes"]
        else:
            total += costs.get(node.kind, {}).get("bytes", 0.0)
    return total


def in_words(plan: Row, source: str) -> str:
    """The plan as text for a terminal."""
    lines = [f"{source} on {plan['cores']} core{'s' if plan['cores'] > 1 else ''}", ""]
    lines.append(f"{'stage':14s} {'jobs':>5s} {'to do':>6s} {'time of all':>12s}")
    for row in plan["stages"]:
        time = "" if row["seconds"] is None else span(row["seconds"])
        lines.append(f"{row['stage']:14s} {row['jobs']:5d} {row['to_do']:6d} {time:>12s}".rstrip())
    lines.append("")
    if plan["seconds"] is None:
        lines.append("Times, disk and memory were not measured.")
    elif not any(row["to_do"] for row in plan["stages"]):
        lines.append("Every result exists. Snakemake runs only what an edit has made out of date.")
    else:
        lines.append(f"The study takes about {span(plan['seconds'])}, as measured on this machine as it is loaded now.")
        lines.append(
            f"It writes about {_size(plan['disk_bytes'])}. A job takes up to {_size(plan['job_memory_bytes'])} of "
            f"memory, and jobs side by side up to {_size(plan['memory_bytes'])}."
        )
    tested = [row for row in plan["claims"] if row["resolves"] is not None]
    if tested:
        basis = " and ".join(dict.fromkeys(row["basis"] for row in tested))
        lines += ["", f"The change that each claim's test finds in four of five such studies ({basis}):", ""]
    for row in tested:
        large = row["resolves"] > row["smallest_effect"]
        much = f" (a change by {row['smallest_effect']:.0%} matters)" if large else ""
        lines.append(f"  {row['resolves']:7.1%} of {row['metric']:8s} {row['statement']}{much}")
    for row in plan["claims"]:
        if row["resolves"] is None:
            lines.append(f"  not tested          {row['statement']} ({row['basis']})")
    return "\n".join(lines)


def span(seconds: float) -> str:
    """Seconds in the two largest units: `42 s`, `12 min`, `3 h 05 min`, `4 days 3 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def all_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
