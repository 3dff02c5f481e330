"""A complete configuration: every group, and what must hold between them."""

from __future__ import annotations

from typing import Self

from pydantic import SerializeAsAny, model_validator

from gainakt.config.groups import (
    Alignment,
    Data,
    Evaluation,
    Experiment,
    GlobalAlignment,
    Group,
    Hardware,
    Interpretability,
    Refinement,
    Runtime,
    Seeds,
    Training,
)
from gainakt.config.models import GainAKT2ExpParameters, ModelParameters

# Objectives that are on where the model gives what they need: the group of each, and the output.
SWITCHES: dict[str, tuple[str, str]] = {
    "enhanced_constraints": ("interpretability", "mastery"),
    "enable_alignment_loss": ("alignment", "mastery"),
    "enable_global_alignment_pass": ("global_alignment", "mastery"),
    "enable_retention_loss": ("refinement", "mastery"),
    "enable_lag_gain_loss": ("refinement", "gains"),
}


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
            (
                self._lag_weight() > 0,
                "lag_l1_weight to lag_l3_weight must not all be 0 up to lag_max_lag",
            ),
        )
        for holds, message in checks:
            if not holds:
                raise ValueError(message)
        lacking = {
            flag: SWITCHES[flag][1]
            for flag, on in self._switches().items()
            if on and SWITCHES[flag][1] not in self.outputs()
        }
        if lacking:
            needs = ", ".join(f"{flag} = true needs {needed}" for flag, needed in lacking.items())
            raise ValueError(
                f"{needs}, which {self.experiment.model} does not give with these settings; "
                f"set {' and '.join(lacking)} to false, or leave out"
            )
        return self

    def _lag_weight(self) -> float:
        lags = (
            self.refinement.lag_l1_weight,
            self.refinement.lag_l2_weight,
            self.refinement.lag_l3_weight,
        )
        return sum(lags[: self.refinement.lag_max_lag])

    def _switches(self) -> dict[str, bool]:
        return {flag: getattr(getattr(self, group), flag) for flag, (group, _) in SWITCHES.items()}

    @property
    def machine(self) -> tuple[str, int, bool]:
        """Devices, threads and determinism, as `gainakt.machine.prepare_machine` takes them."""
        return self.hardware.devices, self.hardware.threads, self.runtime.deterministic

    @property
    def number_format(self) -> str | None:
        """The number format of dense layers, None for float32."""
        return self.training.mixed_precision if self.runtime.use_amp else None

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
