"""DKT: deep knowledge tracing, the field's first black box and a baseline."""

from __future__ import annotations

from torch import Tensor, nn

from gainakt.config import Config, DKTParameters
from gainakt.data.batches import Batch
from gainakt.models.attention import Dropout
from gainakt.models.interface import KnowledgeTracer, ModelOutput


class DKT(KnowledgeTracer):
    """A recurrent network over (skill, answer) tokens with one output a skill.

    h_t = LSTM(embed(q_t + K r_t), h_{t-1}); the logit of the next answer is row q_{t+1} of
    W drop(h_t) + b. Source: Piech et al. 2015, Deep Knowledge Tracing.
    """

    def __init__(self, n_skills: int, parameters: DKTParameters) -> None:
        super().__init__()
        p = parameters
        self.n_skills = n_skills
        self.embed = nn.Embedding(2 * n_skills, p.d_model)
        self.recurrent = nn.LSTM(p.d_model, p.d_model, batch_first=True)
        self.dropout = Dropout(p.dropout)
        self.output = nn.Linear(p.d_model, n_skills)

    def forward(self, batch: Batch) -> ModelOutput:
        """Return the logits (N,) of a batch."""
        tokens = self.embed(batch.skill + self.n_skills * batch.response)
        states = self.dropout(batch.by_rectangle(self._read, tokens))
        # only the row of the skill asked next is needed, not all K
        asked = batch.next_skill
        logits = (states * self.output.weight[asked]).sum(dim=-1) + self.output.bias[asked]
        return ModelOutput(logits.float())

    def _read(self, tokens: Tensor) -> Tensor:
        states: Tensor = self.recurrent(tokens)[0]
        return states


def build(config: Config, n_skills: int) -> DKT:
    """Build the model from a configuration; see the registry in `gainakt.models`."""
    assert isinstance(config.model, DKTParameters)
    return DKT(n_skills, config.model)
