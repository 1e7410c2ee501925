"""Where a bundle's routes are merged: on the processor, or on a GPU that has room for the base."""

import logging
import threading

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.bundle import Bundle
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory.ledger import Ledger
from a2edit.runtime.merge_device import DeviceMerger, merges_all, resident_bytes
from a2edit.runtime.merge_kernels import MergeKernelEntry

BASE = "base and experts"  # in the ledger

log = logging.getLogger(__name__)


class Merging:
    """Merges routes of `bundle` for a variant of its denoiser, on a target. Thread-safe.

    Attributes:
        peak_bytes: that a merge takes of the target's memory beside the set, without `gpu_bytes`;
            None: the bundle has nothing to merge from.
        gpu_bytes: that base and experts take on a GPU, from the first merge there on; 0: it cannot
            merge, since the bundle has no kernels for it, or they do not load.
    """

    def __init__(self, bundle: Bundle, variant: str, target: str) -> None:
        self._bundle = bundle
        self._weights = bundle.manifest.graphs["dit"][variant].weights
        self._merger = bundle.merger(variant)
        self._lock = threading.Lock()
        self._on_gpu: DeviceMerger | None = None
        self._kernels: tuple[MergeKernelEntry, ...] = ()
        self.peak_bytes: int | None = None
        self.gpu_bytes = 0
        if self._merger is None:
            return
        # the processor merges in memory of its own, which is not the GPU's
        self.peak_bytes = self._merger.peak_bytes if target == "cpu" else 0
        kernels = bundle.manifest.merge_kernels.get(target, ())
        if kernels and merges_all(self._merger, kernels):
            self._kernels = kernels
            self.gpu_bytes = resident_bytes(self._merger, kernels)

    def merge(
        self, table: NDArray[np.floating], name: str, ledger: Ledger, *, on_gpu: bool
    ) -> WeightSet:
        """The weight set `name` for a table R[L, N]; on the GPU if that is wanted and possible.

        Raises DeviceMemoryError where the GPU has no room.
        """
        assert self._merger is not None
        if on_gpu and self.gpu_bytes:
            with self._lock:  # nobody closes it meanwhile
                device = self._device_merger(ledger)
                if device is not None:
                    return device.merge(table, name)
        with ledger.passing("merging", self.peak_bytes or 0):
            weights = self._merger.merge(table, name)
            self._merger.rest()
        return weights

    def leave_gpu(self, ledger: Ledger) -> None:
        """Free what lies on the GPU; the next merge there copies it again."""
        with self._lock:
            if self._on_gpu is not None:
                self._on_gpu.close()
                self._on_gpu = None
                ledger.release(BASE)

    def _device_merger(self, ledger: Ledger) -> DeviceMerger | None:
        assert self._merger is not None
        if self._on_gpu is None:
            try:
                self._on_gpu = DeviceMerger(
                    self._merger, self._weights, self._kernels, self._bundle.folder
                )
            except EngineError as error:
                log.warning("routes are merged on the processor: %s", str(error))
                self.gpu_bytes = 0
                return None
            ledger.hold(BASE, self._on_gpu.nbytes)
        return self._on_gpu
