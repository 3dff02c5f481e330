"""What every model returns and takes: one output type, one signature."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from gainakt.data.batches import Batch

# The share of a learning gain that mastery takes up: m_t = min(1, m_{t-1} + 0.1 g_t).
GAIN_RATE = 0.1


@dataclass(frozen=True, eq=False)
class ModelOutput:
    """A model's reading of a batch of N steps; what a model lacks is None.

    logits: (N,) log-odds that the answer after each step is right.
    mastery: (N, K) in [0, 1], each skill's mastery after the step.
    gains: (N, K) >= 0, what the step's interaction added to each skill.
    """

    logits: Tensor
    mastery: Tensor | None = None
    gains: Tensor | None = None


class KnowledgeTracer(nn.Module):
    """Base of all models: reads a Batch, and nothing after step n may reach output n."""

    n_skills: int

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        raise TypeError(f"{type(self).__name__} does not define forward")
