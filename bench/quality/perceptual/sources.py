"""Where the networks' weights are; known without torch, so that a run without them stays light."""

from dataclasses import dataclass
from pathlib import Path

FLAGS = {"CLIP-I": "clip", "DINO-I": "dino", "LPIPS": "lpips", "FID": "fid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Folders or hub ids, and files; None leaves a metric out."""

    clip: str | None = None
    dino: str | None = None
    lpips: Path | None = None
    fid: Path | None = None

    def missing(self) -> list[str]:
        """Metrics that are left out."""
        return [metric for metric, flag in FLAGS.items() if getattr(self, flag) is None]
