"""Predictions of another tool, in a folder that stands beside those of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gainakt.errors import ExperimentError
from gainakt.files import file_hash
from gainakt.record.folder import read_json

_KEYS = {"name": str, "data": dict, "fold": int, "test_fold": int, "seed": int, "metrics": dict}


@dataclass(frozen=True)
class ExternalFolder:
    """A folder with a table of predictions and what is known of where they come from."""

    path: Path

    @property
    def record(self) -> Path:
        """external.json: name, data, fold, seed and metrics."""
        return self.path / "external.json"

    @property
    def predictions(self) -> Path:
        """Every prediction, with the columns that an evaluation writes."""
        return self.path / "predictions_test.parquet"

    @property
    def audit(self) -> Path:
        """audit.json: what `gainakt audit` found."""
        return self.path / "audit.json"

    def read(self) -> dict[str, Any]:
        """Return what external.json says.

        Raises:
            ExperimentError: it is damaged, or is not of these predictions.
        """
        content = read_json(self.record)
        for key, kind in _KEYS.items():
            if not isinstance(content, dict) or not isinstance(content.get(key), kind):
                raise ExperimentError(f"{self.record}: {key!r} is missing or not {kind.__name__}")
        if not self.predictions.is_file():
            raise ExperimentError(f"{self.predictions} is missing")
        if content.get("predictions_sha256") != file_hash(self.predictions):
            raise ExperimentError(f"{self.record} was written of other predictions than lie there")
        return dict(content)
