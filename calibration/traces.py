"""What a calibration set does to a model, as sums that can be kept, resumed and added up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

_ARRAYS, _FACTS = "traces.safetensors", "traces.json"

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Traces:
    """Sums over the traced samples, by category (C, alphabetic) and timestep bin (T).

    Attributes:
        tables: gate tables [S, L, N], of all samples.
        categories: [S], what each sample shows.
        kinds: the C names of categories.
        sigmas: noise level of each bin, [T].
        forwards: how often the denoiser ran, [C, T].
        moments: linear → Σ x² over forwards and tokens of its input, [C, T, in].
        energies: linear → Σ ‖W⁰x‖² of its base output, [C, T].
        velocity: Σ ‖v‖², [C, T].
        gaps: where a sample was run at another's table: the difference, [P, L, N].
        changes: ‖v' − v‖² when the table is changed in block l alone, and in all: [P, L + 1].
    """

    tables: FloatArray
    categories: tuple[str, ...]
    kinds: tuple[str, ...]
    sigmas: FloatArray
    forwards: FloatArray
    moments: Mapping[str, FloatArray]
    energies: Mapping[str, FloatArray]
    velocity: FloatArray
    gaps: FloatArray
    changes: FloatArray

    def mean_moments(self, linear: str) -> FloatArray:
        """Σ_tokens E[x²] of a linear's input over all forwards, [in]."""
        return self.moments[linear].sum((0, 1)) / self.forwards.sum()

    @property
    def mean_velocity(self) -> float:
        """E‖v‖² of a forward."""
        return float(self.velocity.sum() / self.forwards.sum())

    @property
    def mean_energy(self) -> float:
        """E‖W⁰x‖² of a forward, over all routed linears."""
        return float(sum(e.sum() for e in self.energies.values()) / self.forwards.sum())

    @staticmethod
    def join(parts: Sequence[Traces]) -> Traces:
        """Parts of one calibration set as one: sums are added in the order given."""
        kinds = tuple(sorted({kind for part in parts for kind in part.kinds}))

        def added(arrays: Sequence[FloatArray]) -> FloatArray:
            total = np.zeros((len(kinds), *arrays[0].shape[1:]), np.float32)
            for part, array in zip(parts, arrays, strict=True):
                for kind, row in zip(part.kinds, array, strict=True):
                    total[kinds.index(kind)] += row
            return total

        linears = parts[0].moments
        return Traces(
            tables=np.concatenate([part.tables for part in parts]),
            categories=tuple(name for part in parts for name in part.categories),
            kinds=kinds,
            sigmas=parts[0].sigmas,
            forwards=added([part.forwards for part in parts]),
            moments={name: added([part.moments[name] for part in parts]) for name in linears},
            energies={name: added([part.energies[name] for part in parts]) for name in linears},
            velocity=added([part.velocity for part in parts]),
            gaps=np.concatenate([part.gaps for part in parts]),
            changes=np.concatenate([part.changes for part in parts]),
        )

    def save(self, folder: Path) -> None:
        """Write traces.safetensors and traces.json."""
        arrays = {name: getattr(self, name) for name in _PLAIN}
        arrays |= {f"moments.{name}": array for name, array in self.moments.items()}
        arrays |= {f"energies.{name}": array for name, array in self.energies.items()}
        save_file({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)},
                  folder / _ARRAYS)  # fmt: skip
        facts = {"categories": self.categories, "kinds": self.kinds}
        (folder / _FACTS).write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Traces:
        """Read what `save` wrote."""
        arrays = load_file(folder / _ARRAYS)
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))

        def under(prefix: str) -> dict[str, FloatArray]:
            names = (name for name in arrays if name.startswith(prefix))
            return {name.removeprefix(prefix): arrays[name] for name in names}

        return Traces(
            categories=tuple(facts["categories"]),
            kinds=tuple(facts["kinds"]),
            moments=under("moments."),
            energies=under("energies."),
            **{name: arrays[name] for name in _PLAIN},
        )


_PLAIN = ("tables", "sigmas", "forwards", "velocity", "gaps", "changes")
