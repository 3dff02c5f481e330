"""GainSum: every prediction is a prior plus one signed gain for each past answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainakt.config import Config, GainSumParameters
from gainakt.data.batches import Batch
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.gainsum.asked import Asked, Likeness, likeness
from gainakt.models.gainsum.block import QuestionBlock
from gainakt.models.gainsum.evidence import (
    Evidence,
    Preference,
    attention_weights,
    preference,
    sum_evidence,
)
from gainakt.models.gainsum.history import history_features, n_features, time_since
from gainakt.models.gainsum.retention import Retention
from gainakt.models.gainsum.state import GainSumState
from gainakt.models.interface import Explanation, KnowledgeTracer, ModelOutput, wide
from gainakt.models.questions import Questions

# Widest hidden layer of the features' network: they are few and coarse.
FEATURE_WIDTH = 64
# Skills that start out far apart are learned in half the epochs, and better, than from 0.02.
EMBEDDING_SPREAD = 1.0
# What the setting skills_only fixes besides: no prediction falls with a right answer, and what an
# answer says beside its skill is in its contribution alone.
RISING = {"falls_next", "falls_later", "flip_elsewhere", "fidelity_sign"}


class Query(NamedTuple):
    """What a question looks for: query (N, H, d_h), scale (N, H), prior (N,)."""

    query: Tensor
    scale: Tensor
    prior: Tensor

    def total(self, sums: Tensor) -> Tensor:
        """Return the logits (N,) from the sums of evidence (N, H)."""
        return self.prior + (self.scale * sums).sum(dim=-1)


class GainSum(KnowledgeTracer):
    """Attention that sums signed gains on the logit, with nothing else in the prediction.

    logit(t, k) = prior(t, k) + sum over i < t of c(t, i),
    c(t, i) = sum_h scale_h(t, k) alpha_h(t, i) sign(r_i) size_h(i, r_i),

    with alpha from `attention_weights`, sign +1 for a right and -1 for a wrong answer, and scale
    and size positive: a right answer never counts against the student, a wrong one never for.
    A question token is its skill's embedding plus a network of the skill's history features; one
    block turns the tokens into states, which give query, scale and prior; the state of interaction
    i, before its answer, gives key and sizes.

    Where the data name questions and `question_ids` is on, an embedding of the question is added to
    its skill's and an easiness to the prior; those of an unknown question are zero. A question with
    several skills is one step with `pooled_skills`: embeddings, offsets and features are the means
    of its skills', and same_h counts for the share of skills in common, |K_i and K_q| / |K_i or
    K_q|.

    With `forgetting`, scale is what time leaves of it besides, see
    `gainakt.models.gainsum.retention.Retention`.

    `weights` = "in_context": states see past answers through the history features, keys and sizes
    also through the interaction's own answer. "skills_only": all but the sign and the choice
    between the two sizes depends on skills and positions alone, so the logit is non-decreasing in
    every past answer.
    """

    reads_packed_rows = True

    def __init__(self, n_skills: int, parameters: GainSumParameters, n_questions: int = 0) -> None:
        super().__init__()
        p = parameters
        self.n_skills = n_skills
        self.n_heads = p.n_heads
        self.reads_answers = p.weights == "in_context"
        self.pools_skills = p.pooled_skills
        fixed = {"mastery_gap", "decomposition_error", "right_signs"}
        self.by_construction = frozenset(fixed if self.reads_answers else fixed | RISING)
        self.embed_skill = nn.Embedding(n_skills, p.d_model)
        self.embed_answer = nn.Embedding(2 * n_skills, p.d_model) if self.reads_answers else None
        self.features = nn.Sequential(
            nn.Linear(n_features(self.reads_answers), FEATURE_WIDTH),
            nn.ReLU(),
            nn.Linear(FEATURE_WIDTH, p.d_model),
        )
        self.block = QuestionBlock(p.d_model, p.n_block_heads, p.d_ff, p.dropout)
        self.norm_question = nn.LayerNorm(p.d_model)
        self.query = nn.Linear(p.d_model, p.d_model)
        self.weigh = nn.Sequential(
            nn.Linear(p.d_model, p.d_model), nn.ReLU(), nn.Linear(p.d_model, p.n_heads + 1)
        )
        self.norm_interaction = nn.LayerNorm(p.d_model)
        self.key_and_sizes = nn.Linear(p.d_model, p.d_model + 2 * p.n_heads)
        # heads start from a memory of hundreds of steps down to a few
        self.decay = nn.Parameter(torch.linspace(-6.0, -1.0, p.n_heads))
        self.same = nn.Parameter(torch.linspace(0.0, 2.0, p.n_heads))
        self.offset = nn.Embedding(n_skills, 1)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=EMBEDDING_SPREAD)
        nn.init.zeros_(self.offset.weight)
        # an unknown question is its skill: nothing is added, to the last bit
        self.questions = Questions.of(p, n_questions)
        self.reads_times = p.reads_times
        self.retention = Retention(n_skills) if self.reads_times else None

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the logits (N,) of a batch; mastery and contributions are given on request."""
        asked = self._asked_next(batch)
        tokens = self._tokens(batch, asked)
        states = self.block(batch, tokens)
        evidence = self._evidence(batch, tokens, states)
        return ModelOutput(self._logits(batch, evidence, states, asked))

    def mastery_asked(self, batch: Batch, output: ModelOutput) -> Tensor:
        """Return the probability (N,) of a right answer: here mastery is what is predicted."""
        # with all digits, as the probabilities of a Readout
        return output.logits.double().sigmoid()

    def mastery(self, batch: Batch, skills: Tensor | None = None) -> Tensor:
        """Return sigmoid(logit(t, k)) after every step, as if k were asked next.

        Args:
            batch: N steps.
            skills: (M,) int64, the skills wanted; all K by default.

        Returns:
            (N, M) in [0, 1].
        """
        evidence = self._evidence_of(batch)
        wanted = range(self.n_skills) if skills is None else skills.tolist()
        return torch.stack(
            [
                self._logits(batch, evidence, states, asked).sigmoid()
                for states, asked in self._asked(batch, evidence, wanted)
            ],
            dim=-1,
        )

    def asked_instead(self, batch: Batch, skills: Tensor) -> Tensor:
        """Return the logits (N,) if `skills` (N,) were asked next, each after the same past."""
        evidence = self._evidence_of(batch)
        asked = Asked(skills, question=self._known(batch.next_question))
        asked = self._timed(batch, asked)
        states = self.block.instead(batch, evidence.tokens, self._tokens(batch, asked))
        return self._logits(batch, evidence, states, asked)

    def explain(self, batch: Batch, skill: int | None = None) -> Explanation:
        """Return the predictions of a batch taken apart.

        Args:
            batch: N steps.
            skill: explain this skill's logit after every step; by default the skill asked next.
        """
        evidence = self._evidence_of(batch)
        if skill is None:
            states, asked = self.block(batch, evidence.tokens), self._asked_next(batch)
        else:
            states, asked = next(self._asked(batch, evidence, [skill]))
        question = self._question(states, asked)
        prefer = self._prefer(batch.longest)
        answered, wanted, alike = likeness(Asked.at(batch), asked)
        contributions: list[Tensor] = []

        def collect(*views: Tensor) -> Tensor:
            query, keys, past, asked, scale, gains = views
            is_same = alike(past, asked).to(query.dtype)
            alpha = attention_weights(query, keys, is_same, prefer)
            shares = alpha * scale.transpose(1, 2)[..., None] * gains.transpose(1, 2)[:, :, None]
            contributions.append(shares.sum(dim=1))
            return contributions[-1].sum(dim=-1)

        with _exact(states):
            total = batch.by_rectangle(
                collect,
                question.query,
                evidence.keys,
                answered,
                wanted,
                question.scale,
                evidence.gains,
            )
        return Explanation(question.prior + total, question.prior, tuple(contributions))

    def _known(self, question: Tensor | None) -> Tensor | None:
        """The questions that the model is to tell apart (N,), in training some left out."""
        return None if self.questions is None else self.questions.drop(question)

    def _asked_next(self, batch: Batch) -> Asked:
        return self._timed(batch, Asked.next_of(batch, self._known(batch.next_question)))

    def _timed(self, batch: Batch, asked: Asked) -> Asked:
        """What is asked after each step, with the time since its skills were last answered."""
        if self.retention is None or batch.time is None:
            return asked
        return asked._replace(since=time_since(batch, asked, self.n_skills))

    def _tokens(self, batch: Batch, asked: Asked) -> Tensor:
        features = history_features(
            batch, asked, self.n_skills, answers=self.reads_answers, dtype=self.decay.dtype
        )
        return self.question_tokens(asked, features)

    def question_tokens(self, asked: Asked, features: Tensor) -> Tensor:
        """Return the tokens (N, d) of questions, from what is asked and the history (N, F)."""
        tokens: Tensor = self.embed_asked(asked) + self.features(features)
        return tokens

    def embed_asked(self, asked: Asked) -> Tensor:
        """Return what is asked (N, d): the skills, and what the question adds to them."""
        skill = asked.mean(self.embed_skill)
        if self.questions is None or asked.question is None:
            return skill
        return skill + self.questions.embedding(asked.question)

    def _asked(
        self, batch: Batch, evidence: Evidence, skills: list[int] | range
    ) -> Iterator[tuple[Tensor, Asked]]:
        """Yield the states (N, d) and what is asked if it were each of `skills` instead."""
        for skill in skills:
            asked = self._timed(batch, Asked(torch.full_like(batch.next_skill, skill)))
            yield self.block.instead(batch, evidence.tokens, self._tokens(batch, asked)), asked

    def _evidence_of(self, batch: Batch) -> Evidence:
        return self.read_past(batch)[1]

    def read_past(self, batch: Batch) -> tuple[tuple[Tensor, Tensor, Tensor], Evidence]:
        """Return the block's parts, (N, H, d_h) each, of the questions of a batch; the evidence."""
        tokens = self._tokens(batch, self._asked_next(batch))
        parts = self.block.parts(tokens, batch.position)
        return parts, self._evidence(batch, tokens, self.block.states(batch, tokens, *parts))

    def _evidence(self, batch: Batch, tokens: Tensor, states: Tensor) -> Evidence:
        # the state of interaction i is that of the question asked after step i - 1
        before = torch.cat([states.new_zeros(1, states.shape[-1]), states[:-1]])
        answered = Asked.at(batch, self._known(batch.question))
        first = self.embed_asked(answered)
        interaction = torch.where((batch.position == 0)[:, None], first, before)
        return Evidence(tokens, *self.weigh_answers(interaction, answered, batch.response))

    def weigh_answers(
        self, interaction: Tensor, answered: Asked, response: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return keys (N, H, d_h) and signed gains (N, H) of answers.

        Args:
            interaction: (N, d), the state of each question, of a first one its skill's embedding.
            answered: the questions.
            response: (N,).
        """
        if self.embed_answer is not None:
            interaction = interaction + answered.mean(self.embed_answer, self.n_skills * response)
        joint = wide(self.key_and_sizes(self.norm_interaction(interaction)))
        keys, if_right, if_wrong = joint.split(
            [joint.shape[-1] - 2 * self.n_heads, self.n_heads, self.n_heads], dim=-1
        )
        sizes = F.softplus(torch.where(response[:, None] == 1, if_right, if_wrong))
        gains = sizes * (2 * response[:, None] - 1)
        return keys.unflatten(-1, (self.n_heads, -1)), gains

    def _question(self, states: Tensor, asked: Asked) -> Query:
        states = self.norm_question(states)
        scale, prior = wide(self.weigh(states)).split([self.n_heads, 1], dim=-1)
        prior = (prior + asked.mean(self.offset)).squeeze(-1)
        if self.questions is not None and asked.question is not None:
            prior = prior + self.questions.easiness(asked.question)
        query = wide(self.query(states)).unflatten(-1, (self.n_heads, -1))
        scale = F.softplus(scale)
        if self.retention is not None and asked.since is not None:
            scale = scale * self.retention(asked, asked.since)[:, None]
        return Query(query, scale, prior)

    def _logits(self, batch: Batch, evidence: Evidence, states: Tensor, asked: Asked) -> Tensor:
        question = self._question(states, asked)
        prefer = self._prefer(batch.longest, causal=batch.visible is None)
        answered, wanted, alike = likeness(Asked.at(batch), asked)
        add_up = partial(_sum, prefer, alike)
        parts = (question.query, evidence.keys, evidence.gains, answered, wanted)
        with _exact(states):
            sums = batch.by_rectangle(add_up, *parts, *batch.masks())
        return question.total(sums)

    def logits_after(
        self,
        states: Tensor,
        asked: Asked,
        keys: Tensor,
        gains: Tensor,
        answered: Asked,
    ) -> Tensor:
        """Return the logits (M,) of questions that are all asked after the same T answers.

        Args:
            states, asked: (M, d) and what is asked.
            keys, gains, answered: (T, H, d_h), (T, H) and what was asked.
        """
        question = self._question(states, asked)
        prefer = self._prefer(len(keys), causal=False)
        past, wanted, alike = likeness(answered, asked)
        parts = (question.query, keys, gains, past, wanted)
        return question.total(_sum(prefer, alike, *(part[None] for part in parts))[0])

    def _prefer(self, length: int, *, causal: bool = True) -> Preference:
        return preference(self.same, F.softplus(self.decay), length, causal=causal)

    def easiness(self, question: Tensor) -> Tensor | None:
        """Return what questions (N,) add to the log-odds beyond their skills, (N,)."""
        return None if self.questions is None else self.questions.easiness(question)

    def begin(self) -> GainSumState:
        """Return the state of a student without answers, which computes nothing twice."""
        return GainSumState(self)


def _exact(states: Tensor) -> torch.autocast:
    """A context of float32, whatever the dense layers compute in: the sum must be exact."""
    return torch.autocast(states.device.type, enabled=False)


def _sum(
    prefer: Preference,
    alike: Likeness,
    query: Tensor,
    keys: Tensor,
    gains: Tensor,
    answered: Tensor,
    asked: Tensor,
    *masks: Tensor,
) -> Tensor:
    is_same = alike(answered, asked).to(query.dtype)
    return sum_evidence(query, keys, gains, is_same, prefer, *masks)


def build(config: Config, vocabulary: Vocabulary) -> GainSum:
    """Build the model from a configuration; see `gainakt.models.build_model`."""
    assert isinstance(config.model, GainSumParameters)
    return GainSum(vocabulary.n_skills, config.model, vocabulary.n_questions)
