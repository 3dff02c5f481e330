"""One student, one answer at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gainakt.config import Config
from gainakt.errors import DataError, GainaktError
from gainakt.experiment.explain import known_id
from gainakt.models import KnowledgeTracer
from gainakt.models.rolling import RollingState


class KnownSkills:
    """The skills of a model in code order, found by id."""

    def __init__(self, ids: tuple[str, ...]) -> None:
        self.ids = ids
        self._codes = {skill: code for code, skill in enumerate(ids)}

    def __contains__(self, skill: object) -> bool:
        return skill in self._codes

    def code(self, skill: object) -> int:
        """Return the code of a skill, spelt as text or as a number.

        Raises:
            DataError: the model does not know it.
        """
        name = str(skill)
        if name in self._codes:
            return self._codes[name]
        return known_id("skill", name, self.ids, "the model", "tracer.skills")


class Session:
    """One student, one answer at a time: what the model knows is kept, not computed again.

    It says at every step what `Tracer.predict` and `Tracer.mastery` say of a table with the same
    answers, up to rounding. An answer costs the same however long the history is.
    """

    def __init__(self, model: KnowledgeTracer, config: Config, skills: KnownSkills) -> None:
        self.skills = skills
        self.model_name = config.experiment.model
        self.state = RollingState(model, config.model.seq_len, config.evaluation.window_stride)

    def __len__(self) -> int:
        return self.state.count

    @torch.inference_mode()
    def observe(self, skill: object, correct: object) -> None:
        """Take in the student's next answer: 1 or True for right, 0 or False for wrong.

        A question with several skills is observed as one answer for each of them.

        Raises:
            DataError: the skill is unknown to the model, or the answer is neither 0 nor 1.
        """
        code = self.skills.code(skill)
        if not isinstance(correct, int | float | np.number | np.bool_) or correct not in (0, 1):
            raise DataError(f"the answer is {correct!r}; only 0 and 1 are allowed")
        self.state.observe(code, int(correct == 1))

    def predict(self, skill: object) -> float:
        """Return the probability of a right answer if `skill` were asked next.

        Raises:
            DataError: the skill is unknown to the model, or there is no answer yet.
        """
        return float(self._probabilities([self.skills.code(skill)])[0])

    def predict_many(self, skills: Sequence[object] | None = None) -> dict[str, float]:
        """Return skill -> probability of a right answer if it were asked next; all by default.

        Raises:
            DataError: a skill is unknown to the model, or there is no answer yet.
        """
        names = self.skills.ids if skills is None else [str(skill) for skill in skills]
        codes = [self.skills.code(name) for name in names]
        found = self._probabilities(codes).tolist() if codes else []
        return dict(zip(names, found, strict=True))

    def mastery(self) -> dict[str, float]:
        """Return skill -> mastery now, for every skill.

        Raises:
            DataError: there is no answer yet.
            GainaktError: the model has no mastery.
        """
        return dict(zip(self.skills.ids, self.mastery_vector().tolist(), strict=True))

    @torch.inference_mode()
    def mastery_vector(self) -> Tensor:
        """Return the mastery (K,) now, in the order of `Tracer.skills`; see `mastery`."""
        self._need_an_answer()
        mastery = self.state.mastery()
        if mastery is None:
            raise GainaktError(
                f"the model {self.model_name} has no mastery; predict gives "
                "the probability of a right answer"
            )
        return mastery

    @torch.inference_mode()
    def _probabilities(self, codes: list[int]) -> Tensor:
        self._need_an_answer()
        return self.state.logits(codes).double().sigmoid()

    def _need_an_answer(self) -> None:
        if not len(self):
            raise DataError(
                "there is no answer yet; a prediction is made from the answers before it"
            )
