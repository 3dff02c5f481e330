"""GainAKT2Exp in the shape of its first implementation: the yardstick for our own.

The same equations and the same weights as `gainakt.models.gainakt2exp`, and the same loss terms,
written down the way the model first was: every sequence padded to `seq_len`; attention by an
explicit score for every pair of steps; mastery by a loop over time; the loss and the predictions
copied to the host after every batch; and after every epoch four passes over the validation
students, one for each thing that is wanted of them. Padding is masked in every loss, so it costs
time but changes no result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from gainakt.config import Config, GainAKT2ExpParameters
from gainakt.data.batches import Batch, Rectangle, training_order
from gainakt.data.sequences import Sequences
from gainakt.models.interface import GAIN_RATE, ModelOutput
from gainakt.objectives.schedule import ScheduleState, epoch_weights
from gainakt.objectives.total import BatchWeights, total_loss

VALIDATION_PASSES = 4


def padded_batch(sequences: Sequences, index: np.ndarray, length: int) -> Batch:
    """Return the sequences at `index`, each padded on the right to `length` steps.

    The batch is one rectangle of len(index) rows; its tensors are flat, as the loss terms take
    them.
    """
    step = np.broadcast_to(np.arange(length), (len(index), length))
    lengths = sequences.lengths[index][:, None]
    source = sequences.starts[index][:, None] + np.minimum(step, lengths - 1)
    is_last = step + 1 >= lengths
    following = source + ~is_last
    has_next = ~is_last & (sequences.rows.order[following] != sequences.rows.order[source])

    def flat(values: np.ndarray, kind: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor(np.ascontiguousarray(values), dtype=kind).flatten()

    return Batch(
        skill=flat(sequences.rows.skill[source]),
        response=flat(sequences.rows.response[source]),
        position=flat(step),
        sequence=flat(np.broadcast_to(index[:, None], step.shape)),
        valid=flat(step < lengths, torch.bool),
        next_skill=flat(sequences.rows.skill[following]),
        next_response=flat(sequences.rows.response[following]),
        target=flat(sequences.rows.response[following], torch.float32),
        has_next=flat(has_next, torch.bool),
        rectangles=(Rectangle(0, len(index), length),),
    )


class TwoStreamBlock(nn.Module):
    """One encoder block over (B, T, d); its parameters have the names of ours."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.project = nn.Linear(d_model, d_model)
        self.norm_value = nn.LayerNorm(d_model)
        self.norm_context = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model)
        )
        self.norm_out = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, context: Tensor, value: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the renewed (context, value); `hidden` (T, T) is True where nothing is seen."""
        q, k, v = (
            x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, T, d / H)
            for x in (self.query(context), self.key(context), self.value(value))
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, T)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1)
        attended = (weights @ v).transpose(1, 2).flatten(-2)
        attended = self.dropout(self.project(attended))
        value = self.norm_value(value + attended)
        context = self.norm_context(context + attended)
        context = self.norm_out(context + self.dropout(self.feed_forward(context)))
        return context, value


class Reference(nn.Module):
    """The model over dense (B, T) tensors; takes the state dict of our GainAKT2Exp."""

    def __init__(self, n_skills: int, p: GainAKT2ExpParameters) -> None:
        super().__init__()
        self.n_skills = n_skills
        self.embed_context = nn.Embedding(2 * n_skills, p.d_model)
        self.embed_value = nn.Embedding(2 * n_skills, p.d_model)
        self.embed_skill = nn.Embedding(n_skills, p.d_model)
        self.embed_position = nn.Embedding(p.seq_len, p.d_model)
        self.blocks = nn.ModuleList(
            TwoStreamBlock(p.d_model, p.n_heads, p.d_ff, p.dropout)
            for _ in range(p.num_encoder_blocks)
        )
        self.predict = nn.Sequential(
            nn.Linear(3 * p.d_model, p.d_ff), nn.ReLU(), nn.Dropout(p.dropout), nn.Linear(p.d_ff, 1)
        )
        self.gain_head = nn.Linear(p.d_model, n_skills)
        self.mastery_head = nn.Linear(p.d_model, n_skills)

    def forward(self, batch: Batch) -> ModelOutput:
        """Return logits, mastery and gains of a padded batch, flat again for the loss terms."""
        (_, rows, length), *_ = batch.rectangles
        token = (batch.skill + self.n_skills * batch.response).view(rows, length)
        asked = self.embed_skill(batch.next_skill.view(rows, length))
        position = self.embed_position(torch.arange(length, device=token.device))
        context = self.embed_context(token) + position
        value = self.embed_value(token) + position
        hidden = torch.ones(length, length, dtype=torch.bool, device=token.device).triu(1)
        for block in self.blocks:
            context, value = block(context, value, hidden)
        logits = self.predict(torch.cat([context, value, asked], dim=-1))
        gains = self.gain_head(value).relu()
        first = self.mastery_head(context).sigmoid()
        mastery = torch.zeros_like(first)
        mastery[:, 0] = first[:, 0]
        for t in range(1, length):
            mastery[:, t] = (mastery[:, t - 1] + GAIN_RATE * gains[:, t]).clamp(max=1.0)
        return ModelOutput(logits.flatten(), mastery.flatten(0, 1), gains.flatten(0, 1))


class ReferenceTraining:
    """The first epoch of the reference, one optimiser step at a time.

    Args:
        config: model, weights of the loss terms, optimiser, batch size, seed.
        n_skills: K.
        device: where to compute.
    """

    def __init__(self, config: Config, n_skills: int, device: torch.device) -> None:
        assert isinstance(config.model, GainAKT2ExpParameters)
        torch.manual_seed(config.runtime.seed)
        self.config = config
        self.device = device
        self.model = Reference(n_skills, config.model).to(device)
        self.weights = epoch_weights(config, ScheduleState.start(config), 1)
        self.moving = BatchWeights.start(config.interpretability.sparsity_loss_weight, device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            config.training.learning_rate,
            weight_decay=config.training.weight_decay,
        )
        self.losses: list[float] = []
        self.predictions: list[np.ndarray] = []

    def training_batches(self, sequences: Sequences) -> Iterator[Batch]:
        """Yield the epoch's batches, of the same students as ours."""
        yield from self._batches(
            sequences, training_order(len(sequences), self.config.runtime.seed, 1)
        )

    def _batches(self, sequences: Sequences, order: np.ndarray) -> Iterator[Batch]:
        size, length = self.config.training.batch_size, self.config.model.seq_len
        for begin in range(0, len(order), size):
            batch = padded_batch(sequences, order[begin : begin + size], length)
            yield batch.to(self.device)

    def step(self, batch: Batch) -> None:
        """Take one optimiser step; loss and predictions go to the host at once."""
        self.model.train()
        output = self.model(batch)
        losses, self.moving = total_loss(output, batch, self.config, self.weights, self.moving)
        self.optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.training.gradient_clip)
        self.optimizer.step()
        self.losses.append(losses.total.item())
        self._keep(output, batch)

    @torch.no_grad()
    def validate(self, sequences: Sequences) -> None:
        """Read all of `sequences` once, as each of the passes does."""
        self.model.eval()
        for batch in self._batches(sequences, np.arange(len(sequences))):
            self._keep(self.model(batch), batch)

    def _keep(self, output: ModelOutput, batch: Batch) -> None:
        chosen = output.logits.detach()[batch.has_next]
        self.predictions.append(chosen.sigmoid().cpu().numpy())
