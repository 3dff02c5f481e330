"""The registered models: the parameters of each."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from gainakt.config.groups import Group

Width = Annotated[int, Field(ge=1, le=1 << 16)]
Count = Annotated[int, Field(ge=1, le=1 << 10)]
# A share of exactly 1 less the smallest step would divide by nothing.
Dropped = Annotated[float, Field(ge=0, le=0.99)]


class ModelParameters(Group):
    """Base of every model's own parameters."""

    outputs: ClassVar[frozenset[str]] = frozenset()
    """What the model returns in training besides logits: of mastery, gains."""

    seq_len: Annotated[int, Field(ge=3, le=1 << 20)] = 200
    """Longest sequence the model reads; longer histories are cut."""

    def teacher(self) -> Self:
        """Return the parameters of those that the model learns from (see `teachers`)."""
        return self

    @property
    def reads_questions(self) -> bool:
        """Whether the model tells questions on the same skill apart."""
        return bool(getattr(self, "question_ids", False))

    @property
    def reads_times(self) -> bool:
        """Whether time that passes changes what the model says."""
        return getattr(self, "forgetting", "off") == "on"

    @property
    def pools_skills(self) -> bool:
        """Whether a question with several skills is one step to the model."""
        return False


class GainAKT2ExpParameters(ModelParameters):
    """Two-stream attention with a mastery and a gain head."""

    outputs: ClassVar[frozenset[str]] = frozenset({"mastery", "gains"})

    d_model: Width = 512
    """Width of both streams."""
    n_heads: Count = 8
    """Attention heads; must divide d_model."""
    num_encoder_blocks: Count = 6
    """Encoder blocks."""
    d_ff: Width = 1024
    """Width of the feed-forward layers and of the prediction layer."""
    dropout: Dropped = 0.2
    """Share of units dropped in training."""
    emb_type: Literal["qid"] = "qid"
    """What is embedded: the skill's id."""
    question_ids: bool = False
    """Tell questions on the same skill apart, where the data name them."""
    question_dropout: Dropped = 0.1
    """Share of answers in training whose question is taken for an unknown one."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.d_model % self.n_heads:
            raise ValueError(f"n_heads = {self.n_heads} must divide d_model = {self.d_model}")
        return self


class GainSumParameters(ModelParameters):
    """Predictions that are exact sums of signed gains."""

    d_model: Width = 128
    """Width of the question stream."""
    n_heads: Count = 8
    """Attention heads; must divide d_model."""
    n_block_heads: Count = 4
    """Heads of the block that reads the questions; must divide d_model, widths even."""
    d_ff: Width = 256
    """Width of the block's feed-forward layer."""
    dropout: Dropped = 0.2
    """Share of units dropped in training."""
    weights: Literal["in_context", "skills_only"] = "in_context"
    """What the weight of an answer depends on: all of the past, or skills and positions alone."""
    question_ids: bool = False
    """Tell questions on the same skill apart, where the data name them."""
    question_dropout: Dropped = 0.1
    """Share of answers in training whose question is taken for an unknown one."""
    pooled_skills: bool = False
    """Read a question with several skills as one step, not as one for each of them."""
    forgetting: Literal["off", "on", "auto"] = "off"
    """Let evidence on a skill fade while it is not practised; auto: where the data have times."""
    teacher_dropout: Dropped = 0.2
    """Share of units dropped in training the teachers; answers alone need more than they do."""

    def teacher(self) -> Self:
        """Return parameters that read answers in context: a teacher need not explain itself."""
        chosen = {"weights": "in_context", "dropout": self.teacher_dropout}
        return self.model_copy(update=chosen)

    @property
    def pools_skills(self) -> bool:
        """Whether a question with several skills is one step to the model."""
        return self.pooled_skills

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        for name, heads, unit in (
            ("n_heads", self.n_heads, 1),
            ("n_block_heads", self.n_block_heads, 2),
        ):
            if self.d_model % (heads * unit):
                raise ValueError(
                    f"{name} = {heads} must divide d_model = {self.d_model} into parts"
                    + (" of even width" if unit == 2 else "")
                )
        return self


class DKTParameters(ModelParameters):
    """Deep knowledge tracing: a recurrent network, the field's first black box."""

    d_model: Width = 200
    """Width of the embeddings and of the recurrent state."""
    dropout: Dropped = 0.2
    """Share of units dropped in training."""
    question_ids: bool = False
    """Tell questions on the same skill apart, where the data name them."""
    question_dropout: Dropped = 0.1
    """Share of answers in training whose question is taken for an unknown one."""


class ModelSpec(NamedTuple):
    """A registered model: its parameters, and the module that defines `build`.

    The module is named as text: the command line knows every parameter without loading torch.
    """

    parameters: type[ModelParameters]
    module: str


class BKTParameters(ModelParameters):
    """Bayesian knowledge tracing: a hidden state for each skill, fitted at once."""

    seq_len: Annotated[int, Field(ge=3, le=1 << 20)] = 10_000
    """Longest history that is read; longer ones are cut."""
    iterations: Annotated[int, Field(ge=1, le=10_000)] = 40
    """Rounds of expectation maximisation, at most."""


class ItemParameters(ModelParameters):
    """Base of learners without gradients that know items: questions, or else skills."""

    seq_len: Annotated[int, Field(ge=3, le=1 << 20)] = 10_000
    """Longest history that is read; longer ones are cut."""
    question_ids: bool = True
    """Tell questions on the same skill apart, where the data name them."""

    @property
    def pools_skills(self) -> bool:
        """Whether a question with several skills is one step to the model."""
        return True


class LogisticParameters(ItemParameters):
    """Logistic regression on counts of the past and the easiness of skills and questions."""


class IRTParameters(ItemParameters):
    """Item response theory: a student's ability and an item's easiness."""


class PFAParameters(ModelParameters):
    """Performance factors analysis: counts of right and wrong answers, weighed by skill."""

    seq_len: Annotated[int, Field(ge=3, le=1 << 20)] = 10_000
    """Longest history that is read; longer ones are cut."""

    @property
    def pools_skills(self) -> bool:
        """Whether a question with several skills is one step to the model."""
        return True


class RateParameters(ModelParameters):
    """Shares of right answers, counted."""

    seq_len: Annotated[int, Field(ge=3, le=1 << 20)] = 10_000
    """Longest history that is read; longer ones are cut."""


MODELS: dict[str, ModelSpec] = {
    "gainakt2exp": ModelSpec(GainAKT2ExpParameters, "gainakt.models.gainakt2exp"),
    "dkt": ModelSpec(DKTParameters, "gainakt.models.dkt"),
    "gainsum": ModelSpec(GainSumParameters, "gainakt.models.gainsum.model"),
    "bkt": ModelSpec(BKTParameters, "gainakt.baselines.bkt"),
    "logistic": ModelSpec(LogisticParameters, "gainakt.baselines.logistic"),
    "irt": ModelSpec(IRTParameters, "gainakt.baselines.irt"),
    "pfa": ModelSpec(PFAParameters, "gainakt.baselines.pfa"),
    "success_rate": ModelSpec(RateParameters, "gainakt.baselines.success_rate"),
    "skill_mean": ModelSpec(RateParameters, "gainakt.baselines.skill_mean"),
}
