"""The manifest's round trip, and every way in which a bundle can be wrong."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.engines.base import GraphSpec
from a2edit.runtime.engines.recording import RecordingEngine
from a2edit.runtime.errors import BundleError, TargetError
from a2edit.runtime.manifest import (
    canonical_hash,
    file_bytes,
    manifest_from_json,
    read_manifest,
)

FILES = [
    "manifest.json",
    "graphs/dit.onnx",
    "graphs/gate.onnx",
    "weights/routes/red.safetensors",
    "weights/merge.safetensors",
    "engines/cpu/dit.blob",
    "engines/cpu/vae_decoder.blob",
    "tokenizer/text.json",
]


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest's content and give it the hash that fits."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    content["bundle_hash"] = canonical_hash(content)
    path.write_bytes(file_bytes(content))


def test_the_manifest_round_trips(bundle: Path, tmp_path: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest_from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    written = manifest.write(tmp_path)
    assert written == manifest.bundle_hash
    assert (tmp_path / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()


def test_a_bundle_opens(bundle: Path) -> None:
    opened = open_bundle(bundle)
    weights = opened.weight_set("green", "fp32")
    assert weights.tensors["proj.weight"][3, 3] == pytest.approx(0.75, rel=1e-6)
    assert weights.tensors["proj.weight"].flags.writeable
    assert weights.nbytes == 64 * 64 * 4
    with pytest.raises(BundleError, match="no weight set 'pink' for fp32; it has blue, green, red"):
        opened.weight_set("pink", "fp32")


def test_one_flipped_bit_in_any_file_is_seen(own_bundle: Path) -> None:
    listed = {path for path in own_bundle.rglob("*") if path.is_file()}
    assert {own_bundle / name for name in FILES} <= listed
    for path in sorted(listed):
        data = path.read_bytes()
        for place in (0, len(data) // 2, len(data) - 2):
            damaged = bytearray(data)
            damaged[place] ^= 4
            path.write_bytes(damaged)
            with pytest.raises(BundleError, match=path.name):
                open_bundle(own_bundle)
        path.write_bytes(data[:-1])
        with pytest.raises(BundleError, match=path.name):
            open_bundle(own_bundle)
        path.write_bytes(data)
    open_bundle(own_bundle)


def test_even_another_space_in_the_manifest_is_seen(own_bundle: Path) -> None:
    path = own_bundle / "manifest.json"
    data = path.read_bytes()
    for old, new in ((b"\n ", b"\n\t"), (b": 30.0", b": 30e0"), (b"\n", b"\r\n")):
        assert old in data
        path.write_bytes(data.replace(old, new, 1))
        with pytest.raises(BundleError, match=r"manifest\.json"):
            open_bundle(own_bundle)


def test_missing_and_surplus_files(own_bundle: Path) -> None:
    (own_bundle / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=r"notes\.txt' does not belong"):
        open_bundle(own_bundle)
    (own_bundle / "notes.txt").unlink()
    (own_bundle / "graphs/gate.onnx").unlink()
    with pytest.raises(BundleError, match=r"gate\.onnx' is missing"):
        open_bundle(own_bundle)
    (own_bundle / "manifest.json").unlink()
    with pytest.raises(BundleError, match="is not a bundle"):
        open_bundle(own_bundle)
    with pytest.raises(BundleError, match="does not exist: build one"):
        open_bundle(own_bundle / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(schema_version=2), "schema version 2, and this a2edit reads 6"),
        (lambda c: c.pop("schema_version"), "schema version None"),
        (lambda c: c.update(extra=1), "unknown keys: extra"),
        (lambda c: c["sampler"].update(shift=1), "sampler has unknown keys: shift"),
        (lambda c: c["model"].pop("size"), "model lacks size"),
        (lambda c: c["model"].update(size=0), "model.size is 0"),
        (lambda c: c["model"].update(batch=0), "model.batch is 0: must be 1 or more"),
        (lambda c: c["model"].update(sizes=[16, 40]), r"model.sizes is \[16, 40\]: must be multip"),
        (lambda c: c["model"].update(sizes=[48]), r"model.sizes is \[48\]: .* hold model.size, 32"),
        (lambda c: c["model"].update(layout="triptych"), "known are diptych, redux"),
        (lambda c: c["graphs"].pop("gate"), "graphs lacks gate"),
        (lambda c: c["tokenizers"].pop("pooled"), "tokenizers lacks pooled"),
        (lambda c: c["weight_sets"]["fp32"].pop("red"), "weight_sets.fp32 lacks red"),
        (lambda c: c["weight_sets"].pop("fp32"), "weight_sets lacks fp32"),
        (lambda c: c["engines"]["cpu"]["gate"].update(variant="int4"), "of gate 'int4', which"),
        (lambda c: c["sampler"].update(steps="16"), "sampler.steps is '16': it must be a whole"),
        (lambda c: c["sampler"].update(guidance=None), "guidance is None: it must be a number"),
        (lambda c: c["tokenizers"]["text"].update(file=1), "text.file is 1: it must be text"),
        (lambda c: c["model"].update(sizes=32), "model.sizes is 32: it must be a list"),
        (lambda c: c["route_metric"].update(energy=0), "energy is 0: it must be above 0"),
        (lambda c: c.update(merge_kernels={"cpu": {}}), "kernels.cpu is {}: it must be a list"),
        (lambda c: c.update(merge_kernels={"sm80": []}), "kernels.sm80 is of a target that has"),
        (lambda c: c.update(merge_kernels={"cpu": [{}]}), "merge_kernels.cpu lacks base, columns"),
        (lambda c: c.update(routes={}), "there are no routes"),
        (lambda c: c.update(routes=[]), "routes must be an object"),
        (lambda c: c["routes"]["red"]["table"].pop(), "not 2 rows of 3"),
        (lambda c: c["route_metric"]["gram"].pop(), "not for 2 blocks of 3 experts"),
        (lambda c: c["files"].pop("graphs/dit.onnx"), "named but not listed: graphs/dit.onnx"),
        (
            lambda c: c["graphs"]["dit"]["fp32"]["inputs"][0].update(dtype="int4"),
            "known are float32",
        ),
    ],
)
def test_manifests_that_make_no_sense(
    own_bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite(own_bundle, change)
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(own_bundle)
    assert "manifest.json" in str(caught.value)


def test_bf16_where_the_processor_lacks_it(
    own_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OldProcessor:
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    from a2edit.runtime.engines import openvino
    from a2edit.runtime.engines.pool import EnginePool

    monkeypatch.setattr(openvino, "_core", OldProcessor)
    opened = open_bundle(own_bundle)
    engines = {
        name: replace(entry, precision="bf16")
        for name, entry in opened.manifest.engines["cpu"].items()
    }
    changed = replace(opened, manifest=replace(opened.manifest, engines={"cpu": engines}))
    with pytest.raises(TargetError, match=r"this processor lacks .*FP32, INT8"):
        EnginePool(changed).get("gate")


@pytest.mark.parametrize("kind", ["bundle", "baked_bundle"])
def test_a_graph_that_is_compiled_here_keeps_its_own_precision(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    from a2edit.runtime.engines import openvino
    from a2edit.runtime.engines.pool import EnginePool

    asked = {}

    def compiled(spec: GraphSpec, _path: Path, precision: str) -> RecordingEngine:
        asked[spec.name] = precision
        return RecordingEngine(spec, lambda *_: {})

    opened = open_bundle(request.getfixturevalue(kind))
    engines = {
        name: replace(entry, version="1999.1", precision="bf16" if "dit" in name else "fp32")
        for name, entry in opened.manifest.engines["cpu"].items()
    }
    monkeypatch.setattr(openvino, "engine_from_onnx", compiled)
    changed = replace(opened, manifest=replace(opened.manifest, engines={"cpu": engines}))
    EnginePool(changed).open_all()
    assert asked.pop("dit") == "bf16"
    assert asked.keys() == opened.manifest.graphs.keys() - {"dit"}
    assert set(asked.values()) == {"fp32"}
