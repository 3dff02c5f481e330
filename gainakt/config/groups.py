"""The canonical groups of parameters, in canonical order.

The order of the groups and of the fields in them is the order of config.json, of the README tables
and of `--help`. Parameter names are unique over all groups, so that a flag needs no group.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

Weight = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
# Nothing that is meant is larger; a number from a damaged file must not ask for all memory.
MOST = 10**9
Positive = Annotated[int, Field(ge=1, le=MOST)]


def _auto_or(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    return value if value == "auto" else check(value)


# A number, or "auto". Whoever trains meets the number: `gainakt.experiment.recipe` puts it there.
AUTO = WrapValidator(_auto_or)
OrAuto = Annotated[int, Field(ge=1, le=MOST), AUTO, PlainSerializer(lambda value: value)]
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
    threads: Annotated[int, Field(ge=0, le=MOST)] = 0
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

    epochs: OrAuto = 12
    """Passes over the training students; auto chooses from how many there are."""
    batch_size: OrAuto = 64
    """Sequences in an optimiser step; auto chooses from how many there are."""
    learning_rate: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 1.74e-4
    """Step size of the optimiser."""
    weight_decay: Weight = 1.7571e-5
    """Weight decay; with adamw on matrices only."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimiser: adam (decay inside the gradient) or adamw (decay apart from it)."""
    mixed_precision: Literal["bf16"] = "bf16"
    """Number format of dense layers when `use_amp` is on."""
    gradient_clip: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 1.0
    """Largest global norm of the gradient."""
    patience: OrAuto = 20
    """Epochs without a better validation AUC after which training stops; auto chooses as above."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of the optimiser's average of squared gradients."""
    learning_rate_schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the run: constant, or a cosine that falls to zero at the last step."""
    warmup_steps: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Optimiser steps over which the learning rate rises from zero."""
    teachers: Annotated[int, Field(ge=0, le=MOST)] = 0
    """Models of other seeds, trained first on the same students, that the model learns from."""
    teacher_epochs: Positive = 4
    """Epochs of each teacher."""
    teacher_weight: Share = 0.8
    """Share of the teachers' mean prediction in what is learnt; the answer itself has the rest."""
    weight_average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the moving average of the weights that is evaluated and saved; 0 turns it off."""
    weight_average_warmup: bool = False
    """Let that decay grow with the n steps taken, (1 + n) / (10 + n) at most, for short runs."""


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
    fold: Annotated[int, Field(ge=0, le=MOST)] = 0
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
    lag_l1_weight: Weight = 0.5
    """Relative weight of lag 1."""
    lag_l2_weight: Weight = 0.3
    """Relative weight of lag 2."""
    lag_l3_weight: Weight = 0.2
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


class Evaluation(Group):
    """How predictions are scored."""

    window_stride: Positive = 20
    """Steps the window moves on in histories over seq_len; 1 is the exact sliding window."""
    bootstrap_samples: Annotated[int, Field(ge=100, le=10**6)] = 1000
    """Resamples of students behind every 95% interval."""
