"""Do intervals of mastery hold what they say? Checked on students whose mastery is known.

    python bench/certainty.py [--students 5000] [--asked 400] [--seed 1]

For each kind of students a GainSum is trained by `--config gainsum`; test students are asked about
their next skill at four places of their history. Covered: the share whose true probability of a
right answer to a typical question of the skill lies in the 90% interval of `Session.mastery_of`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Table, header, say

import gainakt
from gainakt.data.interactions import Dataset
from gainakt.data.rows import TRUE_MASTERY
from gainakt.data.simulate import simulate
from gainakt.session import Session

KINDS: dict[str, dict[str, Any]] = {
    "skills alone": {},
    "a fifth of the students": {"students": 0.2},
    "forgetting at each step": {"forgetting": 0.02},
    "15 questions a skill": {"questions": 15},
    "questions, days, forgetting": {"questions": 15, "days": 3.0, "half_life": 10.0},
}
PLACES = 4


def typical(dataset: Dataset, row: int, mastery: float) -> float:
    """The probability of a right answer to a typical question, of a student of this mastery."""
    truth = dataset.manifest["options"]["skill_parameters"]
    skill = truth[dataset.skill_ids[int(dataset.rows.skill[row])]]
    return float(skill["guess"] + (1 - skill["guess"] - skill["slip"]) * mastery)


def told(tracer: gainakt.Tracer, dataset: Dataset, begin: int, end: int) -> Session:
    """A session that was told the answers of some rows."""
    rows = dataset.rows
    return tracer.session(
        gainakt.Answer(
            dataset.skill_ids[int(rows.skill[row])],
            int(rows.response[row]),
            None if rows.question is None else dataset.vocabulary.questions[rows.question[row] - 1],
            None if rows.time is None else int(rows.time[row]),
        )
        for row in range(begin, end)
    )


def asked(
    tracer: gainakt.Tracer, dataset: Dataset, students: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Truth, value, low, high and answers on the skill (n, 5) of the students asked."""
    mastery, found = dataset.column(TRUE_MASTERY), []
    for student in students:
        begin, end = dataset.offsets[student : student + 2].tolist()
        places = rng.permutation(np.arange(begin + 1, end))[:PLACES]
        for row in places.tolist():
            skill = dataset.skill_ids[int(dataset.rows.skill[row])]
            time = None if dataset.rows.time is None else int(dataset.rows.time[row])
            m = told(tracer, dataset, begin, row).mastery_of(skill, time=time)
            truth = typical(dataset, row, float(mastery[row]))
            found.append((truth, m.value, m.low, m.high, m.answers))
    return np.array(found)


def measured(kind: str, students: int, n_asked: int, seed: int) -> dict[str, Any]:
    """Train on students of a kind and compare intervals with the truth."""
    settings = dict(KINDS[kind])
    settings["students"] = int(students * settings.get("students", 1.0))
    with tempfile.TemporaryDirectory() as folder:
        dataset = simulate(Path(folder) / "data", skills=15, seed=seed, **settings)
        runs = Path(folder) / "runs"
        run = gainakt.train("gainsum", dataset.path, out=runs, threads=1, report=False, quiet=True)
        test = dataset.students("test")[:n_asked]
        found = asked(gainakt.load(run), dataset, test, np.random.default_rng(0))
    truth, value, low, high, answers = found.T
    inside = (low <= truth) & (truth <= high)
    parts = {"none": answers == 0, "1_to_3": (answers > 0) & (answers < 4), "more": answers > 3}
    return {
        "students": kind,
        "asked": len(found),
        "covered": float(inside.mean()),
        **{f"answers:_{name}": float(inside[part].mean()) for name, part in parts.items()},
        "width": float((high - low).mean()),
        "error": float(np.sqrt(((value - truth) ** 2).mean())),
    }


def main() -> None:
    """Train on every kind of students and print what the intervals hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--students", type=int, default=5000)
    parser.add_argument("--asked", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = ("none", "1 to 3", "more")
    columns = ("students", "asked", "covered", *(f"answers: {name}" for name in names))
    table = Table(
        "Where true mastery lies, and whether the 90% interval holds it",
        (*columns, "width", "error"),
        header(),
    )
    for kind in KINDS:
        say(kind)
        table.add(**measured(kind, arguments.students, arguments.asked, arguments.seed))
    table.print(arguments.json)


if __name__ == "__main__":
    main()
