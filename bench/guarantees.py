"""What GainSum promises, tried on random models and students: trials, violations, largest error.

    python bench/guarantees.py [--trials 100000] [--seed 0]

Every guarantee is tried the given number of times, in float64, on models of random weights (both
settings of `weights` in turn, questions known and unknown, several skills a question, forgetting)
and students of random answers and times. A trial is one prediction; of the two about flips it is
one flip and one later prediction. "to the bit" allows no error at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from measuring import Table, header, say

from gainakt.config import load_config
from gainakt.data.batches import Batch, make_batch
from gainakt.data.rows import NONE, Rows
from gainakt.data.sequences import whole_histories
from gainakt.data.vocabulary import Vocabulary
from gainakt.models import build_model
from gainakt.models.gainsum.model import GainSum

SKILLS, QUESTIONS, STUDENTS, LENGTH, WIDEST = 9, 30, 40, 20, 3
BEGIN = 1_700_000_000_000
ROUNDING = 1e-9
Check = Callable[[GainSum, Batch, np.random.Generator], torch.Tensor]


@dataclass(frozen=True)
class Guarantee:
    """A promise; `errors` gives what each trial is off by, and more than `allowed` breaks it."""

    name: str
    errors: Check
    allowed: float = ROUNDING
    weights: tuple[str, ...] = ("in_context", "skills_only")


def model_of(weights: str, seed: int, *, questions: bool = True) -> GainSum:
    """A model far from its first weights."""
    settings = {"weights": weights, "d_model": 16, "d_ff": 32, "seq_len": 64, "seed": seed}
    settings |= {"forgetting": "on"}
    vocabulary = Vocabulary(
        tuple(f"k{k}" for k in range(SKILLS)),
        tuple(f"q{q}" for q in range(QUESTIONS)) if questions else (),
    )
    model = build_model(load_config("gainsum", settings), vocabulary).double().eval()
    assert isinstance(model, GainSum)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight += 0.5 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            if name.startswith("questions."):
                weight[0] = 0.0
    return model


def students_of(rng: np.random.Generator) -> Batch:
    """Students whose questions have one skill to three; question 0 is unknown."""
    n = STUDENTS * LENGTH
    skills = np.array([rng.permutation(SKILLS)[:WIDEST] for _ in range(n)])
    skills[np.arange(WIDEST) >= rng.integers(1, WIDEST + 1, (n, 1))] = NONE
    pauses = np.exp(rng.uniform(np.log(1e3), np.log(5e9), n))  # seconds to two months
    rows = Rows(
        skill=skills[:, 0].astype(np.int32),
        response=rng.integers(2, size=n).astype(np.int8),
        order=np.tile(np.arange(LENGTH, dtype=np.int32), STUDENTS),
        question=rng.integers(QUESTIONS + 1, size=n).astype(np.int32),
        others=skills[:, 1:].astype(np.int32),
        time=BEGIN + pauses.astype(np.int64).reshape(STUDENTS, LENGTH).cumsum(axis=1).ravel(),
    )
    pieces = whole_histories(rows, np.full(STUDENTS, LENGTH))
    return make_batch(pieces, np.arange(STUDENTS))


def exact_sum(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """Prior and contributions against a plain prediction."""
    found = model.explain(batch)
    sums = torch.cat([part.sum(dim=-1).flatten() for part in found.contributions])
    return (model(batch).logits - found.prior - sums).abs()[batch.has_next]


def signs(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """How far a contribution lies on the wrong side of zero."""
    (part,) = model.explain(batch).contributions
    answer = 2 * batch.response.view(STUDENTS, 1, LENGTH) - 1
    return (-part * answer).clamp(min=0)[batch.has_next.view(STUDENTS, LENGTH)].flatten()


def _flipped(model: GainSum, batch: Batch, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits (students, T) with answer `step` wrong and right."""
    logits = []
    for answer in (0, 1):
        response = torch.where(batch.position == step, answer, batch.response)
        logits.append(model(replace(batch, response=response)).logits.view(STUDENTS, LENGTH))
    return logits[0], logits[1]


def rising(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much a later prediction falls with a right answer in place of a wrong one."""
    step = int(rng.integers(LENGTH - 1))
    wrong, right = _flipped(model, batch, step)
    return (wrong - right).clamp(min=0)[:, step:-1].flatten()


def causal(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much an earlier prediction moves with a later answer."""
    step = int(rng.integers(1, LENGTH))
    wrong, right = _flipped(model, batch, step)
    return (wrong - right).abs()[:, :step].flatten()


def easier(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much a prediction moves otherwise than by the easiness of a question alike."""
    assert model.questions is not None and batch.next_question is not None
    embed, easy = model.questions.embed.weight, model.questions.easy.weight[:, 0]
    one, other = rng.permutation(np.arange(1, QUESTIONS + 1))[:2].tolist()
    with torch.no_grad():
        embed[other] = embed[one]
    # what is asked last alone: a question asked before changes the state of later ones
    last = batch.position == LENGTH - 2
    logits = []
    for code in (one, other):
        asked = torch.where(last, code, batch.next_question)
        logits.append(model(replace(batch, next_question=asked)).logits[last])
    return (logits[1] - logits[0] - (easy[other] - easy[one])).abs()


def unknown(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much unknown questions are predicted otherwise than questions without ids."""
    nothing = torch.zeros_like(batch.skill)
    there = model(replace(batch, question=nothing, next_question=nothing)).logits
    without = model(replace(batch, question=None, next_question=None)).logits
    return (there - without).abs()[batch.has_next]


def any_order(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much the order in which a question names its skills matters."""

    def turned(skill: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        swap = others[:, 0] != NONE
        first = torch.where(swap, others[:, 0], skill)
        second = torch.where(swap, skill, others[:, 0])
        return first, torch.cat([second[:, None], others[:, 1:]], dim=1)

    assert batch.others is not None and batch.next_others is not None
    skill, others = turned(batch.skill, batch.others)
    next_skill, next_others = turned(batch.next_skill, batch.next_others)
    swapped = replace(
        batch, skill=skill, others=others, next_skill=next_skill, next_others=next_others
    )
    return (model(batch).logits - model(swapped).logits).abs()[batch.has_next]


def fading(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much waiting moves a prediction away from its prior, or past it."""
    assert batch.next_time is not None
    last = batch.position == LENGTH - 2
    left = []
    for later in np.sort(np.exp(rng.uniform(0, np.log(1e12), 2))).astype(np.int64).tolist():
        found = model.explain(replace(batch, next_time=batch.next_time + later))
        left.append((found.logits - found.prior)[last])
    sooner, later = left
    return torch.maximum(later.abs() - sooner.abs(), (-later * sooner).clamp(min=0))


def single(model: GainSum, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
    """By how much questions of one skill are read otherwise where others could have several."""
    none = torch.full_like(batch.skill[:, None], NONE)
    there = model(replace(batch, others=none, next_others=none)).logits
    without = model(replace(batch, others=None, next_others=None)).logits
    return (there - without).abs()[batch.has_next]


GUARANTEES = (
    Guarantee("prior and contributions are the prediction", exact_sum),
    Guarantee("a contribution has the sign of its answer", signs, 0.0),
    Guarantee("no prediction falls with a right answer", rising, ROUNDING, ("skills_only",)),
    Guarantee("no prediction knows a later answer, to the bit", causal, 0.0),
    Guarantee("of two questions alike, one is easier by its easiness", easier),
    Guarantee("an unknown question is its skill, to the bit", unknown, 0.0),
    Guarantee("waiting moves a prediction towards its prior alone", fading),
    Guarantee("the order of a question's skills says nothing", any_order, 1e-6),
    Guarantee("a question of one skill is read as ever", single),
)


@torch.no_grad()
def tried(guarantee: Guarantee, trials: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield errors until there are so many of them."""
    done = number = 0
    while done < trials:
        rng = np.random.default_rng([seed, number])
        weights = guarantee.weights[number % len(guarantee.weights)]
        errors = guarantee.errors(model_of(weights, number), students_of(rng), rng)
        errors = errors[: trials - done]
        yield errors
        done, number = done + len(errors), number + 1


def main() -> int:
    """Try every guarantee; 1 where one is broken."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("guarantee", "trials", "violations", "largest error")
    table = Table("What GainSum promises, tried at random", columns, header())
    for guarantee in GUARANTEES:
        say(guarantee.name)
        errors = torch.cat(list(tried(guarantee, arguments.trials, arguments.seed)))
        table.add(
            guarantee=guarantee.name,
            trials=len(errors),
            violations=int((errors > guarantee.allowed).sum()),
            largest_error=float(errors.max()),
        )
    table.print(arguments.json)
    return int(any(row["violations"] for row in table.rows))


if __name__ == "__main__":
    raise SystemExit(main())
