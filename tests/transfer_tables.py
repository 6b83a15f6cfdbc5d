"""Tables of starts × languages whose truth is known, and studies to go with them, for tests."""

import numpy as np

from headstart.study.study import Study
from headstart.summarise.design import Cell, Design

LANGUAGES = "en de nl sv es fr it pt ru pl tr fi et id sw th ja zh".split()


def study_of(pretraining, targets=LANGUAGES, seeds=3, hours=None, mixed=()):
    """A study whose starts are pre-trained on the languages in `pretraining`, a dict of name -> (hours, languages)."""
    used = dict.fromkeys([*targets, *(tag for _, tags in pretraining.values() for tag in tags)])
    starts = {"none": {"kind": "scratch"}}
    for name, (total, tags) in pretraining.items():
        starts[name] = {"kind": "ssl", "corpora": {f"c-{tag}": total / len(tags) for tag in tags}}
    corpora = {f"c-{tag}": {"reader": "folder", "path": f"data/{tag}", "language": tag} for tag in used}
    goals = {f"t-{tag}": {"corpus": f"c-{tag}", "kind": "cross-lingual"} for tag in targets}
    for one, two in mixed:
        pair = f"{one}-{two}"
        corpora[f"c-{pair}"] = {"reader": "folder", "path": f"data/{pair}", "language": one}
        languages = {one: f"c-{one}", two: f"c-{two}"}
        goals[f"t-{pair}"] = {"corpus": f"c-{pair}", "kind": "code-switched", "languages": languages}
    return Study.model_validate(
        {
            "study": "simulated",
            "corpora": corpora,
            "starts": starts,
            "targets": goals,
            "budgets": ["10min"],
            "seeds": list(range(1, seeds + 1)),
            "baseline": "none",
        }
    )


def design_of(study, truth, seed_sd=0.03, seed=0):
    """The runs of a study whose log error rates are `truth`, `[starts, targets]`, and vary between seeds."""
    rng = np.random.default_rng(seed)
    values = truth[:, :, None] + rng.normal(0, seed_sd, (*truth.shape, len(study.seeds)))
    return Design(
        {
            (target, study.budgets[0]): Cell(study.targets[target].corpus, list(study.starts), values[:, place])
            for place, target in enumerate(study.targets)
        }
    )


# Hours and numbers of languages vary independently: each size with each number, twice.
FACTORIAL = {
    f"{hours}h-{count}-{turn}": (hours, [LANGUAGES[(5 * turn + 3 * place) % len(LANGUAGES)] for place in range(count)])
    for hours in (8, 32, 128)
    for count in (1, 2, 4)
    for turn in (0, 1)
}


def changes_of(study, per_hours=0.0, per_languages=0.0, start_sd=0.05, slope_sd=0.02, cell_sd=0.05, seed=0):
    """`[starts, targets]`: log error rates with effects of a doubling of hours and of the number of languages."""
    from headstart.summarise.pretraining_data import pretraining_data

    rng = np.random.default_rng(seed)
    targets = len(study.targets)
    rows = [np.zeros(targets)]
    for name in list(study.starts)[1:]:
        data = pretraining_data(study, name)
        size, count = np.log2(data.hours), np.log2(data.language_count)
        rows.append(-0.3 + per_hours * (size - 5) + per_languages * count + rng.normal(0, start_sd) + np.zeros(targets))
    truth = np.array(rows)
    sizes = np.array([0] + [np.log2(pretraining_data(study, name).hours) - 5 for name in list(study.starts)[1:]])
    truth += np.outer(sizes, rng.normal(0, slope_sd, targets)) + rng.normal(0, cell_sd, truth.shape)
    return truth + rng.normal(-1, 0.3, targets)
