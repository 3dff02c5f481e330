"""How well students are predicted of whom little is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gainakt.evaluation.beginners import cold_start
from gainakt.evaluation.significance import Scored


def test_second_and_third_answers_alone_count() -> None:
    rng = np.random.default_rng(0)
    student = np.repeat([f"s{n}" for n in range(200)], 6)
    position = np.tile(np.arange(1, 7), 200)  # the first has no prediction
    answer = rng.integers(2, size=1200)
    p = np.where(position < 3, 0.3 * answer + 0.7 * rng.random(1200), 0.5)
    table = {"student": student, "position": position, "answer": answer, "probability": p}
    mixed = rng.permutation(1200)
    found = cold_start(Scored.of({name: column[mixed] for name, column in table.items()}))
    early = position < 3
    assert found["auc"] == pytest.approx(roc_auc_score(answer[early], p[early]))
    assert found["accuracy"] == pytest.approx(((p >= 0.5) == answer)[early].mean())
    assert found["targets"] == 400
    assert found["low"] < found["auc"] < found["high"]  # type: ignore[operator]


def test_answers_of_one_kind_have_no_figure() -> None:
    scored = Scored(np.array(["a"]), np.array([1]), np.array([1]), np.array([0.5]))
    assert cold_start(scored)["auc"] is None and cold_start(scored)["targets"] == 1
