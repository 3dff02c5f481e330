"""GainSum as an estimator of scikit-learn: fit, predict_proba and score over tables of answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gainakt.config import Config, Hardware, load_config
from gainakt.data.estimator_input import answers_of, as_table, group_of_student, spell
from gainakt.data.interactions import Dataset, skill_order
from gainakt.data.pooling import first_rows
from gainakt.data.splits import MIN_INTERACTIONS
from gainakt.data.tables import LongTable, read_table
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import ConfigError, DataError
from gainakt.evaluation.beginners import first_answers
from gainakt.evaluation.metrics import auc
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import coded
from gainakt.evaluation.readout import probability_of
from gainakt.experiment.console import RunConsole
from gainakt.experiment.learning import Learning
from gainakt.experiment.recipe import adapted
from gainakt.experiment.recorder import BestEpoch
from gainakt.machine import machine_on_loan, prepare_machine
from gainakt.tracer import Tracer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted
except ImportError:
    raise ConfigError(
        "GainSumClassifier needs scikit-learn; install it with: pip install 'gainakt[sklearn]'"
    ) from None

VALIDATION, LEARNING = 0, 1
# Parameters of the estimator that the configuration has too, and their names there.
_CONFIGURED = {
    name: name
    for name in (
        "d_model",
        "n_heads",
        "n_block_heads",
        "d_ff",
        "dropout",
        "weights",
        "seq_len",
        "epochs",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "weight_average",
        "patience",
        "threads",
    )
} | {"device": "devices"}

Floats = npt.NDArray[np.float64]


class GainSumClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts whether students answer right, each answer from those before it, by GainSum.

    X is a history: a table (polars or pandas) with the columns `student` and `skill`, an answer a
    row, or an array (n, 2) of the two. Rows are in time order, unless a column `order` sorts them.
    y are the answers, 0 or 1. What is known of the past when a row is predicted are the answers of
    the same student in rows before it:

    - `fit(X, y)` and `score(X, y)` know them from y;
    - `predict_proba(X)` and `predict(X)` know those in the column `correct` of X (or a third column
      of the array), which is empty where an answer is not known yet. Without that column every row
      is a question to a student of whom nothing is known.

    A row's own answer and later ones never reach its prediction. A row without an answer adds
    nothing to the past of others. Students of `fit` are not remembered: what is known of a student
    is in X. Where nothing is known, the prediction is the share of right first attempts at the
    skill in `fit`.

    Args:
        d_model, n_heads, n_block_heads, d_ff, dropout, weights, seq_len: the model; see the
            configuration's group `model`.
        epochs, batch_size, learning_rate, weight_decay, weight_average, patience: the training;
            see the group `training`. Defaults of both are those of the configuration `gainsum`:
            "auto" chooses epochs, batch size and patience from how much there is to learn from.
        validation_fraction: share of the students that choose the epoch and are not learnt from.
        skills: skills that may come up in prediction beside those in `fit`.
        student, skill, correct, order, question: names of the columns; by default the column
            `order` sorts where there is one, and neighbouring rows of equal `question` (or
            `question_id`) are the skills of one answer, of which the first is predicted and scored.
        random_state: of initial weights, order of students, dropout and the choice of validation
            students: a seed, a generator of numpy, or None for another result every time.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads; 0 takes every core.
        verbose: above 0, say how each epoch went.

    Attributes:
        classes_: 0 and 1.
        checkpoint_: the best epoch's weights, the configuration and the skills.
        first_answers_: (K,) share of right first attempts at each skill of `checkpoint_`.
        history_: metrics of every epoch.
        n_iter_: epochs trained.
        n_features_in_: 2, student and skill.
    """

    def __init__(
        self,
        *,
        d_model: int = 128,
        n_heads: int = 4,
        n_block_heads: int = 2,
        d_ff: int = 256,
        dropout: float = 0.2,
        weights: str = "in_context",
        seq_len: int = 200,
        epochs: int | str = "auto",
        batch_size: int | str = "auto",
        learning_rate: float = 0.001,
        weight_decay: float = 0.01,
        weight_average: float = 0.99,
        patience: int | str = "auto",
        validation_fraction: float = 0.2,
        skills: Iterable[Any] | None = None,
        student: str = "student",
        skill: str = "skill",
        correct: str = "correct",
        order: str | None = None,
        question: str | None = None,
        random_state: Any = 42,
        device: str = "auto",
        threads: int = 1,
        verbose: int = 0,
    ) -> None:
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_block_heads = n_block_heads
        self.d_ff = d_ff
        self.dropout = dropout
        self.weights = weights
        self.seq_len = seq_len
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.weight_average = weight_average
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.skills = skills
        self.student = student
        self.skill = skill
        self.correct = correct
        self.order = order
        self.question = question
        self.random_state = random_state
        self.device = device
        self.threads = threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from histories.

        Args:
            X: (n, 2) students and skills; see the class.
            y: (n,) answers, 0 or 1.
            groups: (n,) of whom the students are, such as their school: a group is either learnt
                from or validates. By default each student is one.

        Raises:
            DataError: X, y or groups are not as said, or hold too little to learn from.
            ConfigError: a parameter is impossible.
            TrainingError: the device is not there, or the loss is not finite any more.
        """
        config = self._config()
        table = self._answered(X, y)
        folds = self._folds(table, groups, config.runtime.seed)
        skills = skill_order(
            [*table.dataset.skill_ids, *map(spell, () if self.skills is None else self.skills)]
        )
        dataset = coded(replace(table.dataset, folds=folds), Vocabulary(tuple(skills)))
        config, _ = adapted(config, dataset)
        learning = self._learning(dataset, config)
        with machine_on_loan(), RunConsole(quiet=not self.verbose) as console:
            trainer = learning.trainer(config, prepare_machine(*config.machine))
            best = BestEpoch(console)
            trainer.run(best)
        assert best.checkpoint is not None
        self.classes_ = np.array([0, 1])
        self.n_features_in_ = 2
        self.checkpoint_ = best.checkpoint
        self.first_answers_ = first_answers(dataset)
        self.history_ = trainer.history.rows
        self.n_iter_ = trainer.epoch
        return self

    def predict_proba(self, X: Any) -> Floats:
        """Return the probabilities (n, 2) of a wrong and a right answer, from answers in X alone.

        Raises:
            DataError: X is not as the class says, or has a skill that `fit` did not.
            sklearn.exceptions.NotFittedError: `fit` comes first.
        """
        check_is_fitted(self)
        table = self._table(X)
        right = self._right(table, self._logits(table))
        return np.column_stack([1 - right, right])

    def predict(self, X: Any) -> npt.NDArray[np.int64]:
        """Return the likelier answers (n,), 0 or 1; see `predict_proba`."""
        right = self.predict_proba(X)[:, 1] >= 0.5
        likelier: npt.NDArray[np.int64] = self.classes_[right.astype(int)]
        return likelier

    def score(self, X: Any, y: Any) -> float:
        """Return the area under the ROC curve, each row predicted from the answers y before it.

        As in the literature and in `gainakt evaluate`, and unlike the accuracy of scikit-learn's
        other classifiers: most answers are right, so that accuracy says little. Rows of which no
        earlier answer is known are not scored.

        Raises:
            DataError: as `predict_proba`; or no row, or only one kind of answer, can be scored.
        """
        check_is_fitted(self)
        table = self._answered(X, y)
        logits = self._logits(table)
        scored = ~np.isnan(logits)
        answers = table.dataset.rows.response[scored]
        if len(np.unique(answers)) < 2:
            raise DataError(
                f"{len(answers)} rows have an earlier answer of their student and are scored; AUC "
                "needs right and wrong ones among them"
            )
        return auc(answers, probability_of(logits[scored]))

    def tracer(self) -> Tracer:
        """Return the model as `gainakt.load` does: mastery, explanations, and single students."""
        check_is_fitted(self)
        return Tracer(self.checkpoint_, device=self.device)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags

    def _config(self) -> Config:
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"validation_fraction = {self.validation_fraction}: must be between 0 and 1"
            )
        chosen = {there: _plain(getattr(self, here)) for here, there in _CONFIGURED.items()}
        seed = _plain(self.random_state)
        if isinstance(seed, np.random.Generator):
            seed = int(seed.integers(2**31 - 1))
        elif not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        return load_config("gainsum", chosen | {"seed": seed})

    def _table(self, X: Any) -> LongTable:
        """Read X, with the answers that it holds."""
        return read_table(
            as_table(X, (self.student, self.skill, self.correct)),
            student=self.student,
            skill=self.skill,
            correct=self.correct,
            order=self.order,
            question=self.question,
            open_answers=True,
        )

    def _answered(self, X: Any, y: Any) -> LongTable:
        """Read X, with y for the answers."""
        table = self._table(X)
        answers = answers_of(y, len(table.rows))[table.rows]
        differing = table.rows[table.answered & (answers != table.dataset.rows.response)]
        if len(differing):
            raise DataError(
                f"row {differing.min() + 1}: y and the column {self.correct!r} of X differ; X may "
                "hold the answers, but not others than y"
            )
        known = np.ones(len(answers), dtype=bool)
        rows = table.dataset.rows.replace(response=answers)
        return replace(table, dataset=replace(table.dataset, rows=rows), answered=known)

    def _folds(self, table: LongTable, groups: Any, seed: int) -> npt.NDArray[np.int8]:
        """Draw the students (S,) that validate, by group, among those that can be learnt from."""
        offsets = table.dataset.offsets
        group = np.arange(len(offsets) - 1)
        if groups is not None:
            group = group_of_student(groups, table)
        long_enough = np.unique(group[np.diff(offsets) >= MIN_INTERACTIONS])
        if len(long_enough) < 2:
            raise DataError(
                f"X has {len(long_enough)} {'students' if groups is None else 'groups'} with "
                f"{MIN_INTERACTIONS} answers or more; at least 2 are needed, to learn from one and "
                "to validate with another"
            )
        count = round(self.validation_fraction * len(long_enough))
        count = min(max(count, 1), len(long_enough) - 1)
        chosen = np.random.default_rng(seed).permutation(long_enough)[:count]
        return np.where(np.isin(group, chosen), VALIDATION, LEARNING).astype(np.int8)

    def _learning(self, dataset: Dataset, config: Config) -> Learning:
        try:
            return Learning.of(config, dataset)
        except DataError as error:
            validating = int((dataset.folds == VALIDATION).sum())
            raise DataError(
                f"{error}. Of {len(dataset.folds)} students in X, {validating} were drawn to "
                "validate: give more students, or another validation_fraction or random_state"
            ) from None

    def _logits(self, table: LongTable) -> Floats:
        """Return the log-odds (N,) of a right answer by row of the data set, nan without a past."""
        checkpoint = self.checkpoint_
        # where it was trained need not be where it predicts
        hardware = Hardware(devices=self.device, threads=_plain(self.threads))
        config = checkpoint.config.model_copy(update={"hardware": hardware})
        try:
            dataset = coded(table.dataset, checkpoint.vocabulary)
        except DataError as error:
            raise DataError(f"{error}, or were named in the parameter `skills`") from None
        with machine_on_loan():
            device = prepare_machine(*config.machine)
            return Predictor.of(checkpoint.model(), config, device).rows(dataset, table.answered)

    def _right(self, table: LongTable, logits: Floats) -> Floats:
        """Return the probability (n,) of a right answer by row of X."""
        code = {skill: i for i, skill in enumerate(self.checkpoint_.vocabulary.skills)}
        of_table = self.first_answers_[[code[skill] for skill in table.dataset.skill_ids]]
        # all skills of a question are predicted as its first row is
        begin = np.flatnonzero(first_rows(table.dataset.rows.order, table.dataset.offsets))
        width = np.diff(begin, append=len(logits))
        expected = np.add.reduceat(of_table[table.dataset.rows.skill], begin) / width
        asked = np.where(np.isnan(logits[begin]), expected, probability_of(logits[begin]))
        right = np.empty(len(logits))
        right[table.rows] = asked.repeat(width)
        return right


def _plain(value: Any) -> Any:
    """Return a scalar of numpy, such as a search over parameters draws, as one of Python."""
    return value.item() if isinstance(value, np.generic) else value
