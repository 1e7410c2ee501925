"""Recipes: everything that decides what a run learns, as dataclasses and as TOML files."""

from __future__ import annotations

import json
import tomllib
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from a2edit.runtime.errors import RequestError
from a2edit.training.flow import NoiseLevels
from a2edit.training.gate_start import GateStart
from a2edit.training.stages import MINI_STAGES, PAPER_STAGES, Stage

_LEVELS = NoiseLevels()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run learns, in which order.

    Attributes:
        name: of the recipe.
        stages: in order; their names differ.
        gate_start, gate_samples: how a new gate starts, and samples that this is measured on.
        weighted: count tokens by the mask's share and channels by their worth; the paper counts
            all alike.
        noise: levels that are trained on.
    """

    name: str
    stages: tuple[Stage, ...]
    gate_start: GateStart = "spread"
    gate_samples: int = 128
    weighted: bool = True
    noise: NoiseLevels = _LEVELS

    def __post_init__(self) -> None:
        if self.gate_samples < 1:
            raise RequestError(
                f"recipe {self.name}: gate_samples is {self.gate_samples}; it must be at least 1"
            )
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise RequestError(
                f"recipe {self.name}: its stages are {', '.join(names) or 'none'}; "
                "there must be one at least, and every name once"
            )


RECIPES = MappingProxyType(
    {
        "mini": Recipe("mini", MINI_STAGES, gate_start="categories", gate_samples=1024),
        # SPEC §8: t = sigmoid(N(0, 1)), no weights. The start of the gate is not published.
        "paper": Recipe(
            "paper",
            PAPER_STAGES,
            weighted=False,
            noise=NoiseLevels(mean=0.0, std=1.0, ones=0.0),
        ),
    }
)


def find_recipe(name_or_file: str) -> Recipe:
    """A built-in recipe by name, or the one in a TOML file.

    Raises:
        RequestError: there is none, or the file says something that a recipe cannot.
    """
    if name_or_file in RECIPES:
        return RECIPES[name_or_file]
    path = Path(name_or_file)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RequestError(
            f"there is no recipe {name_or_file}: give a TOML file, or one of {', '.join(RECIPES)}"
        ) from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read as TOML: {error}") from error
    recipe: Recipe = _decoded(Recipe, table, str(path))
    return recipe


def toml_of(recipe: Recipe) -> str:
    """The recipe as a file, every field written out; `find_recipe` reads the same recipe."""
    lines = [f"{name} = {_encoded(value)}" for name, value in _items(recipe) if name != "stages"]
    for stage in recipe.stages:
        lines += ["", "[[stages]]"]
        lines += [f"{name} = {_encoded(value)}" for name, value in _items(stage)]
    return "\n".join(lines) + "\n"


def _items(value: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(value, field.name)) for field in fields(value)]


def _encoded(value: Any) -> str:
    if is_dataclass(value):
        inner = ", ".join(f"{name} = {_encoded(item)}" for name, item in _items(value))
        return f"{{ {inner} }}"
    # TOML writes numbers, strings, booleans and arrays as JSON does.
    return json.dumps(value, ensure_ascii=False)


def _decoded(kind: Any, value: Any, where: str) -> Any:
    """`value` as TOML gave it, as a `kind`; `where` tells the user which one."""
    if is_dataclass(kind):
        return _from_table(kind, value, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise RequestError(f"{where} is {value!r}; it must be a list")
        return tuple(
            _decoded(get_args(kind)[0], item, f"{where}[{place}]")
            for place, item in enumerate(value)
        )
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RequestError(f"{where} is {value!r}; allowed: {', '.join(get_args(kind))}")
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise RequestError(f"{where} is {value!r}; it must be of type {kind.__name__}")
    return value


def _from_table(kind: Any, table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise RequestError(f"{where} is {table!r}; it must be a table")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(table.keys() - known.keys())
    missing = sorted(
        name for name, f in known.items() if f.default is MISSING and name not in table
    )
    if unknown or missing:
        raise RequestError(
            f"{where}: unknown keys: {', '.join(unknown) or 'none'}; "
            f"missing keys: {', '.join(missing) or 'none'}; the keys are {', '.join(known)}"
        )
    hints = get_type_hints(kind)
    values = {key: _decoded(hints[key], item, f"{where}: {key}") for key, item in table.items()}
    return kind(**values)
