"""What a user holds of a trained model: predict, mastery, explain, and one student at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
import torch

from gainakt.config import Config, load_config
from gainakt.data.rows import SKILL, STUDENT
from gainakt.data.tables import TABLE, LongTable, plain_id, read_table
from gainakt.data.vocabulary import known_id
from gainakt.errors import DataError, ExperimentError
from gainakt.evaluation.explanation import ExplainedPrediction, explain_answer
from gainakt.evaluation.predictor import Predictor
from gainakt.evaluation.protocol import coded
from gainakt.evaluation.readout import probability_of
from gainakt.html import html_table
from gainakt.machine import select_device
from gainakt.record import pretrained
from gainakt.record.checkpoint import Checkpoint, load_checkpoint
from gainakt.record.folder import RunFolder
from gainakt.session import Answer, Session

Unknown = Literal["raise", "skip"]


class Columns(TypedDict, total=False):
    """Names of a table's columns that are not the default ones, see `read_table`."""

    student: str
    skill: str
    correct: str
    order: str
    question: str
    time: str


def load(run: object, *, exact: bool = False, device: str = "auto") -> Tracer:
    """Load the best checkpoint of a run.

    Args:
        run: its folder, the start of its name under experiments/, or an object whose `path` is it.
        exact: compute in float64 throughout. Slower; predictions and sessions then agree to
            about 1e-12, however deep the model is.
        device: auto (a GPU if there is one), cpu, cuda or cuda:N.

    Raises:
        ExperimentError: there is no such run, or its checkpoint is damaged.
        ConfigError, TrainingError: there is no such device.
    """
    path = getattr(run, "path", run)
    if not isinstance(path, str | Path):
        raise ExperimentError(
            "a run is given as its folder, the start of its name or an object that has its folder "
            f"as path, not as {type(run).__qualname__}"
        )
    folder = RunFolder.find(path)
    if not folder.best.is_file() and (folder.path / pretrained.WEIGHTS).is_file():
        raise ExperimentError(
            f"{folder.path} is no run but a pretrained model: use gainakt.Tracer.from_pretrained"
        )
    checkpoint = load_checkpoint(folder.best)
    about = pretrained.about_run(folder)
    return Tracer(checkpoint, about=about, run=folder, exact=exact, device=device)


class Tracer:
    """A trained model, ready for tables of answers and for single students.

    A table has an answer a row in the columns `student`, `skill` and `correct`, optionally `order`
    and, where questions have several skills, one that is named as `question`; other names are given
    by keyword (`tracer.predict(table, student="user")`). It is checked as `gainakt prepare generic`
    does. polars or pandas goes in, and the same kind comes out. Students need not be known to the
    model, skills do: `unknown="skip"` leaves rows of others out and warns how many.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        about: Mapping[str, Any] | None = None,
        run: RunFolder | None = None,
        exact: bool = False,
        device: str = "auto",
    ) -> None:
        self.checkpoint = checkpoint
        self.skills: tuple[str, ...] = checkpoint.vocabulary.skills
        self.exact = exact
        self.device = select_device(load_config(None, {"devices": device}).hardware.devices)
        self.config: Config = checkpoint.config
        model = checkpoint.model().to(self.device)
        if exact:
            model = model.double()
            runtime = self.config.runtime.model_copy(update={"use_amp": False})
            self.config = self.config.model_copy(update={"runtime": runtime})
        self.predictor = Predictor.of(model.requires_grad_(False), self.config, self.device)
        self._about = dict(about or {})
        self._run = run

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, exact: bool = False, device: str = "auto"
    ) -> Tracer:
        """Load what `save_pretrained` wrote from a folder on this machine; no code runs on load.

        Raises:
            ExperimentError: there is no such folder, or it is damaged.
        """
        checkpoint, about = pretrained.load_pretrained(Path(folder))
        return cls(checkpoint, about=about, exact=exact, device=device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, model.safetensors and README.md, the model's card, into a new folder.

        Raises:
            GainaktError: the folder exists, or cannot be written.
        """
        pretrained.save_pretrained(Path(folder), self.checkpoint, self.about)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What is known of the training: run, data, counts, metrics, outcome of the ten checks."""
        checks = {} if self._run is None else {"checks": pretrained.checks_passed(self._run)}
        return self._about | checks

    def predict(self, table: Any, *, unknown: Unknown = "raise", **columns: Unpack[Columns]) -> Any:
        """Return the table with a column `probability`: that the row's answer is right.

        Each row is predicted from the student's rows before it, of a long history from the recent
        ones, as `gainakt evaluate` does. It is empty where nothing is before: in a
        student's first answer, and in rows after the first of a question with several skills.

        Raises:
            DataError: see `gainakt.data.tables.read_table`; a skill is unknown to the model, or
                the table has a column `probability` already.
        """
        name = "probability"
        long = self._read(table, unknown, columns, new=name)
        return long.with_column(name, probability_of(self.predictor.answers(long.dataset)))

    @torch.inference_mode()
    def mastery(
        self,
        table: Any,
        *,
        unknown: Unknown = "raise",
        certainty: bool = False,
        **columns: Unpack[Columns],
    ) -> Any:
        """Return a row for each student and skill: `mastery` after the student's last answer.

        Skills are all that the model knows, spelt as it spells them; practised or not.

        Args:
            table: see `Tracer`.
            unknown: see `Tracer`.
            certainty: add `low` and `high`, a 90% interval, and `answers`, those on the skill that
                it rests on (see `Session.mastery_of`). Some milliseconds for each row.
            columns: names of columns that are not the default ones.

        Raises:
            DataError: see `predict`.
            GainaktError: the model has no mastery.
        """
        long = self._read(table, unknown, columns)
        data = self.predictor.steps_of(long.dataset)
        found: dict[str, list[Any]] = {}
        for begin, end in zip(data.offsets[:-1], data.offsets[1:], strict=True):
            session = self.session()
            session.state.extend(data.rows.take(slice(begin, end)))
            session.answers = int(end - begin)
            said = {"mastery": session.mastery_vector().tolist()}
            if certainty:
                each = [session.mastery_of(skill) for skill in self.skills]
                said |= {n: [getattr(m, n) for m in each] for n in ("low", "high", "answers")}
            for name, values in said.items():
                found.setdefault(name, []).extend(values)
        return long.per_student(found, self.skills)

    def explain(
        self,
        table: Any,
        student: object,
        step: int | None = None,
        skill: object = None,
        *,
        unknown: Unknown = "raise",
        columns: Columns | None = None,
    ) -> ExplainedPrediction:
        """Return a prediction taken apart; a notebook shows it as a coloured table.

        Args:
            table: holds the student's answers.
            student: id, as the table spells it.
            step: place of the answer in the student's history, from 0; by default the last answer,
                or with `skill` the one that would come next.
            skill: id of another skill to ask about in its place.
            unknown: see `Tracer`.
            columns: names of columns that are not the default ones, such as {"student": "user"}.

        Raises:
            DataError: see `predict`; there is no such student, answer or skill.
        """
        long = self._read(table, unknown, columns or {})
        data = self.predictor.steps_of(long.dataset)
        listed = f"the column {long.names[STUDENT]!r}"
        number = known_id("student", plain_id(student), data.student_ids, TABLE, listed)
        code = None
        if skill is not None:
            code = known_id("skill", plain_id(skill), self.skills, "the model", "tracer.skills")
        return explain_answer(self.predictor, data, number, step, code)

    def session(self, answers: Iterable[Answer] = ()) -> Session:
        """Return a student, without answers or with those given, to be observed one by one."""
        session = Session(
            self.predictor, self.config.experiment.model, self.checkpoint.first_answers
        )
        session.extend(answers)
        return session

    def _read(
        self, table: Any, unknown: Unknown, columns: Columns, new: str | None = None
    ) -> LongTable:
        """The table, coded with the model's skills."""
        if unknown not in ("raise", "skip"):
            raise DataError(f"unknown = {unknown!r}; allowed are 'raise' and 'skip'")
        long = read_table(table, **columns)
        if new is not None:
            long.refuse_column(new)
        data = long.dataset
        known = self.predictor.vocabulary
        strange = [c for c, skill in enumerate(data.skill_ids) if known.skill_code(skill) is None]
        if strange:
            left_out = np.isin(data.rows.skill, strange)
            found = (
                f"{int(left_out.sum()):,} of {len(left_out):,} rows of {TABLE} have "
                f"{_counted(len(strange), 'skill')} in the column {long.names[SKILL]!r} that the "
                f"model does not know: {_some([data.skill_ids[code] for code in strange])}"
            )
            if unknown == "raise" or left_out.all():
                raise DataError(
                    f"{found}; it knows {_some(self.skills)} (all are in tracer.skills)"
                    + ("" if left_out.all() else '; unknown="skip" leaves these rows out')
                )
            warnings.warn(f"{found}; they are left out", UserWarning, stacklevel=3)
            long = long.keep(~left_out)
            long = replace(long, dataset=long.dataset.with_used_skills())
        return replace(long, dataset=coded(long.dataset, known))

    def __repr__(self) -> str:
        data = f" trained on {self._about['data']}" if "data" in self._about else ""
        return f"<Tracer: {self.config.experiment.model}{data}, {len(self.skills)} skills>"

    def _repr_html_(self) -> str:
        return html_table("Tracer", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        about = self.about
        counts = "".join(f", {n:,} {what}" for what, n in about.get("counts", {}).items())
        metrics = ", ".join(
            f"{name} {value:.5f}" for name, value in about.get("metrics", {}).items()
        )
        facts = {
            "model": self.config.experiment.model,
            "run": about.get("run"),
            "trained on": about.get("data") and about["data"] + counts,
            "skills": f"{len(self.skills)}: {_some(self.skills)}",
            "best epoch": ": ".join(filter(None, [str(self.checkpoint.epoch), metrics])),
            "checks": about.get("checks"),
            "computes in": ("float64" if self.exact else "float32") + f" on {self.device}",
        }
        return [(name, fact) for name, fact in facts.items() if fact]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
