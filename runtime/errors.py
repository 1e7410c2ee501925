"""Everything that a2edit raises on purpose.

A2EditError
├── RequestError           a picture, mask, box, prompt or setting that cannot be edited
├── CheckpointError        a checkpoint folder that is missing, broken or of an unknown kind
├── DataError              a data set that is missing, damaged, or of another layout
├── BundleError            a bundle that is missing, damaged, or of another schema version
├── TargetError            a device, backend or precision that this machine does not offer
├── DeviceMemoryError      an engine that does not fit
└── EngineError            an engine that failed to compile or run

A message says what failed, what was given, what is allowed and what to do. The command line
prints it as one line and exits 2; a traceback of an ``A2EditError`` is a bug.
"""


class A2EditError(Exception):
    """The root: catch this one to catch every refusal of a2edit."""


class RequestError(A2EditError, ValueError):
    """The request cannot be carried out as asked."""


class CheckpointError(A2EditError):
    """The checkpoint cannot be read."""


class DataError(A2EditError):
    """A data set, or one of its samples, cannot be read or written."""


class BundleError(A2EditError):
    """The bundle cannot be trusted or understood."""


class TargetError(A2EditError):
    """The machine lacks the device, backend or precision that was asked for."""


class DeviceMemoryError(A2EditError, MemoryError):
    """An engine or its weights do not fit into the device's memory."""


class EngineError(A2EditError, RuntimeError):
    """The backend refused a graph, a weight or a run."""
