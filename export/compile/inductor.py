"""Exported programs → AOTInductor packages (.pt2): for this processor, or for the GPU at hand.

A package is code and a few tables: weights and parameters stay in the bundle's own files. Every one
is compiled in a process of its own, and in a folder of its own: out of torch's cache, which builds
share by default, came a library that computed something else. The folder's name is taken out of the
library again, so that the same program gives the same bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2edit.export.compile.layers import SUFFIX, LayerTypes, pair
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.engines.inductor import DESCRIPTION, Package, instructions, torch_module
from a2edit.runtime.errors import EngineError, TargetError
from a2edit.runtime.targets import Target

if TYPE_CHECKING:
    import torch

    from a2edit.export.program import Program

# Of AOTInductor: thin calls need no optimising, which takes as long as all kernels do; the number
# of threads is the runner's; names that do not change; no tables of lines.
_OPTIONS = {
    "aot_inductor.package": True,
    "aot_inductor.compile_wrapper_opt_level": "O0",
    "aot_inductor.model_name_for_generated_files": "graph",
    "aot_inductor.enable_line_tables": False,
    "cpp.dynamic_threads": True,
}
# Of a package, what loads and runs; sources are left out.
_KEPT = (".so", ".json", ".cubin", ".fatbin")
# The name of a note in a library, in front of which stand its lengths and its kind.
_BUILD_ID = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
_PRODUCTS = {
    "linear": ("linear", "matmul", "bmm", "baddbmm", "addmm", "mm", "_int_mm", "_scaled_mm"),
    "convolution": ("conv2d", "conv_transpose2d", "convolution"),
    "attention": ("scaled_dot_product_attention",),
}
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float8_e4m3fn": "fp8"}


def check_inductor(target: Target) -> None:
    """Raises TargetError where this machine cannot compile for `target`."""
    torch = torch_module()
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise TargetError(
            f"inductor needs a C++ compiler to build with, and there is no {compiler}: install g++ "
            "or clang (CXX names another), or use another --backend"
        )
    if target.device == "cuda" and not torch.cuda.is_available():
        raise TargetError(
            f"inductor builds for the GPU at hand, and torch {torch.__version__} finds none: build "
            f"for {target.name} on a machine that has one, with a torch for CUDA, or use another "
            "--backend"
        )


def engine_from_program(program: Program, engine: Path, target: Target) -> None:
    """Compile a program, write its engine, and <engine's stem>.layers.json beside it.

    Args:
        program: as `program_from_module` gives it; it is used up.
        engine: file to write, <graph>.pt2.
        target: this processor, or the GPU at hand.

    Raises:
        EngineError: AOTInductor, or the C++ compiler, refuses the program.
    """
    import torch

    name = program.spec.name
    layer_types(program.exported).write(engine.with_name(engine.stem + SUFFIX))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.pt2"
        program.exported._example_inputs = None  # noqa: SLF001 # as many bytes as the model has
        torch.export.save(program.exported, file)
        job = {
            "program": str(file),
            "engine": str(engine),
            "description": _description(program, target),
            "device": target.device,
            "folder": folder,
        }
        done = subprocess.run(  # noqa: S603 # ourselves
            [sys.executable, "-m", __name__, json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/cache"},
        )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise EngineError(f"graph {name}: inductor cannot compile it: {lines[-1]}")


def _description(program: Program, target: Target) -> str:
    """What `Package.of` reads."""
    spec = program.spec
    taken = (TensorSpec(it.spec.name, it.taken, it.spec.shape) for it in program.parameters)
    package = Package(
        device=target.device,
        needs=instructions() if target.device == "cpu" else (),
        inputs=(*spec.inputs, *spec.weights, *taken),
        outputs=spec.outputs,
        parameters=tuple(it.spec for it in program.parameters),
    )
    return json.dumps(asdict(package), sort_keys=True)


def layer_types(program: torch.export.ExportedProgram) -> LayerTypes:
    """Products of a program by the types of their operands; AOTInductor does not tell its own."""
    counts = {kind: Counter[str]() for kind in _PRODUCTS}
    for node in program.graph.nodes:
        name = getattr(node.target, "_opname", "")
        for kind, names in _PRODUCTS.items():
            if name in names:
                first = 1 if name in {"addmm", "baddbmm"} else 0
                operands = node.args[first : first + 2]
                counts[kind][pair(*(_type_of(operand) for operand in operands))] += 1
    return LayerTypes(
        source="network",
        linear=dict(counts["linear"]),
        convolution=dict(counts["convolution"]),
        attention=dict(counts["attention"]),
    )


def _type_of(node: Any) -> str:
    name = str(node.meta["val"].dtype).removeprefix("torch.")
    return _NAMES.get(name, name)


def _compile(program: str, engine: str, description: str, device: str, folder: str) -> None:
    import torch
    from torch._inductor import aot_compile

    from a2edit.export.compile.attention import fastest_attention

    exported = torch.export.load(program)
    if device == "cuda":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    inputs = set(exported.graph_signature.user_inputs)
    examples = tuple(
        node.meta["val"]
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in inputs
    )
    options: Mapping[str, Any] = {
        **_OPTIONS,
        "aot_inductor.metadata": {DESCRIPTION: description},
    }
    # a processor's programs repeat byte for byte, which a choice by time would not
    kernel = (
        fastest_attention(exported, torch.device(device)) if device == "cuda" else nullcontext()
    )
    with kernel:
        files = aot_compile(exported.module(check_guards=False), examples, options=dict(options))
    assert isinstance(files, list)
    _package([Path(str(file)) for file in files], Path(engine), Path(folder))


def _package(files: Sequence[Path], engine: Path, folder: Path) -> None:
    """Put what loads and runs into one file; `folder` is for what is written on the way."""
    from torch._inductor.package.package import package_aoti
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    kept = []
    for file in files:
        if file.suffix in _KEPT:
            data = file.read_bytes()
            kept.append(folder / file.name)
            kept[-1].write_bytes(
                _without_paths(data, cache_dir()) if file.suffix == ".so" else data
            )
    # the archive's own folder is named after its file
    whole = folder / engine.name
    package_aoti(str(whole), list(map(str, kept)))
    part = engine.with_suffix(".part")
    shutil.copyfile(whole, part)
    part.replace(engine)


def _without_paths(library: bytes, folder: str) -> bytes:
    """The library without the name of the folder that it was compiled in, and without its id.

    The name stands in messages of failed checks, the id is a hash over it. Offsets stay.
    """
    name = folder.encode()
    library = library.replace(name, b"." * len(name))
    start = library.find(_BUILD_ID)
    if start < 0:
        return library
    first = start + len(_BUILD_ID)
    return library[:first] + bytes(20) + library[first + 20 :]


if __name__ == "__main__":
    _compile(**json.loads(sys.argv[1]))
