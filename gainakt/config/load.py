"""Reading configurations, overriding them by flat name, writing and hashing them."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gainakt.config.complete import GROUPS, SWITCHES, Config
from gainakt.config.groups import Experiment, Group, Interpretability
from gainakt.config.models import MODELS
from gainakt.errors import ConfigError

# Recorded, but without influence on the result: changing them keeps the configuration's hash.
NOT_HASHED = {
    "runtime": {
        "monitor_freq",
        "use_wandb",
        "use_mlflow",
        "auto_shifted_eval",
        "command",
        "train_command",
        "eval_command",
        "repro_command",
        "timestamp",
    },
    "hardware": {"devices", "threads", "cuda_graphs", "compile"},
    "seeds": {"all"},
    "experiment": {"id", "short_title", "purpose"},
    "evaluation": {"bootstrap_samples"},
}
# Names that parameters had in configurations of earlier versions.
RENAMED = {("refinement", f"lag_l{lag}"): f"lag_l{lag}_weight" for lag in (1, 2, 3)}
FILLED_BY_RUN = {"command", "train_command", "eval_command", "repro_command", "timestamp", "id"}
_EXTRA_KEYS = {"override_applied", "config_hash", "format_version"}
FORMAT_VERSION = 2
"""Of config.json: 1 had other names for the weights of lags, and did not say its version."""


def model_fields(name: str) -> dict[str, FieldInfo]:
    """Return the parameters of the registered model `name`."""
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(
            f"experiment.model = {name!r} is not a model{_suggestion(name, MODELS)}; "
            f"allowed: {', '.join(MODELS)}"
        )
    return MODELS[name].parameters.model_fields


def parameters() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield (group, name, field) of every parameter of every model, in canonical order."""
    for group, cls in GROUPS.items():
        if group != "model":
            yield from ((group, name, field) for name, field in cls.model_fields.items())
            continue
        seen: set[str] = set()
        for spec in MODELS.values():
            for name, field in spec.parameters.model_fields.items():
                if name not in seen:
                    seen.add(name)
                    yield group, name, field


def group_of() -> dict[str, str]:
    """Return every parameter's group by the parameter's name."""
    return {name: group for group, name, _ in parameters()}


def load_config(
    source: str | Path | Config | None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Build a configuration from a file, a name or another one, then overrides by flat name.

    Args:
        source: path of a JSON file, name of a configuration under configs/, a configuration, or
            None for defaults.
        overrides: values by parameter name, as given on the command line.

    Raises:
        ConfigError: unknown name, wrong type or impossible value, with what is allowed.
    """
    values = _read(source) if source is not None else {}
    groups = group_of()
    now = {name: new for (_, name), new in RENAMED.items()}
    flat = {now.get(name, name): value for name, value in (overrides or {}).items()}
    for name in flat:
        if name not in groups:
            raise ConfigError(f"unknown parameter {name!r}{_suggestion(name, groups)}")
    model_before = values.get("experiment", {}).get("model", Experiment().model)
    if flat.get("model", model_before) != model_before:
        values["model"] = {}
        for flag, (group, _) in SWITCHES.items():  # what the other model gave is not asked of this
            values.get(group, {}).pop(flag, None)
    named = isinstance(source, str | Path)
    before = flatten(parse_config(copy.deepcopy(values))) if named and flat else {}
    for name, value in flat.items():
        values.setdefault(groups[name], {})[name] = value
    _seeds_follow(values, flat)
    if "purpose" not in flat:
        changed = {n: v for n, v in flat.items() if n in before and before[n] != v}
        _amend_purpose(values, changed)
    return parse_config(values, str(source) if named else "configuration")


def _amend_purpose(values: dict[str, Any], flat: Mapping[str, Any]) -> None:
    """Say in a configuration's purpose what was changed, for then it is no longer quite true."""
    hidden = {name for names in NOT_HASHED.values() for name in names} | {"seed", "fold"}
    changed = ", ".join(f"{name} {value}" for name, value in flat.items() if name not in hidden)
    purpose = values.get("experiment", {}).get("purpose")
    if changed and purpose:
        values["experiment"]["purpose"] = f"{purpose}; changed: {changed}"


def parse_config(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """Validate nested values by group; see `load_config`."""
    _check_groups(values, where)
    values = _current({k: dict(v) for k, v in values.items() if k not in _EXTRA_KEYS})
    chosen = values.get("experiment", {}).get("model", Experiment().model)
    model_fields(chosen)
    classes = {**GROUPS, "model": MODELS[chosen].parameters}
    _switch_automatically(values, chosen)
    for group, content in values.items():
        known = classes[group].model_fields
        for name in content:
            if name not in known:
                near = _suggestion(name, known) or _suggestion(name, group_of())
                raise ConfigError(f"{where}: unknown parameter {group}.{name}{near}")
    try:
        built: dict[str, Any] = {
            group: _validate(cls, group, values.get(group, {})) for group, cls in classes.items()
        }
        return Config(**built)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, '')}") from None


def _current(values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Values by the names that parameters have now."""
    for group, content in values.items():
        for name in list(content):
            if (group, name) in RENAMED:
                content.setdefault(RENAMED[group, name], content.pop(name))
    return values


def _switch_automatically(values: dict[str, dict[str, Any]], model: str) -> None:
    """Let objectives that nobody has switched be on where the model gives what they need."""
    heads = {**Interpretability().model_dump(), **values.get("interpretability", {})}
    off = {"mastery": "use_mastery_head", "gains": "use_gain_head"}
    outputs = {name for name in MODELS[model].parameters.outputs if heads[off[name]] is not False}
    if model != Experiment().model or outputs != MODELS[model].parameters.outputs:
        for flag, (group, needed) in SWITCHES.items():
            content = values.setdefault(group, {})
            if content.get(flag, "auto") == "auto":
                content[flag] = needed in outputs
    for flag, (group, _) in SWITCHES.items():
        if values.get(group, {}).get(flag) == "auto":
            del values[group][flag]


def _check_groups(values: object, where: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: must hold groups of parameters, as config.json does")
    version = values.get("format_version", 1)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ConfigError(
            f"{where}: format_version {version!r} was written by a newer version of GainAKT; this "
            f"one reads up to {FORMAT_VERSION}"
        )
    for group, content in values.items():
        if group in _EXTRA_KEYS:
            continue
        if group not in GROUPS:
            raise ConfigError(f"{where}: unknown group {group!r}{_suggestion(group, GROUPS)}")
        if not isinstance(content, Mapping):
            raise ConfigError(f"{where}: group {group!r} must hold parameters by name")


def _validate(cls: type[Group], group: str, content: Mapping[str, Any]) -> Group:
    try:
        return cls.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(_explain(error, group + ".")) from None


def _explain(error: ValidationError, prefix: str) -> str:
    lines = []
    for problem in error.errors():
        where = prefix + ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            lines.append(f"{where} = {problem['input']!r}: {message}")
        else:
            lines.append(message)
    return "; ".join(lines)


def _seeds_follow(values: dict[str, Any], flat: Mapping[str, Any]) -> None:
    """Let `seed` or `primary` given alone set the other, and `all` contain it."""
    if "seed" not in flat and "primary" not in flat:
        return
    seed = flat.get("seed", flat.get("primary"))
    values.setdefault("runtime", {}).setdefault("seed", seed)
    seeds = values.setdefault("seeds", {})
    if "primary" not in flat:
        seeds["primary"] = seed
    if "seed" not in flat:
        values["runtime"]["seed"] = seed
    known = seeds.get("all", ())
    if "all" not in flat and isinstance(known, list | tuple) and seed not in known:
        seeds["all"] = (seed,)


def _suggestion(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def config_folders() -> tuple[Path, ...]:
    """Return where named configurations lie: in an installed package, or in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return package / "configs", package.parent / "configs"


def named_configs() -> dict[str, Path]:
    """Return the named configurations and their files."""
    found: dict[str, Path] = {}
    for folder in config_folders():
        for path in sorted(folder.glob("*.json")):
            found.setdefault(path.stem, path)
    return found


def _read(source: str | Path | Config) -> dict[str, Any]:
    if isinstance(source, Config):
        return source.model_dump()
    return _read_file(str(source), ())


def _read_file(source: str, asked_by: tuple[str, ...]) -> dict[str, Any]:
    """Values of a file or named configuration, on top of those of its `base`."""
    path = named_configs().get(source, Path(source))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        of = f"base of {asked_by[-1]}: " if asked_by else ""
        raise ConfigError(
            f"{of}{source}: no such file, and no named configuration"
            f"{_suggestion(source, named_configs())}; named: {', '.join(named_configs())}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(f"{path}: cannot be read as JSON: {reason}") from None
    base = values.pop("base", None) if isinstance(values, dict) else None
    _check_groups(values, str(path))
    if base is None:
        return dict(values)
    if not isinstance(base, str) or base in (*asked_by, source):
        way = " -> ".join((*asked_by, source, str(base)))
        raise ConfigError(f"{path}: base = {base!r} is no other configuration ({way})")
    below = _read_file(base, (*asked_by, source))
    model = values.get("experiment", {}).get("model")
    if model is not None and model != below.get("experiment", {}).get("model", Experiment().model):
        below["model"] = {}
    merged = {group: {**below.get(group, {}), **values.get(group, {})} for group in GROUPS}
    return {group: content for group, content in merged.items() if content}


def flatten(config: Config) -> dict[str, Any]:
    """Return every parameter's value by name, in canonical order."""
    return {
        name: value
        for group in config.model_dump(mode="json").values()
        for name, value in group.items()
    }


def overridden(config: Config) -> dict[str, Any]:
    """Return the parameters whose value is not the default, by name."""
    # group by group: the defaults of all groups need not agree for every model
    classes = {**GROUPS, "model": MODELS[config.experiment.model].parameters}
    defaults: dict[str, Any] = {}
    for cls in classes.values():
        defaults |= cls().model_dump(mode="json")
    for flag, (_, needed) in SWITCHES.items():
        defaults[flag] = needed in config.outputs()
    return {
        name: value
        for name, value in flatten(config).items()
        if value != defaults[name] and name not in FILLED_BY_RUN
    }


def config_hash(config: Config) -> str:
    """Return a SHA-256 over the parameters that determine the result."""
    return hash_of(config.model_dump(mode="json"))


def hash_of(values: Mapping[str, Any]) -> str:
    """Return the hash of values as config.json holds them, with the names and groups it has."""
    counted = {
        group: {k: v for k, v in content.items() if k not in NOT_HASHED.get(group, set())}
        for group, content in values.items()
        if group not in _EXTRA_KEYS
    }
    return hashlib.sha256(json.dumps(counted, separators=(",", ":")).encode()).hexdigest()


def dump_config(config: Config) -> dict[str, Any]:
    """Return what config.json holds: all groups in order, what was overridden, and the hash."""
    return {
        **config.model_dump(mode="json"),
        "override_applied": overridden(config),
        "config_hash": config_hash(config),
        "format_version": FORMAT_VERSION,
    }
