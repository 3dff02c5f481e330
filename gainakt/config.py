"""The configuration of a run: typed, closed, in canonical order.

The order of the groups and of the fields in them is the order of config.json, of the README tables
and of `--help`. Parameter names are unique over all groups, so that a flag needs no group.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from gainakt.errors import ConfigError

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Group(BaseModel):
    """A group of parameters; unknown names, wrong types and later changes are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Runtime(Group):
    """How the run is carried out and the commands that repeat it."""

    seed: Seed = 42
    """Seed of everything random in the run: initial weights, order of students, dropout."""
    monitor_freq: Positive = 50
    """Optimiser steps between two progress lines."""
    use_amp: bool = False
    """Compute dense layers in `mixed_precision`; losses, decays and sums stay in float32."""
    use_wandb: bool = False
    """Also log to Weights & Biases, offline (needs the extra `track`)."""
    use_mlflow: bool = False
    """Also log to MLflow in a local database beside the experiment folder (extra `track`)."""
    enable_cosine_perf_schedule: bool = False
    """Scale the two performance losses by half a cosine wave instead of a linear warm-up."""
    auto_shifted_eval: bool = True
    """When training ends, evaluate the best checkpoint on all validation students' next answers."""
    deterministic: bool = True
    """Use only algorithms that repeat to the last bit on the same device and thread count."""
    command: str = ""
    """The command line or the call of Python that started the run; filled in by the run."""
    train_command: str = ""
    """The training command with every parameter explicit; filled in by the run."""
    eval_command: str = ""
    """The command that evaluates this run on test students; filled in by the run."""
    repro_command: str = ""
    """The command that repeats this run and compares; filled in by the run."""
    timestamp: str = ""
    """Start of the run in UTC, YYYYMMDD_HHMMSS; filled in by the run."""


class Hardware(Group):
    """Where the run computes."""

    devices: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Device to train on: auto (a GPU if there is one), cpu, cuda or cuda:N."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads; 0 takes every core, and the number taken is recorded."""
    cuda_graphs: Literal["auto", "off"] = "auto"
    """On a GPU, record optimiser steps as CUDA graphs where the model allows it: auto, or off."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the recorded steps: auto (in runs long enough to pay for it), on or off."""


class Seeds(Group):
    """The seeds of the experiment that this run is part of."""

    primary: Seed = 42
    """The seed of this run; the same as `seed`."""
    all: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)] = (42,)
    """Every seed of the experiment; `gainakt crossval` runs each of them."""


class Training(Group):
    """Optimisation."""

    epochs: Positive = 12
    """Passes over the training students."""
    batch_size: Positive = 64
    """Sequences in an optimiser step."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.74e-4
    """Step size of the optimiser."""
    weight_decay: Weight = 1.7571e-5
    """Weight decay; with adamw on matrices only."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimiser: adam (decay inside the gradient) or adamw (decay apart from it)."""
    mixed_precision: Literal["bf16"] = "bf16"
    """Number format of dense layers when `use_amp` is on."""
    gradient_clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Largest global norm of the gradient."""
    patience: Positive = 20
    """Epochs without a better validation AUC after which training stops."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the optimiser's average of squared gradients."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the run: constant, or a cosine that falls to zero at the last step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps over which the learning rate rises from zero."""
    teachers: Annotated[int, Field(ge=0)] = 0
    """Models of other seeds, trained first on the same students, that the model learns from."""
    teacher_epochs: Positive = 4
    """Epochs of each teacher."""
    teacher_weight: Share = 0.8
    """Share of the teachers' mean prediction in what is learnt; the answer itself has the rest."""
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights that is evaluated and saved; 0 turns it off."""


class Experiment(Group):
    """What this run is for."""

    id: str = ""
    """Name of the experiment folder; filled in by the run."""
    model: str = "gainakt2exp"
    """Model to train."""
    short_title: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")] = "run"
    """A word for the folder's name: letters, digits, '_', '-', '.'."""
    purpose: str = ""
    """One sentence for the reader: why this run."""


class Data(Group):
    """What the run learns from."""

    dataset: str = "simulated"
    """Name of the data set."""
    fold: Annotated[int, Field(ge=0)] = 0
    """Fold of students used for validation; the others train."""
    test_fold: Annotated[int, Field(ge=-1)] = -1
    """Fold that takes the test students' place; -1 for the data set's own test students."""


class Interpretability(Group):
    """Heads and constraint losses that tie mastery and gains to what students do."""

    use_mastery_head: bool = True
    """Estimate each skill's mastery after every answer (needs `use_gain_head`)."""
    use_gain_head: bool = True
    """Estimate the learning gain of every answer on each skill."""
    enhanced_constraints: bool = True
    """Apply the constraint losses; off sets all their weights to 0 (the plain predictor's loss)."""
    non_negative_loss_weight: Weight = 0.0
    """Weight of the penalty on gains under zero."""
    monotonicity_loss_weight: Weight = 0.1
    """Weight of the penalty on mastery that falls."""
    mastery_performance_loss_weight: Weight = 0.8
    """Weight of: mastery of the practised skill high at right answers, low at wrong ones."""
    gain_performance_loss_weight: Weight = 0.8
    """Weight of: right answers gain more than wrong ones, by a margin of 0.1."""
    sparsity_loss_weight: Weight = 0.2
    """Weight of the gains on skills other than the practised one."""
    consistency_loss_weight: Weight = 0.3
    """Weight of: the change of mastery is a tenth of the gain."""
    warmup_constraint_epochs: Positive = 8
    """Epochs over which the two performance losses reach full weight."""
    max_semantic_students: Positive = 50
    """Validation students in the consistency check after every epoch."""


class Alignment(Group):
    """Reward for mastery and gains that go with the student's next answers."""

    enable_alignment_loss: bool = True
    """Apply the alignment loss."""
    alignment_weight: Weight = 0.25
    """Weight of the alignment loss at the start."""
    alignment_warmup_epochs: Positive = 8
    """Epochs over which the alignment loss reaches full weight."""
    adaptive_alignment: bool = True
    """After the warm-up, raise the weight while the mastery correlation is too low."""
    alignment_min_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.05
    """Mastery correlation under which the adaptive weight rises."""
    alignment_share_cap: Share = 0.08
    """Share of the total loss beyond which an unhelpful alignment loss is cut back."""
    alignment_share_decay_factor: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Factor by which the weight is cut back."""


class GlobalAlignment(Group):
    """The mastery and gain correlations measured on validation students after every epoch."""

    enable_global_alignment_pass: bool = True
    """Measure them; without, retention, share cap and rebalance rest for want of a figure."""
    alignment_global_students: Positive = 600
    """Validation students measured, drawn evenly from the deciles of sequence length."""
    use_residual_alignment: bool = True
    """Correlate with the answer minus its moving average in the student's own sequence."""
    alignment_residual_window: Annotated[int, Field(ge=1)] = 5
    """Steps in that centred moving average (odd)."""


class Refinement(Group):
    """Objectives that keep what was reached, and adjustments during training."""

    enable_retention_loss: bool = True
    """Penalise a mastery correlation that falls back from its peak."""
    retention_delta: Weight = 0.005
    """Fall from the peak that goes unpunished."""
    retention_weight: Weight = 0.14
    """Weight of the retention loss."""
    enable_lag_gain_loss: bool = True
    """Reward gains that go with the answers one to three steps later."""
    lag_gain_weight: Weight = 0.06
    """Weight of the lag loss."""
    lag_max_lag: Annotated[int, Field(ge=1, le=3)] = 3
    """Largest lag, in steps."""
    lag_l1: Weight = 0.5
    """Relative weight of lag 1."""
    lag_l2: Weight = 0.3
    """Relative weight of lag 2."""
    lag_l3: Weight = 0.2
    """Relative weight of lag 3."""
    consistency_rebalance_epoch: Positive = 8
    """Epoch from which the consistency weight may be rebalanced."""
    consistency_rebalance_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.1
    """Global mastery correlation under which it is."""
    consistency_rebalance_new_weight: Weight = 0.2
    """The consistency weight after rebalancing."""
    variance_floor: Weight = 1e-4
    """Variance of mastery in a batch under which it gets no alignment loss."""
    variance_floor_patience: Positive = 3
    """Such batches in a row after which the sparsity weight is reduced."""
    variance_floor_reduce_factor: Share = 0.5
    """Factor of that reduction."""


class ModelParameters(Group):
    """Base of every model's own parameters."""

    outputs: ClassVar[frozenset[str]] = frozenset()
    """What the model returns in training besides logits: of mastery, gains."""

    seq_len: Annotated[int, Field(ge=3)] = 200
    """Longest sequence the model reads; longer histories are cut."""


class GainAKT2ExpParameters(ModelParameters):
    """Two-stream attention with a mastery and a gain head."""

    outputs: ClassVar[frozenset[str]] = frozenset({"mastery", "gains"})

    d_model: Positive = 512
    """Width of both streams."""
    n_heads: Positive = 8
    """Attention heads; must divide d_model."""
    num_encoder_blocks: Positive = 6
    """Encoder blocks."""
    d_ff: Positive = 1024
    """Width of the feed-forward layers and of the prediction layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of units dropped in training."""
    emb_type: Literal["qid"] = "qid"
    """What is embedded: the skill's id."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads = {self.n_heads} must divide d_model = {self.d_model}")
        return self


class GainSumParameters(ModelParameters):
    """Predictions that are exact sums of signed gains."""

    d_model: Positive = 128
    """Width of the question stream."""
    n_heads: Positive = 8
    """Attention heads; must divide d_model."""
    n_block_heads: Positive = 4
    """Heads of the block that reads the questions; must divide d_model, widths even."""
    d_ff: Positive = 256
    """Width of the block's feed-forward layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of units dropped in training."""
    weights: Literal["in_context", "skills_only"] = "in_context"
    """What the weight of an answer depends on: all of the past, or skills and positions alone."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        for name, heads, unit in (
            ("n_heads", self.n_heads, 1),
            ("n_block_heads", self.n_block_heads, 2),
        ):
            if self.d_model % (heads * unit):
                raise ValueError(
                    f"{name} = {heads} must divide d_model = {self.d_model} into parts"
                    + (" of even width" if unit == 2 else "")
                )
        return self


class DKTParameters(ModelParameters):
    """Deep knowledge tracing: a recurrent network, the field's first black box."""

    d_model: Positive = 200
    """Width of the embeddings and of the recurrent state."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of units dropped in training."""


MODEL_PARAMETERS: dict[str, type[ModelParameters]] = {
    "gainakt2exp": GainAKT2ExpParameters,
    "dkt": DKTParameters,
    "gainsum": GainSumParameters,
}


class Evaluation(Group):
    """How predictions are scored."""

    window_stride: Positive = 20
    """Steps the window moves on in histories over seq_len; 1 is the exact sliding window."""
    bootstrap_samples: Annotated[int, Field(ge=100)] = 1000
    """Resamples of students behind every 95% interval."""


class Config(Group):
    """A complete configuration, in canonical order."""

    runtime: Runtime = Runtime()
    hardware: Hardware = Hardware()
    seeds: Seeds = Seeds()
    training: Training = Training()
    experiment: Experiment = Experiment()
    data: Data = Data()
    interpretability: Interpretability = Interpretability()
    alignment: Alignment = Alignment()
    global_alignment: GlobalAlignment = GlobalAlignment()
    refinement: Refinement = Refinement()
    model: SerializeAsAny[ModelParameters] = GainAKT2ExpParameters()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        checks = (
            (
                self.seeds.primary == self.runtime.seed,
                f"primary = {self.seeds.primary} and seed = {self.runtime.seed} must be the same",
            ),
            (
                self.seeds.primary in self.seeds.all,
                f"all = {list(self.seeds.all)} must contain primary = {self.seeds.primary}",
            ),
            (
                self.interpretability.use_gain_head or not self.interpretability.use_mastery_head,
                "use_mastery_head = true needs use_gain_head = true: mastery sums the gains",
            ),
            (
                self.global_alignment.alignment_residual_window % 2 == 1,
                "alignment_residual_window must be odd: the window is centred",
            ),
            (
                self.data.test_fold != self.data.fold,
                f"test_fold = {self.data.test_fold} must not be the validation fold",
            ),
            (self._lag_weight() > 0, "lag_l1 to lag_l3 must not all be 0 up to lag_max_lag"),
        )
        for holds, message in checks:
            if not holds:
                raise ValueError(message)
        for flag, needed in self._needed_outputs():
            if needed not in self.outputs():
                raise ValueError(
                    f"{flag} = true needs {needed}, which {self.experiment.model} does not give "
                    f"with these settings; set {flag} to false"
                )
        return self

    def _lag_weight(self) -> float:
        lags = (self.refinement.lag_l1, self.refinement.lag_l2, self.refinement.lag_l3)
        return sum(lags[: self.refinement.lag_max_lag])

    def _needed_outputs(self) -> Iterator[tuple[str, str]]:
        switches = (
            ("enhanced_constraints", self.interpretability.enhanced_constraints, "mastery"),
            ("enable_alignment_loss", self.alignment.enable_alignment_loss, "mastery"),
            (
                "enable_global_alignment_pass",
                self.global_alignment.enable_global_alignment_pass,
                "mastery",
            ),
            ("enable_retention_loss", self.refinement.enable_retention_loss, "mastery"),
            ("enable_lag_gain_loss", self.refinement.enable_lag_gain_loss, "gains"),
        )
        return ((flag, needed) for flag, on, needed in switches if on)

    def outputs(self) -> frozenset[str]:
        """Return what the configured model gives in training besides logits."""
        heads = {
            "mastery": self.interpretability.use_mastery_head,
            "gains": self.interpretability.use_gain_head,
        }
        return frozenset(name for name in self.model.outputs if heads[name])


GROUPS: dict[str, type[Group]] = {
    name: Config.model_fields[name].default.__class__ for name in Config.model_fields
}

# Recorded, but without influence on the result: changing them keeps the configuration's hash.
_NOT_HASHED = {
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
FILLED_BY_RUN = {"command", "train_command", "eval_command", "repro_command", "timestamp", "id"}
_EXTRA_KEYS = {"override_applied", "config_hash"}


def model_fields(name: str) -> dict[str, FieldInfo]:
    """Return the parameters of the registered model `name`."""
    if not isinstance(name, str) or name not in MODEL_PARAMETERS:
        raise ConfigError(
            f"experiment.model = {name!r} is not a model{_suggestion(name, MODEL_PARAMETERS)}; "
            f"allowed: {', '.join(MODEL_PARAMETERS)}"
        )
    return MODEL_PARAMETERS[name].model_fields


def parameters() -> Iterator[tuple[str, str, FieldInfo]]:
    """Yield (group, name, field) of every parameter of every model, in canonical order."""
    for group, cls in GROUPS.items():
        if group != "model":
            yield from ((group, name, field) for name, field in cls.model_fields.items())
            continue
        seen: set[str] = set()
        for parameters_of_model in MODEL_PARAMETERS.values():
            for name, field in parameters_of_model.model_fields.items():
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
    flat = dict(overrides or {})
    for name in flat:
        if name not in groups:
            raise ConfigError(f"unknown parameter {name!r}{_suggestion(name, groups)}")
    model_before = values.get("experiment", {}).get("model", Experiment().model)
    if flat.get("model", model_before) != model_before:
        values["model"] = {}
    for name, value in flat.items():
        values.setdefault(groups[name], {})[name] = value
    _seeds_follow(values, flat)
    named = isinstance(source, str | Path)
    return parse_config(values, str(source) if named else "configuration")


def parse_config(values: Mapping[str, Any], where: str = "configuration") -> Config:
    """Validate nested values by group; see `load_config`."""
    _check_groups(values, where)
    values = {key: value for key, value in values.items() if key not in _EXTRA_KEYS}
    chosen = values.get("experiment", {}).get("model", Experiment().model)
    model_fields(chosen)
    classes = {**GROUPS, "model": MODEL_PARAMETERS[chosen]}
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


def _check_groups(values: object, where: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: must hold groups of parameters, as config.json does")
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
    package = Path(__file__).resolve().parent
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
    path = named_configs().get(str(source), Path(source))
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{source}: no such file, and no named configuration"
            f"{_suggestion(str(source), named_configs())}; named: {', '.join(named_configs())}"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    _check_groups(values, str(path))
    return dict(values)


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
    classes = {**GROUPS, "model": MODEL_PARAMETERS[config.experiment.model]}
    defaults: dict[str, Any] = {}
    for cls in classes.values():
        defaults |= cls().model_dump(mode="json")
    return {
        name: value
        for name, value in flatten(config).items()
        if value != defaults[name] and name not in FILLED_BY_RUN
    }


def config_hash(config: Config) -> str:
    """Return a SHA-256 over the parameters that determine the result."""
    values = {
        group: {k: v for k, v in content.items() if k not in _NOT_HASHED.get(group, set())}
        for group, content in config.model_dump(mode="json").items()
    }
    return hashlib.sha256(json.dumps(values, separators=(",", ":")).encode()).hexdigest()


def dump_config(config: Config) -> dict[str, Any]:
    """Return what config.json holds: all groups in order, what was overridden, and the hash."""
    return {
        **config.model_dump(mode="json"),
        "override_applied": overridden(config),
        "config_hash": config_hash(config),
    }
