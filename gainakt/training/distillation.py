"""Learning from teachers: models of other seeds, trained on the same students.

Their mean prediction of a training answer is a softer target than the answer itself (Hinton et
al. 2015; Furlanello et al. 2018 for teachers of the same size). Teachers see the training students
only, and validation students choose their epochs, exactly as for the model itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from gainakt.arrays import IntArray
from gainakt.config import Config
from gainakt.evaluation.predictor import Predictor
from gainakt.seeds import Stream
from gainakt.training.loop import Trainer

FloatArray = npt.NDArray[np.float32]


def teacher_seed(seed: int, number: int) -> int:
    """Return the seed of teacher `number` (from 1) of a run with this seed."""
    return int(Stream.TEACHER.sequence(seed, number).generate_state(1)[0])


def teacher_config(config: Config, number: int) -> Config:
    """Return the configuration that teacher `number` is trained with.

    A teacher of an answer-free model reads answers: it knows more, and is not what is served.
    """
    seed = teacher_seed(config.runtime.seed, number)
    training = {"teachers": 0, "epochs": config.training.teacher_epochs}
    return config.model_copy(
        update={
            "runtime": config.runtime.model_copy(update={"seed": seed}),
            "seeds": config.seeds.model_copy(update={"primary": seed, "all": (seed,)}),
            "training": config.training.model_copy(update=training),
            "model": config.model.teacher(),
        }
    )


def teacher_predictions(
    trainer: Trainer, say: Callable[[str], None], should_stop: Callable[[], bool]
) -> FloatArray | None:
    """Train a teacher and return its predictions of the training answers.

    Args:
        trainer: of the teacher (see `teacher_config`), on what the model will learn from it.
        say: told about every epoch.
        should_stop: asked after every step.

    Returns:
        Probabilities aligned with `training.rows`, nan where there is none; or None when it was
        stopped.
    """
    trainer.say = say
    recorder = _BestWeights(say)
    if not trainer.run(recorder, should_stop):
        return None
    trainer.model.load_state_dict(recorder.weights)
    training = trainer.training
    readout = Predictor.of(trainer.model, trainer.config, trainer.device).read(training)
    scored = readout.where(readout.has_next)
    predictions = np.full(len(training.rows), np.nan, dtype=np.float32)
    predictions[training.starts[scored.sequence] + scored.position + 1] = scored.probability
    return predictions


def soft_answers(answers: IntArray, teachers: list[FloatArray], weight: float) -> FloatArray:
    """Mix answers with the teachers' mean prediction: (1 - weight) r + weight mean p.

    Args:
        answers: (n,) of 0 and 1.
        teachers: each (n,); an answer that they do not predict stays as it is.
        weight: of the teachers, 0 to 1.
    """
    hard = answers.astype(np.float32)
    mean = np.mean(teachers, axis=0)
    return np.where(np.isnan(mean), hard, (1 - weight) * hard + weight * mean).astype(np.float32)


class _BestWeights:
    """Keeps the weights of the epoch with the best validation AUC."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.weights: dict[str, torch.Tensor] = {}

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Nothing to record."""

    def on_epoch(self, trainer: Trainer, improved: bool) -> None:
        """Keep a copy when the epoch is the best so far."""
        if improved:
            state = trainer.evaluated_model.state_dict()
            self.weights = {name: value.clone() for name, value in state.items()}
        auc = trainer.history.rows[-1]["val_auc"]
        self.say(
            f"epoch {trainer.epoch}/{trainer.config.training.epochs}: validation AUC {auc:.5f}"
        )

    def on_state(self, trainer: Trainer) -> None:
        """A teacher that is stopped begins anew."""
