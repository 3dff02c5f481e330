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


@dataclass(frozen=True, eq=False)
class Explanation:
    """Predictions taken apart: logits = prior + sum of contributions, up to rounding.

    logits, prior: (N,) of the skill asked after each step.
    contributions: one (rows, length, length) tensor for each rectangle of the batch; [r, t, i] is
        what the answer at step i adds to the prediction made after step t, 0 for i > t.
    """

    logits: Tensor
    prior: Tensor
    contributions: tuple[Tensor, ...]


class KnowledgeTracer(nn.Module):
    """Base of all models: reads a Batch, and nothing after step n may reach output n.

    `forward` is all that a model must define. What it can say besides, it says by overriding the
    other methods; `by_construction` names the measures of interpretability that its structure
    fixes, whatever its weights (keys of `gainakt.evaluation.interpretability.MEASURES`).
    """

    n_skills: int
    by_construction: frozenset[str] = frozenset()
    # whether `forward` keeps to `Batch.visible`, so that a row may hold several sequences
    reads_packed_rows: bool = False

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the predictions after every step of `batch`."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def mastery(self, batch: Batch, skills: Tensor | None = None) -> Tensor | None:
        """Return the mastery (N, M) after every step of M skills, all K by default."""
        mastery: Tensor | None = self(batch).mastery
        return mastery if mastery is None or skills is None else mastery[:, skills]

    def mastery_asked(self, batch: Batch, output: ModelOutput) -> Tensor | None:
        """Return the mastery (N,) of the skill asked next, from the output of the same batch."""
        if output.mastery is None:
            return None
        return output.mastery.gather(1, batch.next_skill[:, None]).squeeze(1)

    def explain(self, batch: Batch, skill: int | None = None) -> Explanation | None:
        """Return the predictions taken apart, or None: most models cannot say.

        Args:
            batch: N steps.
            skill: explain this skill's logit after every step; by default the skill asked next.
        """
        return None
