"""What a build is asked for, and what else its result depends on."""

from __future__ import annotations

import hashlib
import math
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import a2edit
from a2edit.calibration.policy import PRESETS, Preset
from a2edit.calibration.routes import RouteLimit
from a2edit.runtime.errors import RequestError
from a2edit.runtime.spec import PATCH
from a2edit.runtime.step_cache import FirstBlockCache
from a2edit.runtime.targets import PRECISIONS as TYPES
from a2edit.runtime.targets import Precision, Target, parse_targets

MATERIALISE = ("inputs", "baked")
MERGE_BASES = ("full", "int8")
PRECISIONS = ("auto", *TYPES)
BACKENDS = ("auto", "openvino", "tensorrt_rtx", "tensorrt", "inductor")
MOST_BATCH = 16
# What a manifest says of the calibration set.
GIVEN_DATA, DRAWN_DATA = "given data set", "drawn scenes"

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
# Our own code whose change may change what a step makes: of all steps, of routes, of int8's ranges,
# of the step cache, of the samples.
_BUILD_CODE = (
    "calibration/policy.py",
    "export/**/*.py",
    "kernels/ops.py",
    "kernels/reference.py",
    "kernels/triton/*.py",
    "model/*.py",
    "runtime/engines/inductor.py",
    "runtime/engines/openvino.py",
    "runtime/merge.py",
    "runtime/merge_kernels.py",
    "runtime/metric.py",
    "runtime/sampler.py",
    "runtime/spec.py",
    "runtime/step_cache.py",
    "runtime/targets.py",
    "runtime/tensors.py",
)
_ROUTE_CODE = ("calibration/gram.py", "calibration/report.py", "calibration/routes.py")
_RANGE_CODE = (
    "calibration/base.py",
    "calibration/choice.py",
    "calibration/evidence.py",
    "calibration/policy.py",
    "calibration/probe.py",
    "calibration/ranges.py",
    "calibration/sharing.py",
    "calibration/smoothing.py",
)
_CACHE_CODE = ("calibration/step_cache.py",)
_SAMPLE_CODE = (
    "calibration/samples.py",
    "calibration/trac*.py",
    "runtime/layout.py",
    "training/data.py",
    "training/datasets/*.py",
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
        routes: K, the most routes to make; `DEFAULT_ROUTES` unless another limit is given.
        route_error: instead of K, a bound on predicted errors (`RouteLimit`).
        routes_budget: instead of K, bytes for weight sets.
        precision: of the denoiser on every target; "auto" leaves it to `preset`.
        preset: what is traded for what (`calibration.policy`); None: lossless on a CPU, the
            fastest that passes verification on this processor, and balanced on a GPU.
        materialise: "inputs", one engine that routes are bound to, or "baked", one engine a route.
        target: what the engines run on, several joined by commas.
        backend: what compiles them; "auto" is the target's own.
        calibration: a UniEdit folder or its shards; drawn scenes when None.
        samples: calibration requests.
        tolerance: predicted route error up to which a static route is good enough.
        from_log: logs of traffic, whose gate tables join the calibration set's for the routes.
        routes_only: leave out what other routes could be merged from.
        merge_base: how the bundle stores the base that other routes are merged from: "full", as
            the checkpoint does, or "int8", with a scale a row, where the velocity bears it.
        lift: glob patterns of routed linears that stay in high precision, such as
            "single_transformer_blocks.*.proj_out"; their base too.
        accept_quality: go on where engines do not repeat the model, and write down what failed.
        sizes: sides in pixels that engines take besides the checkpoint's own.
        batch: most samples in one run of an engine.
        fused_kernels: engines of inductor for GPUs run our Triton kernels between products.
        jobs: steps that are done at a time where they do not need each other.
        step_cache: build the denoiser in two as well, so that edits may skip the tail of steps,
            with the threshold that they take unless told otherwise; None for without.
    """

    model: str
    out: Path
    routes: int | None = None
    route_error: float | None = None
    routes_budget: int | None = None
    precision: Literal["auto"] | Precision = "auto"
    preset: Preset | None = None
    materialise: Literal["inputs", "baked"] = "inputs"
    target: str = "cpu"
    backend: str = "auto"
    calibration: Path | None = None
    samples: int = 64
    tolerance: float = 0.01
    routes_only: bool = False
    merge_base: Literal["full", "int8"] = "full"
    lift: tuple[str, ...] = ()
    accept_quality: bool = False
    sizes: tuple[int, ...] = ()
    batch: int = 1
    jobs: int = 1
    fused_kernels: bool = False
    from_log: tuple[Path, ...] = ()
    step_cache: FirstBlockCache | None = None

    def __post_init__(self) -> None:
        _ = self.limit
        if self.jobs < 1:
            raise RequestError(f"--jobs is {self.jobs}; it must be at least 1")
        if not 1 <= self.batch <= MOST_BATCH:
            raise RequestError(f"--batch is {self.batch}; it must be between 1 and {MOST_BATCH}")
        if wrong := [side for side in self.sizes if side < PATCH or side % PATCH]:
            raise RequestError(
                f"--sizes has {', '.join(map(str, wrong))}; sides are multiples of {PATCH} pixels"
            )
        if self.samples < 1:
            raise RequestError(f"--samples is {self.samples}; it must be at least 1")
        if not 0 <= self.tolerance < math.inf:
            raise RequestError(
                f"--route-tolerance is {self.tolerance}; it must be 0 or more, such as 0.01"
            )
        if self.calibration is not None and not self.calibration.exists():
            raise RequestError(
                f"--calibration {self.calibration} does not exist; give a UniEdit folder or shards"
            )
        _ = self.targets
        if self.step_cache and self.materialise == "baked":
            raise RequestError(
                "--cache and --materialise baked do not go together: head and tail of the denoiser "
                "take a route's weights as inputs; leave out one of the two"
            )
        if self.routes_only and self.merge_base != "full":
            raise RequestError(
                f"--merge-base {self.merge_base} and --routes-only do not go together: without "
                "base and experts there is no base to store; leave out one of the two"
            )
        if self.preset is not None and self.precision != "auto":
            raise RequestError(
                f"--preset {self.preset} and --precision {self.precision} both say what to compute "
                "in: give one of them"
            )
        for name, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("materialise", self.materialise, MATERIALISE),
            ("merge-base", self.merge_base, MERGE_BASES),
            ("preset", self.preset, (None, *PRESETS)),
            ("backend", self.backend, BACKENDS),
        ):
            if value not in allowed:
                known = ", ".join(word for word in allowed if word)
                raise RequestError(f"--{name} is {value!r}; allowed: {known}")
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
    def targets(self) -> tuple[Target, ...]:
        """What to build for; raises TargetError for an unknown one."""
        return parse_targets(self.target)

    @property
    def limit(self) -> RouteLimit:
        """How many routes to make; raises RequestError if two limits are given, or none holds."""
        return RouteLimit(self.routes, self.route_error, self.routes_budget)

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


def route_code_hash() -> str:
    """sha256 over our own code that makes routes of gate tables."""
    return _hash(_ROUTE_CODE)


def range_code_hash() -> str:
    """sha256 over our own code that chooses what becomes int8, and how."""
    return _hash(_RANGE_CODE)


def cache_code_hash() -> str:
    """sha256 over our own code that measures what a step cache costs."""
    return _hash(_CACHE_CODE)


def sample_code_hash() -> str:
    """sha256 over our own code that draws and measures the calibration set."""
    return _hash(_SAMPLE_CODE)


def _hash(patterns: tuple[str, ...]) -> str:
    root = Path(a2edit.__file__).parent
    total = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
