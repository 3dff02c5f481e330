"""What time leaves of the evidence on a skill."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainakt.models.gainsum.asked import Asked

HOUR = 3_600_000
# Where learning begins: a day takes a tenth of the evidence, half a year a third.
HOURS = 4.0
RATE = -2.9
# An optimiser moves every weight alike; what takes effect on a scale of its own must move faster.
SPEED = 10.0


class Retention(nn.Module):
    """The share of the evidence that is left when a question on skills K_q is asked.

    rho(t, K_q) = (1 + g / T) ** -rate, with g the time since the last answer on one of the skills
    and the rate, never negative, the mean of theirs. One share for all evidence: while nothing
    happens a prediction goes towards its prior and never away from it. g is 0 where the skill was
    not practised or a time is not known. Source: the power law of forgetting, Wixted and Ebbesen
    1991.
    """

    def __init__(self, n_skills: int) -> None:
        super().__init__()
        self.rate = nn.Embedding(n_skills, 1)
        nn.init.zeros_(self.rate.weight)
        self.log_hours = nn.Parameter(torch.zeros(()))

    def forward(self, asked: Asked, since: Tensor) -> Tensor:
        """Return the shares (N,) in (0, 1].

        Args:
            asked: N questions.
            since: (N,) int64, milliseconds since the last answer on a skill of each.
        """
        passed = since.to(self.log_hours.dtype) / HOUR
        hours = HOURS * (SPEED * self.log_hours).exp()
        rate = F.softplus(RATE + SPEED * asked.mean(self.rate)).squeeze(-1)
        share: Tensor = (-rate * (passed / hours).log1p()).exp()
        return share
