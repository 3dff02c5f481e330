"""A flag for every parameter of the configuration, generated from it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter, Token, convert
from pydantic.fields import FieldInfo

from gainakt.config import FILLED_BY_RUN, GROUPS, parameters
from gainakt.config.groups import AUTO


def join_switches(words: list[str]) -> list[str]:
    """Let switches take a value as every other parameter does: `--use_amp true`."""
    switches = {
        spelling
        for _, name, field in parameters()
        if field.annotation is bool
        for spelling in spellings(name)
    }
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in switches and not word.startswith("-"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def exactly(type_: Any, tokens: Sequence[Token]) -> Any:
    """Convert what was typed; a whole number is written as one, and never rounded to one."""
    convert(type_, tokens, converter=lambda kind, word: int(word) if kind is int else word)
    return convert(type_, tokens)


def spellings(name: str) -> tuple[str, ...]:
    hyphenated = name.replace("_", "-")
    return (f"--{name}",) if hyphenated == name else (f"--{name}", f"--{hyphenated}")


def with_parameters(verb: Callable[..., int]) -> Callable[..., int]:
    """Give a verb a flag for every parameter of the configuration, in both spellings.

    Types, defaults, groups and help come from the configuration itself; the verb receives what was
    given as `overrides`.
    """
    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values()]
    own = [p for p in own if p.name != "overrides"]
    order = {name: Group(name, sort_key=i) for i, name in enumerate(GROUPS, start=1)}
    flags = [
        inspect.Parameter(
            f"parameter_{name}",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                _typed(field) | None,
                Parameter(
                    name=spellings(name),
                    group=order[group],
                    help=f"{field.description} [default: {_shown(field.default)}]",
                    negative=(),
                    consume_multiple=True,
                    # a purpose may begin with a dash
                    allow_leading_hyphen=field.annotation is str,
                    show_default=False,
                ),
            ],
        )
        for group, name, field in parameters()
        if name not in FILLED_BY_RUN
    ]

    def command(**given: Any) -> int:
        overrides = {
            name.removeprefix("parameter_"): given.pop(name)
            for name in list(given)
            if name.startswith("parameter_")
        }
        return verb(**given, overrides={k: v for k, v in overrides.items() if v is not None})

    signature = inspect.Signature([*own, *flags], return_annotation=int)
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    command.__doc__ = verb.__doc__
    command.__name__ = verb.__name__
    return command


def _typed(field: FieldInfo) -> Any:
    """The type of a flag."""
    return int | Literal["auto"] if AUTO in field.metadata else field.annotation


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return " ".join(str(v) for v in default)
    return repr(default) if default == "" else str(default)
