"""How sure mastery is, and when it will have faded."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from gainakt.errors import DataError, GainaktError
from gainakt.evaluation.certainty import BEFORE, IMAGINED, interval
from gainakt.session import Answer, Session
from tests.helpers import small_tracer

NOW = 1_700_000_000_000
DAY = 86_400_000


def test_the_best_predictor_of_exchangeable_answers_is_as_sure_as_it_should_be() -> None:
    rng, a, b = np.random.default_rng(0), 3.0, 2.0
    truth = rng.beta(a, b, 20_000)
    answers = rng.integers(0, 30, 20_000)
    right = rng.binomial(answers, truth)
    total = a + b + answers

    def predicted(more_right: int, more: int) -> np.ndarray:
        return np.asarray((a + right + more_right) / (total + more))

    reaction = predicted(IMAGINED, IMAGINED), predicted(0, IMAGINED)
    low, high = interval(predicted(0, 0), *reaction, answers, level=0.9)
    # the posterior's own quantiles, which hold 90%
    np.testing.assert_allclose(low, beta.ppf(0.05, a + right, b + answers - right), atol=1e-9)
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.9, abs=0.01)


def test_a_model_that_reacts_to_nothing_is_no_surer_than_its_answers_allow() -> None:
    answers = np.array([0, 20])
    value = np.array([0.7, 0.7])
    for if_right in (0.7, 0.6):  # or reacts the wrong way
        low, high = interval(value, np.full(2, if_right), value, answers, level=0.9)
        worth = BEFORE + answers
        np.testing.assert_allclose(low, beta.ppf(0.05, 0.7 * worth, 0.3 * worth))
        np.testing.assert_allclose(high, beta.ppf(0.95, 0.7 * worth, 0.3 * worth))


@settings(deadline=None)
@given(*(st.floats(0, 1) for _ in range(3)), st.integers(0, 10_000), st.floats(0.01, 0.99))
def test_any_interval_holds_the_prediction_and_widens_with_the_level(
    value: float, if_right: float, if_wrong: float, answers: int, level: float
) -> None:
    arrays = [np.array([x]) for x in (value, if_right, if_wrong)]
    low, high = interval(*arrays, np.array([answers]), level)
    wider = interval(*arrays, np.array([answers]), (1 + level) / 2)
    assert 0 <= wider[0] <= low <= value <= high <= wider[1] <= 1


def session_of(**overrides: object) -> Session:
    tracer = small_tracer("gainsum", forgetting="on", **overrides)  # type: ignore[arg-type]
    answers = [("k0", 1), ("k1", 0), ("k0", 1), ("k0", 0), ("k2", 1)]
    return tracer.session(
        Answer(skill, right, time=NOW + number * 60_000)
        for number, (skill, right) in enumerate(answers)
    )


def test_mastery_says_what_it_rests_on_and_asking_changes_nothing() -> None:
    session = session_of()
    before = session.predict_many()
    found = session.mastery_of("k0")
    assert found.value == pytest.approx(before["k0"], abs=1e-6)
    assert found.low < found.value < found.high and found.level == 0.9
    assert (found.answers, found.last) == (3, NOW + 180_000)
    never = session.mastery_of("k3")
    assert (never.answers, never.last) == (0, None)
    assert session.predict_many() == before and len(session) == 5
    sure = session.mastery_of("k0", level=0.5)
    assert found.low < sure.low and sure.high < found.high
    later = session.mastery_of("k0", time=NOW + 400 * DAY)
    assert later.value == session.predict("k0", time=NOW + 400 * DAY)
    assert later.value != pytest.approx(found.value, abs=1e-5)


def test_a_question_of_several_skills_counts_for_each() -> None:
    tracer = small_tracer("gainsum", pooled_skills=True)
    session = tracer.session([Answer(["k0", "k1"], 1), Answer("k1", 0)])
    assert [session.mastery_of(k).answers for k in ("k0", "k1", "k2")] == [1, 2, 0]


def test_the_table_of_mastery_says_the_same() -> None:
    tracer = small_tracer("gainsum", forgetting="on")
    table = pl.DataFrame(
        {
            "student": ["a", "a", "b"],
            "skill": ["k0", "k1", "k0"],
            "correct": [1, 0, 1],
            "when": [NOW, NOW + DAY, NOW],
        }
    )
    found = tracer.mastery(table, certainty=True, time="when")
    assert found.columns == ["student", "skill", "mastery", "low", "high", "answers"]
    session = tracer.session([Answer("k0", 1, time=NOW), Answer("k1", 0, time=NOW + DAY)])
    for row in found.filter(pl.col("student") == "a").iter_rows(named=True):
        m = session.mastery_of(row["skill"])
        said = (row["mastery"], row["low"], row["high"], row["answers"])
        assert said == pytest.approx((m.value, m.low, m.high, m.answers), abs=1e-6)


def test_a_review_is_due_when_the_prediction_has_fallen() -> None:
    session = session_of()
    with torch.no_grad():
        retention = session.state.model.retention
        retention.rate.weight.fill_(0.5)  # type: ignore[union-attr,operator]
    now = NOW + 240_000
    values = session.predict_many()
    ends = session.predict_many(time=now + 3_650 * DAY)
    falling = [skill for skill in values if ends[skill] < values[skill] - 1e-4]
    assert falling, "no skill falls: another seed is needed"
    for skill in falling:
        wanted = (values[skill] + ends[skill]) / 2
        due = session.review_time(skill, wanted)
        assert due is not None and due > now
        assert session.predict(skill, time=due) <= wanted
        assert session.predict(skill, time=now + int((due - now) * 0.999)) > wanted
        assert session.review_time(skill, values[skill] + 1e-3) == now, "it is due"
        assert session.review_time(skill, ends[skill] / 2) is None, "it never is"


def test_what_cannot_be_said_is_refused() -> None:
    session = session_of()
    with pytest.raises(GainaktError, match="level"):
        session.mastery_of("k0", level=90)
    with pytest.raises(GainaktError, match="wanted"):
        session.review_time("k0", 70)
    with pytest.raises(DataError, match="k9"):
        session.mastery_of("k9")
    tracer = small_tracer("gainsum")
    with pytest.raises(DataError, match="no answer yet"):
        tracer.session().mastery_of("k0")
    with pytest.raises(GainaktError, match="forgetting"):
        tracer.session([Answer("k0", 1, time=NOW)]).review_time("k0")
    timeless = small_tracer("gainsum", forgetting="on").session([Answer("k0", 1)])
    with pytest.raises(GainaktError, match="time"):
        timeless.review_time("k0")
    with pytest.raises(GainaktError, match="mastery"):
        small_tracer("gainakt2exp").session([Answer("k0", 1)]).mastery_of("k0")
