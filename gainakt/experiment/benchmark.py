"""A grid of data sets and models as one experiment: what fails is recorded, the rest goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gainakt.config import GROUPS, Config, load_config
from gainakt.config.models import MODELS
from gainakt.errors import ConfigError
from gainakt.experiment.console import RunConsole
from gainakt.experiment.crossval import carry_out, plan, summarise_experiment
from gainakt.words import counted


def grid_configs(
    models: Sequence[str], configs: Sequence[str], overrides: Mapping[str, Any]
) -> list[Config]:
    """Return the configuration of each model by its defaults, and each named one.

    Args:
        models: names of registered models.
        configs: named configurations or JSON files.
        overrides: parameters for all of them; one of a model's own goes to the models that have it.

    Raises:
        ConfigError: there is nothing to train, something is named twice, or a parameter is of none.
    """
    named = [*models, *configs]
    if not named:
        raise ConfigError("nothing to train: name models with --models, or --configs")
    repeated = sorted({name for name in named if named.count(name) > 1})
    if repeated:
        raise ConfigError(f"{repeated[0]!r} is named twice; each is trained once")
    if "model" in overrides:
        raise ConfigError("--model names one model; name those of a benchmark with --models")
    bases = [load_config(None, {"model": model, "short_title": model}) for model in models]
    bases += [load_config(name) for name in configs]
    general = {
        name for group, cls in GROUPS.items() if group != "model" for name in cls.model_fields
    }
    used: set[str] = set(general)
    found = []
    for base in bases:
        own = MODELS[base.experiment.model].parameters.model_fields.keys()
        used |= own
        mine = {name: v for name, v in overrides.items() if name in general or name in own}
        found.append(load_config(base, mine))
    strangers = [name for name in overrides if name not in used]
    if strangers:
        raise ConfigError(f"none of the models has a parameter {strangers[0]!r}")
    return found


def benchmark(
    configs: Sequence[Config],
    data: Sequence[Path],
    out: Path,
    *,
    folds: Sequence[int] | None,
    seeds: Sequence[int] | None,
    jobs: int | None,
    console: RunConsole,
    rotate_test: bool = False,
) -> list[str]:
    """Train each configuration on each data set, every fold with every seed, in one queue.

    Args:
        configs: what to train.
        data: prepared data sets.
        out: the folder of the benchmark; the same call goes on where it was stopped.
        folds, seeds, jobs, rotate_test: see `gainakt.experiment.crossval.cross_validate`.
        console: where to report.

    Returns:
        What failed and why; everything else is finished.

    Raises:
        ConfigError, DataError: a fold, a seed or a data set is impossible, before anything is
            trained.
        KeyboardInterrupt: it was stopped; the same call goes on.
    """
    experiments = [
        plan(config, path, out, folds=folds, seeds=seeds, rotate_test=rotate_test)
        for path in data
        for config in configs
    ]
    failed = carry_out(experiments, jobs, console)
    for experiment in experiments:
        if all(experiment.is_done(cell) for cell in experiment.cells):
            summarise_experiment(experiment)
    if failed:
        console.say(
            f"{counted(len(failed), 'run')} failed; the reasons are in the table. Mend the cause "
            "and give the same command again: finished runs are kept"
        )
    return failed
