"""The reference with its experts merged: what eager torch gains by merging alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.pipeline import A2EditPipeline


class MergedPipeline(A2EditPipeline):
    """Each request's own gate weights, merged at the first request that asks for them.

    The weights of the last table are kept, and a batch holds one request.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._table: bytes = b""
        self._merged: dict[str, Tensor] = {}

    @contextmanager
    def experts(self, weights: Tensor) -> Iterator[None]:
        """Run the transformer with its experts merged at gate weights [1, L, N]."""
        transformer = self.checkpoint.transformer
        table = weights[0].numpy().tobytes()
        if table != self._table:
            self._merged = merged_state(transformer, self.checkpoint.experts, weights[0])
            self._table = table
        base = {name: transformer.get_parameter(name).data for name in self._merged}
        try:
            for name, merged in self._merged.items():
                transformer.get_parameter(name).data = merged
            yield
        finally:
            for name, own in base.items():
                transformer.get_parameter(name).data = own
