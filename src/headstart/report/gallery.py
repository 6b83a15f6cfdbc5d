"""The charts of the report's page: what each shows, in panels."""

from __future__ import annotations

import math

from headstart.report.charts import (
    Row,
    budget_chart,
    curve_chart,
    depth_chart,
    difference_chart,
    dot_chart,
    has,
    points_each,
    start_styles,
    with_unexplained,
)
from headstart.report.probe_charts import against_chart, layer_chart
from headstart.report.sentences import change, count, decimal, decimals, points, rate, select, span, verdict
from headstart.report.transfer import by_measure
from headstart.report.transfer_charts import amount_chart, rank_chart, similarity_chart
from headstart.score.metrics import CURVE_METRICS, METRICS
from headstart.study.fields import budget_seconds
from headstart.study.study import Study

# Points of all learning curves of runs together, and of all curves of one stage that trains starts, which keep the page
# of a large study near 2 MB.
POINTS_OF_RUNS, POINTS_OF_STARTS = 12_000, 4_000
# Quantities logged in training -> titles of their panels. Those in SHARES are shown in percent.
PRETRAINING = {
    "contrastive_loss": "wav2vec 2.0: contrastive loss",
    "accuracy": "wav2vec 2.0: share of masked frames distinguished from distractors",
    "perplexity": "wav2vec 2.0: codebook perplexity",
    "diversity_loss": "wav2vec 2.0: diversity loss",
    "unexplained": "data2vec: share of the targets that is not predicted",
    "target_variance": "data2vec: variance of targets",
    "prediction_variance": "data2vec: variance of predictions",
    "code_loss": "BEST-RQ: loss",
    "code_accuracy": "BEST-RQ: share of masked frames whose code is right",
    "code_perplexity": "BEST-RQ: perplexity of codes",
}
REFINING = {
    "dev_unit_error": "unit error rate on the source's dev split",
    "supervised_loss": "CTC on transcripts",
    "pseudo_loss": "CTC on pseudo-labels",
    "pseudo_kept": "share of pseudo-labels that are used",
    "pseudo_confidence": "mean confidence of pseudo-labels that are used",
    "ssl_loss": "self-supervised loss",
    "labelled_share": "share of audio that is labelled",
}
SHARES = {
    "accuracy",
    "unexplained",
    "code_accuracy",
    "dev_unit_error",
    "pseudo_kept",
    "pseudo_confidence",
    "labelled_share",
}


class Gallery:
    """The charts of a page. Each method returns panels: dicts of title, description and index in `specs`."""

    def __init__(self, study: Study, summary: Row):
        self.study, self.summary = study, summary
        self.styles = start_styles(study)
        self.specs: list[Row] = []

    def _panel(self, title: str, description: str, spec: Row) -> Row:
        self.specs.append(spec)
        return {"title": title, "description": description, "chart": len(self.specs) - 1}

    def rates(self, metric: str) -> list[Row]:
        """Error rates: one panel per target."""
        cells, several = self.summary["cells"], len(self.study.budgets) > 1
        top = min(
            1.05 * max([cell[f"{metric}_high"] for cell in cells] + [r[metric] for r in self.summary["runs"]]),
            2,
        )
        panels = []
        for target in self.study.targets:
            rows = [
                {
                    "start": c["start"],
                    "budget": c["budget"],
                    "rate": c[metric],
                    "text": f"{100 * c[metric]:.1f}",
                }
                | {
                    "low": c[f"{metric}_low"],
                    "high": c[f"{metric}_high"],
                    "seeds": f"{len(self.study.seeds)} seed(s)",
                }
                | {"label": f"{rate(c[metric])} {span(c[f'{metric}_low'], c[f'{metric}_high'])}"}
                for c in select(cells, target=target)
            ]
            seeds = [
                {"start": r["start"], "rate": r[metric], "seed": r["seed"], "label": rate(r[metric])}
                for r in select(self.summary["runs"], target=target)
            ]
            if several:
                order = sorted(self.study.budgets, key=budget_seconds)
                spec = budget_chart(rows, order, self.styles, top)
            else:
                spec = dot_chart(rows, seeds if len(self.study.seeds) > 1 else [], self.styles, top)
            text = ", ".join(f"{r['start']} {r['budget']} {r['label']}" for r in rows)
            panels.append(self._panel(target, f"{METRICS[metric].heading}, {target}: {text}", spec))
        return panels

    def differences(self, metric: str) -> list[Row]:
        """Paired differences: one panel per target, with the same axis in all panels."""
        rows = select(self.summary["contrasts"], metric=metric)
        if not rows:
            return []
        low = min(0, *(100 * r["low"] for r in rows))
        high = max(0, *(100 * r["high"] for r in rows))
        margin = 0.05 * (high - low) or 1
        panels = []
        for target in self.study.targets:
            data = []
            for r in select(rows, target=target):
                pair = f"{r['treatment']}\n\N{MINUS SIGN} {r['baseline']}"
                pair += f", {r['budget']}" if len(self.study.budgets) > 1 else ""
                label = f"{points(r['difference'])} {span(r['low'], r['high'], signed=True)}"
                ends = {key: 100 * r[key] for key in ("difference", "low", "high")}
                data.append({**r, **ends, "pair": pair, "label": label, "verdict": verdict(r)})
            spec = difference_chart(data, self.styles, low - margin, high + margin)
            text = ", ".join(f"{r['treatment']} minus {r['baseline']} {r['budget']} {r['label']}" for r in data)
            panels.append(self._panel(target, f"Differences in {METRICS[metric].label}, {target}: {text}", spec))
        return panels

    def curves(self, runs: list[Row], metric: str) -> list[Row]:
        """Learning curves: one panel per target and budget."""
        limit = points_each(POINTS_OF_RUNS, (1 + len(CURVE_METRICS)) * len(runs))  # with one share for the means
        panels = []
        for target in self.study.targets:
            for budget in self.study.budgets:
                group = {"target": target, "budget": budget}
                chosen = [(r["start"], r["seed"], r["curve"]) for r in select(runs, **group) if r["curve"]]
                rows = select(self.summary["convergence"], **group)
                shown = metric == self.summary["metric"]
                reference = rows[0]["reference_error"] if shown else None
                reached = [
                    {
                        "start": r["start"],
                        "updates": r["updates"],
                        "label": f"after {count(r['updates'])} updates",
                    }
                    for r in rows
                    if shown and r["updates"] is not None
                ]
                spec = curve_chart(
                    chosen, f"dev_{metric}", self.styles, reference=reference, reached=reached, limit=limit
                )
                if spec:
                    title = f"{target}, {budget}" if len(self.study.budgets) > 1 else target
                    text = f"Dev {METRICS[metric].label} against updates, {target}, {budget}"
                    panels.append(self._panel(title, text, spec))
        return panels

    def representation(self) -> list[Row]:
        """Similarity of starts to their fine-tuned runs by layer: one panel per target and budget, with one axis."""
        analysed = self.summary["representation_gap"]
        if not analysed:
            return []
        rows = select(self.summary["representation"], measure=analysed[0]["measure"])
        low = math.floor(10 * min(r["low"] for r in rows)) / 10
        panels = []
        for target in self.study.targets:
            for budget in self.study.budgets:
                data = [
                    {**r, "label": f"{decimal(r['similarity'])} {decimals(r['low'], r['high'])}"}
                    for r in select(rows, target=target, budget=budget)
                ]
                title = f"{target}, {budget}" if len(self.study.budgets) > 1 else target
                lines = (f"{r['start']} layer {r['layer']} {decimal(r['similarity'])}" for r in data)
                text = f"Similarity to the start by layer, {target}, {budget}: {', '.join(lines)}"
                panels.append(self._panel(title, text, depth_chart(data, self.styles, min(low, 0.9))))
        return panels

    def probe(self) -> list[Row]:
        """CER of probes by layer, one panel per target and budget, and error rates after fine-tuning against it."""
        probe, several = self.summary["probe"], len(self.study.budgets) > 1
        panels = []
        for target in self.study.targets:
            for budget in self.study.budgets:
                cells = select(probe["cells"], target=target, budget=budget)
                rows = [
                    {"start": cell["start"], "layer": layer, "cer": cer, "best": layer == cell["layer"]}
                    | {"label": rate(cer) + (", the best layer" if layer == cell["layer"] else "")}
                    for cell in cells
                    for layer, cer in enumerate(cell["layers"])
                ]
                title = f"{target}, {budget}" if several else target
                lines = (f"{cell['start']} {rate(cell['cer'])} at layer {cell['layer']}" for cell in cells)
                text = f"CER of probes by layer, {target}, {budget}; the best: {', '.join(lines)}"
                panels.append(self._panel(title, text, layer_chart(rows, self.styles)))
        shown = [cell for cell in probe["cells"] if cell["error"] is not None]
        if shown:
            rows = [
                {key: cell[key] for key in ("start", "target", "cer", "error")}
                | {"label": f"probe {rate(cell['cer'])}, fine-tuned {rate(cell['error'])}, {cell['budget']}"}
                for cell in shown
            ]
            text = f"{METRICS[self.summary['metric']].label} after fine-tuning against CER of probes"
            text += f", {len(rows)} points; numbers in the table"
            panels.append(self._panel("After fine-tuning, against the probe", text, against_chart(rows, self.styles)))
        return panels

    def transfer(self) -> list[Row]:
        """Changes against similarity and against amounts of pre-training data, and ranks; what is known of them."""
        transfer = self.summary["transfer"]
        panels = []
        for measure in dict.fromkeys(name for cell in transfer["cells"] for name in cell["nearest"]):
            rows = [
                {"start": cell["start"], "language": transfer["targets"][cell["column"]]["name"]}
                | {"similarity": near["similarity"], "change": cell["change"]}
                | {"label": f"{change(cell['change'])}, nearest: {near['language']} ({near['similarity']:.2f})"}
                for cell in transfer["cells"]
                if (near := cell["nearest"].get(measure)) and cell["change"] is not None
            ]
            if rows:
                title = f"Change against similarity {by_measure(measure)}"
                text = f"{title}: {len(rows)} points; numbers in the tables"
                panels.append(self._panel(title, text, similarity_chart(rows, self.styles)))
        amounts = [
            {key: row[key] for key in ("start", "hours", "language_count", "change")}
            | {"label": f"{change(row['change'])}; {count(row['hours'])} h, languages: {row['language_count']}"}
            for row in transfer["starts"]
            if row["hours"] and row["language_count"] and row["change"] is not None
        ]
        if amounts:
            text = "; ".join(f"{row['start']}: {row['label']}" for row in amounts)
            hours = amount_chart(amounts, self.styles, "hours", "hours of pre-training", "language_count")
            panels.append(self._panel("Change against hours (beside points: languages)", text, hours))
            number = amount_chart(amounts, self.styles, "language_count", "languages of pre-training")
            panels.append(self._panel("Change against languages", text, number))
        ranks = [{**row, "label": f"{row['rank']} [{row['low']}, {row['high']}]"} for row in transfer["ranks"]]
        text = "Ranks over all targets: " + ", ".join(f"{row['start']} {row['label']}" for row in ranks)
        panels.append(self._panel("Ranks over all targets", text, rank_chart(ranks, self.styles)))
        return panels

    def pretraining(self, pretraining: list[Row]) -> list[Row]:
        """Quantities logged in pre-training: one panel for each, with the curves of the starts that logged it.

        A start that was trained for each seed has a thin line for each of its instances and a thick one for their mean.
        """
        return self._logged(pretraining, "Pre-training", PRETRAINING)

    def refining(self, refining: list[Row]) -> list[Row]:
        """Quantities logged in semi-supervised training, in the same form."""
        return self._logged(refining, "Semi-supervised training", REFINING)

    def _logged(self, starts: list[Row], stage: str, titles: dict[str, str]) -> list[Row]:
        runs = [(row["start"], row["seed"], with_unexplained(row["curve"])) for row in starts if row["curve"]]
        limit = points_each(POINTS_OF_STARTS, sum(has(curve, column) for _, _, curve in runs for column in titles))
        panels = []
        for column, title in titles.items():
            spec = curve_chart(runs, column, self.styles, percent=column in SHARES, limit=limit)
            if spec:
                panels.append(self._panel(title, f"{stage}: {title} against updates", spec))
        return panels
