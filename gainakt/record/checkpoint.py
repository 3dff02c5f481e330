"""Writing and reading checkpoints: weights that run no code on load, and the state to resume from.

Every write goes to a temporary name, is read back, and only then takes the final name, so that a
readable checkpoint exists at every moment.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from gainakt.config import Config, dump_config, parse_config
from gainakt.data.vocabulary import Vocabulary
from gainakt.errors import ExperimentError
from gainakt.files import write_atomically
from gainakt.models import KnowledgeTracer, build_model

FORMAT = "gainakt-1"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Weights and what using them takes: the configuration, the vocabulary, the epoch.

    first_answers: (K,), the share of right answers among training students' first to each skill;
    None in a checkpoint that does not know.
    """

    config: Config
    vocabulary: Vocabulary
    epoch: int
    weights: dict[str, Tensor]
    first_answers: tuple[float, ...] | None = None

    @property
    def skill_ids(self) -> tuple[str, ...]:
        """The skills that the model knows, in the order of their codes."""
        return self.vocabulary.skills

    def model(self) -> KnowledgeTracer:
        """Build the model and load the weights into it.

        Raises:
            ExperimentError: the weights do not fit the recorded configuration.
        """
        self._check_weights()
        model = build_model(self.config, self.vocabulary)
        model.load_state_dict(self.weights)
        return model.eval()

    def _check_weights(self) -> None:
        """Compare the weights with a model that takes no memory, before one that does is built."""
        with torch.device("meta"):
            expected = build_model(self.config, self.vocabulary).state_dict()
        shapes = {name: tuple(w.shape) for name, w in self.weights.items()}
        for name, weight in expected.items():
            if shapes.get(name) != tuple(weight.shape):
                raise ExperimentError(
                    f"the weights do not fit the recorded model: {name} is "
                    f"{shapes.get(name, 'missing')}, must be {tuple(weight.shape)}"
                )
        strange = sorted(shapes.keys() - expected.keys())
        if strange:
            raise ExperimentError(
                f"the weights do not fit the recorded model, which has no {strange[0]}"
            )
        broken = [name for name, weight in self.weights.items() if not weight.isfinite().all()]
        if broken:
            raise ExperimentError(f"the weights {broken[0]} hold numbers that are not finite")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write weights and metadata as one safetensors file, proven readable before it counts."""
    metadata = {
        "format": FORMAT,
        "config": json.dumps(dump_config(checkpoint.config)),
        "skill_ids": json.dumps(checkpoint.vocabulary.skills),
        "question_ids": json.dumps(list(checkpoint.vocabulary.questions)),
        "epoch": str(checkpoint.epoch),
        "first_answers": json.dumps(checkpoint.first_answers),
    }
    weights = {name: w.detach().cpu().contiguous() for name, w in checkpoint.weights.items()}
    write_atomically(path, save_tensors(weights, metadata), verify=load_checkpoint)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint written by `save_checkpoint`.

    Raises:
        ExperimentError: the file is missing, truncated, or lacks its metadata.
    """
    if not path.is_file():
        raise ExperimentError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, not {FORMAT!r}")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Checkpoint(
            config=parse_config(json.loads(metadata["config"])),
            vocabulary=Vocabulary(
                _texts(metadata["skill_ids"]), _texts(metadata.get("question_ids", "[]"))
            ),
            epoch=int(metadata["epoch"]),
            weights=weights,
            first_answers=_first_answers(metadata.get("first_answers", "null")),
        )
    except (SafetensorError, OSError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ExperimentError(f"{path}: not a readable checkpoint ({error})") from None


def _texts(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("ids must be a list of texts")
    if len(set(names)) != len(names):
        raise ValueError("an id is there twice")
    return tuple(names)


def _first_answers(text: str) -> tuple[float, ...] | None:
    shares = json.loads(text)
    return None if shares is None else tuple(map(float, shares))


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what resuming needs: plain values and tensors, proven readable before it counts."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue(), verify=load_state)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; no code runs on load.

    Raises:
        ExperimentError: the file is missing or damaged.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise ExperimentError(f"{path} is empty, so it does not say where training stood")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no saved state, so there is nothing to resume") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExperimentError(f"{path}: not a readable state ({reason[:200]})") from None
    if not isinstance(state, dict):
        raise ExperimentError(f"{path}: not a training state")
    return state
