"""constraints.txt pins what pyproject.toml asks for, and each pin satisfies what was asked."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
# Its libraries come from NVIDIA, built for the driver at hand: the site says which version.
VENDOR = {"tensorrt"}


def asked() -> dict[str, list[Requirement]]:
    """Requirements by extra; the runtime's own under the empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        extra: [r for r in map(Requirement, lines) if r.name != project["name"]]
        for extra, lines in groups.items()
    }


def pinned() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_every_requirement_is_pinned_within_what_is_asked() -> None:
    pins = pinned()
    for extra, requirements in asked().items():
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            if name in VENDOR:
                continue
            assert name in pins, f"extra {extra!r}: {requirement} has no line in constraints.txt"
            assert requirement.specifier.contains(pins[name]), f"{requirement} against {pins[name]}"


def test_the_runtime_asks_for_little() -> None:
    names = {canonicalize_name(requirement.name) for requirement in asked()[""]}
    assert names == {"numpy", "openvino", "safetensors", "tokenizers", "pillow", "click", "rich"}


def test_the_extras_users_were_promised_exist() -> None:
    promised = {"build", "train", "onnxruntime", "rtx", "tensorrt", "serve", "bench", "dev"}
    assert promised <= set(asked())
