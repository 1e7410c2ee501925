"""What an editor takes in memory: foreseen from a manifest, planned for, and counted."""

from a2edit.runtime.memory.process import peak_resident_mb, status_mb

__all__ = ["peak_resident_mb", "status_mb"]
