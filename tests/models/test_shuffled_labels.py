"""Where answers carry no information, no model may predict them: a guard against leaks."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gainakt.config import MODELS
from gainakt.data.interactions import load_dataset
from gainakt.experiment.learning import Learning
from tests.helpers import small_config


class _Nothing:
    """A recorder that records nothing."""

    def on_step(self, *news):
        pass

    def on_epoch(self, *news):
        pass

    on_state = on_epoch


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    from gainakt.data.simulate import simulate

    path = tmp_path_factory.mktemp("shuffled") / "data"
    return load_dataset(simulate(path, students=400, skills=5, seed=8).path)


@pytest.mark.parametrize("name", MODELS)
def test_shuffled_answers_cannot_be_predicted(name, students):
    shuffled = np.random.default_rng(0).permutation(students.rows.response)
    auc = _best_auc(name, replace(students, rows=students.rows.replace(response=shuffled)))
    # 2,500 validation targets: the standard error of an AUC of 0.5 is about 0.012
    assert 0.45 < auc < 0.55


@pytest.mark.parametrize("name", MODELS)
def test_true_answers_can_be(name, students):
    assert _best_auc(name, students) > 0.56, "else the test above says nothing"


def _best_auc(name, dataset):
    config = small_config(name, epochs=4, batch_size=16, learning_rate=0.01, seq_len=60)
    trainer = Learning.of(config, dataset).trainer(config, torch.device("cpu"))
    trainer.run(_Nothing())
    return trainer.history.best["val_auc"]
