"""The commands of a run, written out in full and read back.

They are meant for a shell in the run's folder and name what lies elsewhere from there, so that they
hold wherever the folder and its data are moved together.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gainakt.config import FILLED_BY_RUN, RENAMED, Config, flatten, parameters
from gainakt.errors import ConfigError, ExperimentError

EVALUATE = "gainakt evaluate . --split test"
REPRODUCE = "gainakt reproduce ."


def from_folder(folder: Path, path: Path) -> str:
    """Return where a path is from a folder; itself, where no way leads there from it."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # on another drive
        return str(path)


def train_command(config: Config, data: str) -> str:
    """Return the training command with every parameter explicit, ready for a shell.

    Args:
        config: the complete configuration.
        data: where the data are, from the run's folder.
    """
    return f"gainakt train {shlex.quote(f'--data={data}')} --out=.. {_flags(config)}"


def _flags(config: Config) -> str:
    words: list[str] = []
    for name, value in flatten(config).items():
        if name in FILLED_BY_RUN:
            continue
        if isinstance(value, list):
            words += [f"--{name}", *(str(v) for v in value)]
        else:
            words.append(f"--{name}={_spell(value)}")
    return shlex.join(words)


def script(config: Config, data: str) -> str:
    """Return run.sh: training, evaluation and reproduction; `./run.sh train` runs one of them.

    Args:
        config: the complete configuration.
        data: where the data are, from the run's folder.
    """
    runtime = config.runtime
    # on one line: a line break in a value must not end the comment
    typed = " ".join(runtime.command.splitlines())
    return f"""#!/bin/sh
# {config.experiment.id}
# As typed: {typed}
# Usage: ./run.sh [train|evaluate|reproduce] [--data DIR]; without a step, evaluate.
set -e
data={shlex.quote(data)}
case "${{1:---data}}" in
--data) step=evaluate ;;
*) step=$1 && shift ;;
esac
case "$#:${{1:-}}" in
0:) ;;
2:--data) data=$(cd -- "$2" && pwd) && set -- "--data=$data" ;;
*)
    echo "cannot take: $*; allowed after the step: --data DIR" >&2
    exit 2
    ;;
esac
cd -- "$(dirname -- "$0")"
case "$step" in
train)
    gainakt train "--data=$data" --out=.. {_flags(config)}
    ;;
evaluate)
    {runtime.eval_command} "$@"
    ;;
reproduce)
    {runtime.repro_command} "$@"
    ;;
*)
    echo "unknown step $step; allowed: train, evaluate, reproduce" >&2
    exit 2
    ;;
esac
"""


def read_script(text: str) -> dict[str, Any]:
    """Return the parameters by name that run.sh trains with.

    Raises:
        ExperimentError: the script holds no training command, or one that cannot be read.
    """
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise ExperimentError(f"run.sh is not a whole shell script: {error}") from None
    places = {
        verb: [i for i, pair in enumerate(pairwise(words)) if pair == ("gainakt", verb)]
        for verb in ("train", "evaluate", "reproduce")
    }
    for verb, found in places.items():
        if len(found) != 1:
            raise ExperimentError(
                f"run.sh holds {len(found)} commands `gainakt {verb}`, it must hold one"
            )
    command = words[places["train"][0] + 2 :]
    given: dict[str, list[str]] = {}
    name = ""
    for word in takewhile(lambda word: word != ";;", command):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given[name] = [value] if equals else []
        elif name:
            given[name].append(word)
    return from_text({k: v for k, v in given.items() if k not in ("data", "out")})


def from_text(given: Mapping[str, list[str]]) -> dict[str, Any]:
    """Turn parameters spelt on a command line into values of their types.

    Raises:
        ConfigError: a parameter is unknown or its value has another type.
    """
    fields = {name: field for _, name, field in parameters()}
    now = {name: new for (_, name), new in RENAMED.items()}
    values: dict[str, Any] = {}
    for flag, words in given.items():
        name = now.get(flag, flag)
        if name not in fields:
            raise ConfigError(f"unknown parameter {name!r}")
        kind: Any = fields[name].annotation
        spelt: Any = words if getattr(kind, "__origin__", None) is tuple else " ".join(words)
        try:
            values[name] = TypeAdapter(kind).validate_python(spelt, strict=False)
        except ValidationError:
            raise ConfigError(f"{name} = {spelt!r}: must be {kind}") from None
    return values


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
