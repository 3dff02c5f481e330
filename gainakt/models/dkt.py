"""DKT: deep knowledge tracing, the field's first black box and a baseline."""

from __future__ import annotations

from torch import Tensor, nn

from gainakt.config import Config, DKTParameters
from gainakt.data.batches import Batch
from gainakt.data.rows import Rows
from gainakt.data.vocabulary import Vocabulary
from gainakt.models.attention import Dropout
from gainakt.models.interface import KnowledgeTracer, ModelOutput, codes, wide
from gainakt.models.questions import Questions


class DKT(KnowledgeTracer):
    """A recurrent network over (skill, answer) tokens with one output a skill.

    h_t = LSTM(embed(q_t + K r_t), h_{t-1}); the logit of the next answer is row q_{t+1} of
    W drop(h_t) + b. Source: Piech et al. 2015, Deep Knowledge Tracing. With `question_ids` an
    embedding of the question is added to the token and to the row of W, and an easiness to b.
    """

    def __init__(self, n_skills: int, parameters: DKTParameters, n_questions: int = 0) -> None:
        super().__init__()
        p = parameters
        self.n_skills = n_skills
        self.embed = nn.Embedding(2 * n_skills, p.d_model)
        self.recurrent = nn.LSTM(p.d_model, p.d_model, batch_first=True)
        self.dropout = Dropout(p.dropout)
        self.output = nn.Linear(p.d_model, n_skills)
        self.questions = Questions.of(p, n_questions)

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the logits (N,) of a batch."""
        question, following = batch.question, batch.next_question
        if self.questions is not None:
            question, following = map(self.questions.drop, (question, following))
        tokens = self.tokens(batch.skill, batch.response, question)
        states = batch.by_rectangle(lambda tokens: self.recurrent(tokens)[0], tokens)
        return ModelOutput(self.logits_of(self.dropout(states), batch.next_skill, following))

    def tokens(self, skill: Tensor, response: Tensor, question: Tensor | None = None) -> Tensor:
        """Return the tokens (N, d) of answers."""
        tokens: Tensor = self.embed(skill + self.n_skills * response)
        if self.questions is None or question is None:
            return tokens
        return tokens + self.questions.embedding(question)

    def logits_of(self, states: Tensor, asked: Tensor, question: Tensor | None = None) -> Tensor:
        """Return the logits (N,) of skills and questions (N,) from states (N, d)."""
        # only the row of the skill asked next is needed, not all K
        row, bias = self.output.weight[asked], self.output.bias[asked]
        if self.questions is not None and question is not None:
            row = row + self.questions.embedding(question)
            bias = bias + self.questions.easiness(question)
        return wide((states * row).sum(dim=-1) + bias)

    def easiness(self, question: Tensor) -> Tensor | None:
        """Return what questions (N,) add to the log-odds beyond their skills, (N,)."""
        return None if self.questions is None else self.questions.easiness(question)

    def begin(self) -> DKTState:
        """Return the state of a student without answers: that of the network."""
        return DKTState(self)


class DKTState:
    """A student's state is the network's: hidden and cell, (1, d) each."""

    def __init__(self, model: DKT, state: tuple[Tensor, Tensor] | None = None) -> None:
        self.model = model
        self.state = state

    def __copy__(self) -> DKTState:
        return DKTState(self.model, self.state)

    def extend(self, rows: Rows) -> None:
        """Take in answers."""
        device = self.model.output.weight.device
        tokens = self.model.tokens(*codes(rows, device, "skill", "response", "question"))
        self.state = self.model.recurrent(tokens, self.state)[1]

    def logits(self, asked: Rows) -> Tensor:
        """Return the log-odds (M,) of a right answer if each of `asked` were asked next."""
        assert self.state is not None
        hidden = self.state[0]
        which = codes(asked, hidden.device, "skill", "question")
        return self.model.logits_of(hidden.expand(len(asked), -1), *which)

    def mastery(self, time: int = 0) -> None:
        """Return None: this model has no mastery."""


def build(config: Config, vocabulary: Vocabulary) -> DKT:
    """Build the model from a configuration; see `gainakt.models.build_model`."""
    assert isinstance(config.model, DKTParameters)
    return DKT(vocabulary.n_skills, config.model, vocabulary.n_questions)
