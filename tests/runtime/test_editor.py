"""The editor over real, tiny, closed-form engines."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array, WeightSet
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.engines.recording import RecordingEngine
from a2edit.runtime.errors import TargetError
from a2edit.runtime.masks import feathered
from a2edit.runtime.request import EditRequest
from a2edit.runtime.sampler import CONTEXT, noise, sigmas

Outputs = dict[str, Array]


def request(pictures: Path, reference: str = "red", **changes: object) -> EditRequest:
    values = {
        "image": pictures / "scene.png",
        "mask": pictures / "mask.png",
        "reference": pictures / f"{reference}.png",
        "prompt": "a red chair",
    }
    return EditRequest(**(values | changes))  # type: ignore[arg-type]


def test_an_edit_is_the_closed_form(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        result = editor.edit(request(pictures, steps=3, seed=5))
        assert result.prepared is not None
        encode = editor.engines.get("vae_encoder").run
        canvas, mask = result.prepared.canvas[None], result.prepared.mask[None]
        picture = encode({"pixels": canvas, "mask": mask})["conditioning"][..., :64]
    table = np.linspace(-0.1, 0.1, 28).reshape(7, 4).astype(np.float32)
    text = table[[2, 3, 6, 0, 0, 0]].mean()
    pooled = table[[2, 3, 6, 0, 0]].mean()
    reference = (result.prepared.reference / 255).mean() * 3 / 4
    levels = sigmas(3, 8)
    x = noise(5, (1, 2, 4, 64))
    for step in range(3):
        wanted = picture * 1.0 + text + pooled + reference + 0.03 + levels[step] / 1000
        x = x + (levels[step + 1] - levels[step]) * (x - wanted)
    cells = x.reshape(2, 4, 64)[:, 2:, :48].reshape(2, 2, 4, 4, 3)
    small = cells.transpose(0, 2, 1, 3, 4).reshape(8, 8, 3)
    target = np.clip(np.round((small + 1) * 127.5), 0, 255)
    x0, y0, x1, y1 = (getattr(result.window, name) for name in ("x0", "y0", "x1", "y1"))
    expected = Image.fromarray(np.repeat(np.repeat(target, 4, 0), 4, 1).astype(np.uint8))
    fitted = np.asarray(expected.resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS))
    inside = np.asarray(result.image)[y0:y1, x0:x1].astype(int)
    on = result.prepared.source_mask[y0:y1, x0:x1] == 255
    assert np.abs(inside - fitted)[on].max() <= 2  # rounding at one half, then resized


class RecordingPool(EnginePool):
    """Every engine remembers what it was given, and works as before."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.order: list[str] = []
        self.recorded: dict[str, RecordingEngine] = {}

    def get(self, name: str) -> RecordingEngine:
        if name not in self.recorded:
            inner = super().get(name)

            def compute(inputs: Mapping[str, Array], weights: Mapping[str, Array]) -> Outputs:
                self.order.append(name)
                if weights:
                    inner.bind(WeightSet("recorded", weights))
                return inner.run(inputs)

            self.recorded[name] = RecordingEngine(inner.spec, compute)
        return self.recorded[name]


def test_every_graph_gets_what_the_specification_says(bundle: Path, pictures: Path) -> None:
    opened = open_bundle(bundle)
    pool = RecordingPool(opened)
    with Editor(opened, pool) as editor:
        result = editor.edit(request(pictures, "blue", steps=4, seed=11))
    encoders = ["vae_encoder", "image_encoder", "text_encoder", "pooled_encoder"]
    assert pool.order == [*encoders, "gate", *["modulation"] * 4, *["dit"] * 4, "vae_decoder"]
    dit, levels = pool.recorded["dit"], sigmas(4, 8)
    assert dit.binds == ["blue"] * 4
    np.testing.assert_array_equal(dit.runs[0]["latents"], noise(11, (1, 2, 4, 64)))
    for step, given in enumerate(dit.runs):
        assert given["delta"] == levels[step + 1] - levels[step]
        for name in CONTEXT:
            np.testing.assert_array_equal(given[name], dit.runs[0][name])
    for step, asked in enumerate(pool.recorded["modulation"].runs):
        assert asked["sigma"] == levels[step]
        assert asked["guidance"] == np.float32(opened.manifest.sampler.guidance)
        # the closed form: what is told of the noise level, in each step its own
        assert dit.runs[step]["modulation"][0, 1] == levels[step]
    (gate,) = pool.recorded["gate"].runs
    assert gate.keys() == {"conditioning", "text_tokens", "reference_tokens"}  # no noise, no time
    (encoded,) = pool.recorded["vae_encoder"].runs
    assert not encoded["mask"][..., : opened.manifest.model.size].any()  # the reference's panel
    assert result.timings.keys() >= {"prepare", "encode", "gate", "modulate", "denoise", "decode"}


def test_outside_of_the_seam_every_pixel_is_the_sources(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        result = editor.edit(request(pictures))
    source = np.asarray(Image.open(pictures / "scene.png"))
    weight = feathered(np.asarray(Image.open(pictures / "mask.png")))
    edited = np.asarray(result.image)
    assert edited.shape == source.shape
    np.testing.assert_array_equal(edited[weight == 0], source[weight == 0])
    assert (edited[weight == 255] != source[weight == 255]).mean() > 0.9


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_the_gate_picks_the_route(bundle: Path, pictures: Path, colour: str) -> None:
    with Editor.open(bundle) as editor:
        result = editor.edit(request(pictures, colour))
    assert result.route == colour
    assert 0 < result.predicted_error < 1
    assert result.gate_weights.shape == (2, 3)
    assert result.route_table.shape == (2, 3)
    assert (result.route_table.argmax(axis=1) == ["red", "green", "blue"].index(colour)).all()


def test_switching_routes_and_back_repeats_every_byte(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        first, other, again = (
            editor.edit(request(pictures, colour)) for colour in ("red", "blue", "red")
        )
        assert {first.supply, other.supply, again.supply} == {"static"}
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != other.image.tobytes()


def test_seeds(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        one, same, two = (editor.edit(request(pictures, seed=seed)) for seed in (1, 1, 2))
    assert one.image.tobytes() == same.image.tobytes()
    assert one.image.tobytes() != two.image.tobytes()


def test_the_result_tells_its_story(bundle: Path, pictures: Path) -> None:
    seen = []
    with Editor.open(bundle) as editor:
        result = editor.edit(request(pictures, seed=9), lambda done, of: seen.append((done, of)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    stages = "load prepare encode gate route modulate denoise decode compose"
    assert list(result.timings) == stages.split()
    assert (result.seed, result.steps) == (9, 4)
    assert result.bundle_hash == editor.bundle.manifest.bundle_hash
    assert result.warnings == ()


def test_a_long_prompt_is_cut_with_a_warning(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        result = editor.edit(request(pictures, prompt="a red chair " * 5))
    assert "longer than 6 tokens" in result.warnings[0]


def test_engines_agree(bundle: Path, baked_bundle: Path, pictures: Path) -> None:
    pytest.importorskip("onnxruntime")
    results = []
    for folder, engine in ((bundle, "auto"), (bundle, "onnxruntime"), (baked_bundle, "auto")):
        with Editor.open(folder, engine=engine) as editor:
            results.append(np.asarray(editor.edit(request(pictures, "green")).image).astype(int))
    for other in results[1:]:
        assert np.abs(results[0] - other).max() <= 1


def test_a_baked_bundle_reads_no_weight_sets(baked_bundle: Path, pictures: Path) -> None:
    with Editor.open(baked_bundle) as editor:
        assert editor.engines.baked
        result = editor.edit(request(pictures, "blue"))
        assert result.route == "blue"
        assert editor.routes.nbytes == 0


def test_another_openvino_means_compiling_the_graphs(
    bundle: Path, pictures: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Editor.open(bundle) as editor:
        expected = editor.edit(request(pictures)).image.tobytes()
    monkeypatch.setattr("a2edit.runtime.engines.openvino.backend_version", lambda: "1999.1")
    with Editor.open(bundle) as editor:
        assert editor.edit(request(pictures)).image.tobytes() == expected
    assert "compiling its graph instead" in caplog.text


def test_unknown_devices_and_engines_are_refused(bundle: Path) -> None:
    with pytest.raises(TargetError, match="device 'gpu' is unknown: use cpu"):
        Editor.open(bundle, device="gpu")
    with pytest.raises(TargetError, match="use auto, openvino, onnxruntime"):
        Editor.open(bundle, engine="tpu")


def test_the_pool_opens_an_engine_once(bundle: Path) -> None:
    with Editor.open(bundle) as editor:
        assert isinstance(editor.engines, EnginePool)
        assert editor.engines.get("gate") is editor.engines.get("gate")


def test_what_a_build_accepted_comes_with_every_result(
    make_bundle: Callable[..., Path], pictures: Path, tmp_path: Path
) -> None:
    figure = "route red: relative error 5.0e-02, allowed 2e-02"
    folder = make_bundle(tmp_path / "tiny", verification={"cpu": {"accepted": [figure]}})
    with Editor.open(folder) as editor:
        result = editor.edit(request(pictures, "red", steps=1))
    assert result.warnings == (f"this bundle was built with --accept-quality, though {figure}",)


def test_a_modulation_is_computed_once_a_prompt_and_schedule(bundle: Path, pictures: Path) -> None:
    opened = open_bundle(bundle)
    pool = RecordingPool(opened)
    runs = []
    with Editor(opened, pool) as editor:
        for prompt, steps in (("a", 4), ("a", 4), ("red", 4), ("red", 3), ("a", 4)):
            given = request(pictures, steps=steps, prompt=prompt)
            result = editor.edit(given)
            runs.append(len(pool.recorded["modulation"].runs))
            with Editor.open(bundle) as fresh:
                assert fresh.edit(given).image.tobytes() == result.image.tobytes()
    assert np.diff(runs, prepend=0).tolist() == [4, 0, 4, 3, 4]
