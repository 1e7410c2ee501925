"""What a build is asked for, and what else its result depends on."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import a2edit
from a2edit.runtime.errors import RequestError, TargetError

TARGETS = ("cpu",)
MATERIALISE = ("inputs", "baked")
PRECISIONS = ("auto", "fp32", "bf16", "int8")

_TOOLS = (
    "torch",
    "diffusers",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "openvino",
    "numpy",
    "safetensors",
    "scikit-learn",
)
# Our own code whose change may change what a step makes: of all steps, and of the drawn samples.
_BUILD_CODE = ("export/**/*.py", "kernels/*.py", "model/*.py", "runtime/sampler.py")
_SAMPLE_CODE = (
    "calibration/*.py",
    "runtime/layout.py",
    "training/data.py",
    "training/mask*.py",
    "training/shapes.py",
    "training/stages.py",
    "training/scenes/*.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """One build.

    Attributes:
        model: name of an embedded model, or a checkpoint folder.
        out: the bundle's folder; replaced when the build has succeeded.
        routes: K, the most routes to make.
        precision: "auto" takes the fastest that passes verification on this processor.
        materialise: "inputs", one engine that routes are bound to, or "baked", one engine a route.
        target: what the engines run on.
        samples: calibration requests to draw.
        tolerance: predicted route error up to which a static route is good enough.
    """

    model: str
    out: Path
    routes: int = 8
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    materialise: Literal["inputs", "baked"] = "inputs"
    target: str = "cpu"
    samples: int = 64
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.routes < 1:
            raise RequestError(f"--routes is {self.routes}; it must be at least 1")
        if self.samples < 1:
            raise RequestError(f"samples is {self.samples}; it must be at least 1")
        if self.target not in TARGETS:
            raise TargetError(
                f"--target {self.target} is unknown; this version builds for {', '.join(TARGETS)}"
            )
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("materialise", self.materialise, MATERIALISE),
        ):
            if value not in allowed:
                raise RequestError(f"--{name} is {value!r}; allowed: {', '.join(allowed)}")
        if self.out.exists() and not self._replaceable():
            raise RequestError(
                f"--out {self.out} exists and is no bundle (it has no manifest.json); "
                "give a new folder, or one that an earlier build wrote"
            )

    def _replaceable(self) -> bool:
        if not self.out.is_dir():
            return False
        return (self.out / "manifest.json").is_file() or not any(self.out.iterdir())

    @property
    def cache(self) -> Path:
        """Finished steps, beside the bundle, so that they can be renamed and linked."""
        return self.out.parent / f".{self.out.name}.steps"


def tool_versions() -> dict[str, str]:
    """Versions of everything that a bundle's bytes depend on."""
    tools = {name: version(name) for name in _TOOLS}
    return {**tools, "a2edit": version("a2edit"), "python": platform.python_version()}


def build_code_hash() -> str:
    """sha256 over our own code that builds: an edit there is as good as another version."""
    return _hash(_BUILD_CODE)


def sample_code_hash() -> str:
    """sha256 over our own code that draws and measures the calibration set."""
    return _hash(_SAMPLE_CODE)


def _hash(patterns: tuple[str, ...]) -> str:
    root = Path(a2edit.__file__).parent
    total = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
