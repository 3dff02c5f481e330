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
from gainakt.errors import ConfigError, ExperimentError
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

    def model(self) -> KnowledgeTracer:
        """Build the model and load the weights into it.

        Raises:
            ExperimentError: the weights do not fit the recorded configuration.
        """
        model = build_model(self.config, self.vocabulary)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            raise ExperimentError(f"the weights do not fit the recorded model: {error}") from None
        return model.eval()


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
                tuple(json.loads(metadata["skill_ids"])),
                tuple(json.loads(metadata.get("question_ids", "[]"))),
            ),
            epoch=int(metadata["epoch"]),
            weights=weights,
            first_answers=_first_answers(metadata.get("first_answers", "null")),
        )
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, ConfigError) as error:
        raise ExperimentError(f"{path}: not a readable checkpoint ({error})") from None


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
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no saved state, so there is nothing to resume") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ExperimentError(f"{path}: not a readable state ({error})") from None
    if not isinstance(state, dict):
        raise ExperimentError(f"{path}: not a training state")
    return state
