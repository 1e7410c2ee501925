"""Many edits in an order that changes weights seldom."""

import traceback
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from a2edit.runtime.errors import A2EditError
from a2edit.runtime.request import EditRequest, EditResult

if TYPE_CHECKING:
    from a2edit.runtime.editor import Conditioned, Editor
    from a2edit.runtime.routing import RoutePlan

# How many requests wait for others of their route, and what their pictures may take: the larger
# the window, the seldomer weights change, and the longer the first of a route waits.
WINDOW = 32
WINDOW_BYTES = 256 * 2**20

Outcome: TypeAlias = EditResult | Exception

# What one request can fail by while the next may well succeed.
FAILURES = (A2EditError, OSError, MemoryError)


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    index: int
    conditioned: "Conditioned"
    plan: "RoutePlan"

    @property
    def key(self) -> Hashable:
        """Equal for those that can be painted together."""
        request = self.conditioned.request
        return self.plan.key, self.conditioned.prepared.size, request.steps

    @property
    def nbytes(self) -> int:
        prepared = self.conditioned.prepared
        pictures = (prepared.canvas, prepared.mask, prepared.source, prepared.source_mask)
        return sum(array.nbytes for array in (*pictures, *self.conditioned.tokens.values()))


def edits_by_route(
    editor: "Editor", requests: Iterable[EditRequest], window: int = WINDOW
) -> Iterator[tuple[int, Outcome]]:
    """Index and result of every request as it finishes, grouped by route within a window.

    `window` requests are conditioned (fewer, if they are large), then painted route by route; so
    a route is bound once a window, and memory does not grow with the list. A request that fails
    gives its exception in place of a result, and the others go on. `requests` is read as it is
    needed.
    """
    waiting: list[_Waiting] = []
    last: Hashable = None
    for index, request in enumerate(requests):
        try:
            conditioned = editor.condition(request)
            waiting.append(_Waiting(index, conditioned, editor.plan(conditioned)))
        except FAILURES as error:
            yield index, _light(error)
            continue
        if len(waiting) >= window or sum(one.nbytes for one in waiting) >= WINDOW_BYTES:
            waiting, ready = [], _grouped(waiting, last)
            last = ready[-1].plan.key
            yield from _painted(editor, ready)
    yield from _painted(editor, _grouped(waiting, last))


def _grouped(waiting: list[_Waiting], first: Hashable) -> list[_Waiting]:
    """By weights, as they came but the weights `first` in front; then by what else must agree."""
    places: dict[Hashable, int] = {first: 0}
    for one in waiting:
        places.setdefault(one.plan.key, len(places))
        places.setdefault(one.key, len(places))
    return sorted(waiting, key=lambda one: (places[one.plan.key], places[one.key]))


def _painted(editor: "Editor", ready: list[_Waiting]) -> Iterator[tuple[int, Outcome]]:
    ready.reverse()
    while ready:
        together = [ready.pop()]  # its pictures can go when it is done
        while (
            ready
            and ready[-1].key == together[0].key
            and len(together) < editor.bundle.manifest.model.batch
        ):
            together.append(ready.pop())
        yield from _outcomes(editor, together)


def _outcomes(editor: "Editor", together: list[_Waiting]) -> Iterator[tuple[int, Outcome]]:
    """Of one run; where that fails, of each on its own."""
    failure: Exception | None = None
    results: list[EditResult] = []
    try:
        results = editor.paint_together([(one.conditioned, one.plan) for one in together])
    except FAILURES as error:
        failure = _light(error)
    if failure is None:
        yield from zip((one.index for one in together), results, strict=True)
    elif len(together) == 1:
        yield together[0].index, failure
    else:
        for one in together:
            yield from _outcomes(editor, [one])


def _light(error: Exception) -> Exception:
    """An error that can be kept: its traceback, without the pictures and weights of its frames."""
    traceback.clear_frames(error.__traceback__)
    return error
