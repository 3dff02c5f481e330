"""GainAKT2Exp: two-stream attention with a mastery and a gain head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gainakt.config import Config, GainAKT2ExpParameters
from gainakt.data.batches import Batch
from gainakt.data.rows import Rows
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.attention import Dropout, attend, causal_attention, feed_forward
from gainakt.models.buffer import Buffer
from gainakt.models.interface import (
    GAIN_RATE,
    KnowledgeTracer,
    ModelOutput,
    codes,
    student_batch,
    wide,
)
from gainakt.models.questions import Questions


def accumulate_mastery(first: Tensor, gains: Tensor) -> Tensor:
    """Mastery by cumulative sum: m_t = min(1, m_1 + 0.1 (g_2 + ... + g_t)).

    Since gains are never negative this equals the recursion m_t = min(1, m_{t-1} + 0.1 g_t).

    Args:
        first: (rows, T, K), of which only step 1 is read: mastery after the first answer.
        gains: (rows, T, K), >= 0.
    """
    later = torch.cat([torch.zeros_like(gains[:, :1]), gains[:, 1:]], dim=1)
    return mastery_of(first[:, :1], later.cumsum(dim=1))


def mastery_of(first: Tensor, gained: Tensor) -> Tensor:
    """Mastery from that after the first answer and the sum of all gains since."""
    return (first + GAIN_RATE * gained).clamp(max=1.0)


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
        parts = self.parts(context, value)
        return self.renew(context, value, causal_attention(batch, *parts, self.n_heads))

    def parts(self, context: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (N, d), heads side by side."""
        return self.query(context), self.key(context), self.value(value)

    def renew(self, context: Tensor, value: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """Return the renewed (context, value) from what was attended to, each (N, d)."""
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
    predictor. With `question_ids`, which the specification does not have, an embedding of the
    question is added to tokens and to the skill asked, and an easiness to the logit.
    """

    reads_packed_rows = True

    def __init__(
        self,
        n_skills: int,
        parameters: GainAKT2ExpParameters,
        *,
        use_mastery_head: bool,
        use_gain_head: bool,
        n_questions: int = 0,
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
        self.questions = Questions.of(p, n_questions)

    def forward(self, batch: Batch) -> ModelOutput:
        """Return logits (N,), mastery (N, K) and gains (N, K) of a batch."""
        question, following = batch.question, batch.next_question
        if self.questions is not None:
            question, following = map(self.questions.drop, (question, following))
        context, value = self.tokens(batch.skill, batch.response, batch.position, question)
        for block in self.blocks:
            context, value = block(batch, context, value)
        logits = self.logits_of(context, value, batch.next_skill, following)
        gains, mastery = self.gains(value), None
        first = self.first_mastery(context)
        if first is not None and gains is not None:
            mastery = self._mastery(batch, first, gains)
        return ModelOutput(logits, mastery, gains)

    def tokens(
        self, skill: Tensor, response: Tensor, position: Tensor, question: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return where both streams begin, (N, d) each, for answers (N,) at positions (N,)."""
        token = skill + self.n_skills * response
        place = self.embed_position(position)
        if self.questions is not None and question is not None:
            place = place + self.questions.embedding(question)
        return self.embed_context(token) + place, self.embed_value(token) + place

    def logits_of(
        self, context: Tensor, value: Tensor, asked: Tensor, question: Tensor | None = None
    ) -> Tensor:
        """Return the logits (N,) of skills and questions (N,) from both streams, (N, d) each."""
        wanted = self.embed_skill(asked)
        if self.questions is None or question is None:
            return wide(self.predict(torch.cat([context, value, wanted], dim=-1)).squeeze(-1))
        wanted = wanted + self.questions.embedding(question)
        logits = self.predict(torch.cat([context, value, wanted], dim=-1)).squeeze(-1)
        return wide(logits + self.questions.easiness(question))

    # sums and losses stay in float32, whatever the dense layers compute in

    def gains(self, value: Tensor) -> Tensor | None:
        """Return the gains (N, K) of answers from their value stream (N, d)."""
        return None if self.gain_head is None else wide(self.gain_head(value)).relu()

    def first_mastery(self, context: Tensor) -> Tensor | None:
        """Return the mastery (N, K) if answers with context (N, d) are a student's first."""
        return None if self.mastery_head is None else wide(self.mastery_head(context)).sigmoid()

    def easiness(self, question: Tensor) -> Tensor | None:
        """Return what questions (N,) add to the log-odds beyond their skills, (N,)."""
        return None if self.questions is None else self.questions.easiness(question)

    def begin(self) -> GainAKT2ExpState:
        """Return the state of a student without answers, which computes nothing twice."""
        return GainAKT2ExpState(self)

    def _mastery(self, batch: Batch, first: Tensor, gains: Tensor) -> Tensor:
        if batch.visible is None and not gains.is_cuda:
            return batch.by_rectangle(accumulate_mastery, first, gains)
        begins = (batch.position == 0)[:, None]
        return batch.by_rectangle(add_up_mastery, first, gains, begins, *batch.masks())


class GainAKT2ExpState:
    """A student's state: keys and values of every block, both streams, and the sum of gains."""

    def __init__(self, model: GainAKT2Exp) -> None:
        self.model = model
        self.count = 0
        like = model.embed_position.weight
        width = like.shape[1]
        self.caches = [(Buffer(like, width), Buffer(like, width)) for _ in model.blocks]
        self.context = self.value = like.new_empty(1, width)
        self.first: Tensor | None = None
        self.gained: Tensor | None = None

    def __copy__(self) -> GainAKT2ExpState:
        copied = GainAKT2ExpState(self.model)
        copied.__dict__ |= self.__dict__
        copied.caches = [(keys.copy(), values.copy()) for keys, values in self.caches]
        return copied

    def extend(self, rows: Rows) -> None:
        """Take in answers."""
        if self.count == 0 and len(rows) > 1:
            self._read(rows)
            return
        for number in range(len(rows)):
            self._observe(rows.take(slice(number, number + 1)))

    def _read(self, rows: Rows) -> None:
        """Take in the first answers all at once."""
        batch = student_batch(rows, self.context.device)
        self.count = len(rows)
        context, value = self.model.tokens(
            batch.skill, batch.response, batch.position, batch.question
        )
        for block, (kept_keys, kept_values) in zip(self._blocks(), self.caches, strict=True):
            parts = block.parts(context, value)
            kept_keys.append(parts[1])
            kept_values.append(parts[2])
            context, value = block.renew(
                context, value, causal_attention(batch, *parts, block.n_heads)
            )
        self.context, self.value = context[-1:], value[-1:]
        self.first = self.model.first_mastery(context[:1])
        gains = self.model.gains(value[1:])
        self.gained = None if gains is None else gains.sum(dim=0, keepdim=True)

    def _observe(self, answer: Rows) -> None:
        """Take in one more answer."""
        n = self.count
        skill, response, question = codes(
            answer, self.context.device, "skill", "response", "question"
        )
        context, value = self.model.tokens(skill, response, torch.full_like(skill, n), question)
        for block, (kept_keys, kept_values) in zip(self._blocks(), self.caches, strict=True):
            query, key, worth = block.parts(context, value)
            kept_keys.append(key)
            kept_values.append(worth)
            parts = (
                x[None].unflatten(-1, (block.n_heads, -1))
                for x in (query, kept_keys.rows, kept_values.rows)
            )
            attended = attend(*parts, causal=False)[0].flatten(-2)
            context, value = block.renew(context, value, attended)
        self.context, self.value, self.count = context, value, n + 1
        gains = self.model.gains(value)
        if n == 0:
            self.first = self.model.first_mastery(context)
            self.gained = None if gains is None else torch.zeros_like(gains)
        elif self.gained is not None and gains is not None:
            self.gained = self.gained + gains

    def logits(self, asked: Rows) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `asked` were asked next."""
        which = codes(asked, self.context.device, "skill", "question")
        context, value = (x.expand(len(asked), -1) for x in (self.context, self.value))
        return self.model.logits_of(context, value, *which)

    def mastery(self, time: int = 0) -> Tensor | None:
        """Return the mastery (K,) of every skill, None where a head is off."""
        if self.first is None or self.gained is None:
            return None
        return mastery_of(self.first, self.gained)[0]

    def _blocks(self) -> list[TwoStreamBlock]:
        return list(self.model.blocks)  # type: ignore[arg-type]


def build(config: Config, vocabulary: Vocabulary) -> GainAKT2Exp:
    """Build the model from a configuration; see `gainakt.models.build_model`."""
    assert isinstance(config.model, GainAKT2ExpParameters)
    return GainAKT2Exp(
        vocabulary.n_skills,
        config.model,
        use_mastery_head=config.interpretability.use_mastery_head,
        use_gain_head=config.interpretability.use_gain_head,
        n_questions=vocabulary.n_questions,
    )
