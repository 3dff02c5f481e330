"""What the recipe chooses from the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gainakt.config import load_config
from gainakt.errors import DataError
from gainakt.experiment.learning import Learning
from gainakt.experiment.recipe import EPOCHS, MOST_STEPS, adapted, choose
from tests.helpers import dataset_of


@given(st.integers(1, 3_000_000))
def test_any_amount_of_data_gets_about_the_same_number_of_steps(sequences: int) -> None:
    batch_size, epochs, patience = choose(sequences)
    assert epochs in EPOCHS and 2 <= patience <= epochs
    steps = epochs * max(sequences / batch_size, 1)
    if 300 <= sequences <= 30_000:
        assert 1_500 <= steps <= 3_400
    assert steps <= MOST_STEPS or epochs == EPOCHS[0]


def test_few_students_are_seen_more_often() -> None:
    assert choose(100).epochs > choose(1_000).epochs >= choose(10_000_000).epochs


def test_what_is_set_stays_and_what_was_chosen_is_told() -> None:
    data = dataset_of([30] * 40)
    config = load_config("gainsum", {"epochs": 3})
    found, chosen = adapted(config, data)
    assert found.training.epochs == 3
    assert set(chosen) == {"batch_size", "patience", "forgetting"}
    assert (found.training.batch_size, found.training.patience) == choose(40)[::2]
    fixed = load_config(None, {"model": "dkt", "epochs": 3})
    assert adapted(fixed, data) == (fixed, {})


def test_forgetting_is_learnt_where_the_data_have_times() -> None:
    data = dataset_of([30] * 40)
    timed = replace(data, rows=data.rows.replace(time=np.arange(1200, dtype=np.int64) + 1))
    config = load_config("gainsum")
    assert adapted(config, timed)[1]["forgetting"] == "on"
    assert adapted(config, data)[1]["forgetting"] == "off"
    on = load_config("gainsum", {"forgetting": "on"})
    with pytest.raises(DataError, match="no times"):
        Learning.of(on, data)
