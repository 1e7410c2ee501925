"""What a graph leaves open: the batch, and the picture's size where there are several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import onnx_ir as ir

    from a2edit.model.graphs import GraphModule

# Of an input that has open sizes: its smallest, usual and largest shape.
Shapes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
Profile: TypeAlias = Mapping[str, Shapes]

BATCH = "batch"
# Of a graph's step: its profiles, a list.
PROFILES_FILE = "profiles.json"


@dataclass(frozen=True, slots=True)
class Openings:
    """Working sizes in pixels, the smallest first, and the most samples in one run.

    One size and a batch of 1 leave nothing open: that is what compilers make the fastest code of.
    No size is the checkpoint's own.
    """

    sizes: tuple[int, ...] = ()
    batch: int = 1

    def open_dims(self, graph: GraphModule, name: str) -> dict[int, str]:
        """Dimensions of an input that are open, with their names."""
        found = {0: BATCH} if self.batch > 1 else {}
        if len(self.sizes) > 1:
            found |= dict(enumerate(graph.picture_dims.get(name, ()), 1))
        return found

    def examples(self, graph: GraphModule) -> list[Any]:
        """Inputs to export a graph with: where a size is open, it must not look like a constant."""
        return list(graph.example_inputs(min(self.batch, 2), *self.sizes[-1:]))

    @property
    def largest(self) -> Openings:
        """One request of the largest size, which leaves nothing open."""
        return Openings(self.sizes[-1:])

    def profiles(self, graph: GraphModule) -> list[Profile]:
        """Shapes of the inputs that have open sizes, for each size that makes a difference.

        An engine is tuned for one sample, of every size; more share its kernels.
        """
        sizes = self.sizes if graph.picture_dims else self.sizes[-1:]
        found: list[Profile] = []
        for size in sizes:
            usual, largest = (
                dict(zip(graph.input_names, graph.example_inputs(batch, size), strict=True))
                for batch in (1, self.batch)
            )
            profile = {
                name: (tuple(usual[name].shape), tuple(usual[name].shape), tuple(it.shape))
                for name, it in largest.items()
                if self.open_dims(graph, name)
            }
            if profile:
                found.append(profile)
        return found


NOTHING_OPEN = Openings()


def open_shape(value: ir.Value) -> tuple[int, ...]:
    """The shape of a graph's value; -1 where a size is open."""
    assert value.shape is not None
    return tuple(size if isinstance(size, int) else -1 for size in value.shape)
