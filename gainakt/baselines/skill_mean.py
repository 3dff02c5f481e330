"""How easy a skill is, whoever answers: the floor that reads no history."""

from __future__ import annotations

from gainakt.arrays import FloatArray, IntArray
from gainakt.baselines.success_rate import SuccessRate
from gainakt.config import Config
from gainakt.data.vocabulary import Vocabulary


class SkillMean(SuccessRate):
    """p = r_k, the training students' rate at the skill asked; no answer of the student counts."""

    reads_history = False

    def after(self, skills: IntArray, responses: IntArray, students: IntArray) -> FloatArray:
        """Return the skill's rate, which no answer changes."""
        return self.start()[skills]


def build(config: Config, vocabulary: Vocabulary) -> SkillMean:
    """Build the learner; see `gainakt.models.build_model`."""
    return SkillMean(vocabulary.n_skills)
