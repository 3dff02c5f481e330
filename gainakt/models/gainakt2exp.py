"""GainAKT2Exp: two-stream attention with a mastery and a gain head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gainakt.config import Config, GainAKT2ExpParameters
from gainakt.data.batches import Batch
from gainakt.models.attention import Dropout, causal_attention, feed_forward
from gainakt.models.interface import GAIN_RATE, KnowledgeTracer, ModelOutput


def accumulate_mastery(first: Tensor, gains: Tensor) -> Tensor:
    """Mastery by cumulative sum: m_t = min(1, m_1 + 0.1 (g_2 + ... + g_t)).

    Since gains are never negative this equals the recursion m_t = min(1, m_{t-1} + 0.1 g_t).

    Args:
        first: (rows, T, K), of which only step 1 is read: mastery after the first answer.
        gains: (rows, T, K), >= 0.
    """
    later = torch.cat([torch.zeros_like(gains[:, :1]), gains[:, 1:]], dim=1)
    return (first[:, :1] + GAIN_RATE * later.cumsum(dim=1)).clamp(max=1.0)


def add_up_mastery(
    first: Tensor, gains: Tensor, begins: Tensor, visible: Tensor | None = None
) -> Tensor:
    """Mastery as `accumulate_mastery` has it, by a product with the matrix of what is visible.

    Rows may hold several sequences: what others hold is multiplied by 0, so it does not even reach
    the rounding. On a GPU, where a cumulative sum of floats repeats no bits, this does.

    Args:
        first, gains: (rows, T, K).
        begins: (rows, T, 1) bool, the first steps of sequences.
        visible: (rows, T, T) bool, the steps up to each one in its sequence; by default in its row.
    """
    if visible is None:
        visible = begins.new_ones(gains.shape[1], gains.shape[1]).tril()
    with torch.autocast(gains.device.type, enabled=False):
        added = torch.where(begins, first, GAIN_RATE * gains)
        return (visible.to(added.dtype) @ added).clamp(max=1.0)


class TwoStreamBlock(nn.Module):
    """One encoder block: attention reads the context, carries the values, and renews both.

    value' = LN(value + a), u = LN(context + a), context' = LN(u + drop(FFN(u))), with `a` the
    projected, dropped-out attention of context queries and keys over values.
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.project = nn.Linear(d_model, d_model)
        self.norm_value = nn.LayerNorm(d_model)
        self.norm_context = nn.LayerNorm(d_model)
        self.feed_forward = feed_forward(d_model, d_ff, dropout)
        self.norm_out = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, batch: Batch, context: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the renewed (context, value), each (N, d)."""
        attended = causal_attention(
            batch, self.query(context), self.key(context), self.value(value), self.n_heads
        )
        attended = self.dropout(self.project(attended))
        value = self.norm_value(value + attended)
        context = self.norm_context(context + attended)
        context = self.norm_out(context + self.dropout(self.feed_forward(context)))
        return context, value


class GainAKT2Exp(KnowledgeTracer):
    """Two streams (context, value) over (skill, answer) tokens; a prediction from both.

    The logit reads [context_t ; value_t ; skill(q_{t+1})]. Gains are relu(W_g value_t); mastery
    starts at sigmoid(W_m context_1) and sums a tenth of the gains. Neither feeds the prediction.
    At the seed size with 100 skills it has 14,658,761 parameters. Both heads off leave the plain
    predictor.
    """

    reads_packed_rows = True

    def __init__(
        self,
        n_skills: int,
        parameters: GainAKT2ExpParameters,
        *,
        use_mastery_head: bool,
        use_gain_head: bool,
    ) -> None:
        super().__init__()
        self.n_skills = n_skills
        p = parameters
        self.embed_context = nn.Embedding(2 * n_skills, p.d_model)
        self.embed_value = nn.Embedding(2 * n_skills, p.d_model)
        self.embed_skill = nn.Embedding(n_skills, p.d_model)
        self.embed_position = nn.Embedding(p.seq_len, p.d_model)
        self.blocks = nn.ModuleList(
            TwoStreamBlock(p.d_model, p.n_heads, p.d_ff, p.dropout)
            for _ in range(p.num_encoder_blocks)
        )
        self.predict = nn.Sequential(
            nn.Linear(3 * p.d_model, p.d_ff), nn.ReLU(), Dropout(p.dropout), nn.Linear(p.d_ff, 1)
        )
        self.gain_head = nn.Linear(p.d_model, n_skills) if use_gain_head else None
        self.mastery_head = nn.Linear(p.d_model, n_skills) if use_mastery_head else None

    def forward(self, batch: Batch) -> ModelOutput:
        """Return logits (N,), mastery (N, K) and gains (N, K) of a batch."""
        token = batch.skill + self.n_skills * batch.response
        position = self.embed_position(batch.position)
        context = self.embed_context(token) + position
        value = self.embed_value(token) + position
        for block in self.blocks:
            context, value = block(batch, context, value)
        asked = self.embed_skill(batch.next_skill)
        logits = self.predict(torch.cat([context, value, asked], dim=-1)).squeeze(-1)
        # sums and losses stay in float32, whatever the dense layers compute in
        gains = None if self.gain_head is None else self.gain_head(value).float().relu()
        mastery = None
        if self.mastery_head is not None and gains is not None:
            first = self.mastery_head(context).float().sigmoid()
            mastery = self._mastery(batch, first, gains)
        return ModelOutput(logits.float(), mastery, gains)

    def _mastery(self, batch: Batch, first: Tensor, gains: Tensor) -> Tensor:
        if batch.visible is None and not gains.is_cuda:
            return batch.by_rectangle(accumulate_mastery, first, gains)
        begins = (batch.position == 0)[:, None]
        return batch.by_rectangle(add_up_mastery, first, gains, begins, *batch.masks())


def build(config: Config, n_skills: int) -> GainAKT2Exp:
    """Build the model from a configuration; see the registry in `gainakt.models`."""
    assert isinstance(config.model, GainAKT2ExpParameters)
    return GainAKT2Exp(
        n_skills,
        config.model,
        use_mastery_head=config.interpretability.use_mastery_head,
        use_gain_head=config.interpretability.use_gain_head,
    )
