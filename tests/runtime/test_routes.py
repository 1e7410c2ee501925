"""Routes from the gate to the pixels: static, merged, under a budget; on real, tiny engines."""

import weakref
from pathlib import Path

import numpy as np
import pytest

from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import BundleError, RequestError
from a2edit.runtime.request import EditRequest
from a2edit.runtime.route_log import read_route_log
from a2edit.runtime.routing import RouteChoice

ONE_SET = 64 * 64 * 4


def request(pictures: Path, reference: str, **changes: object) -> EditRequest:
    values = {
        "image": pictures / "scene.png",
        "mask": pictures / "mask.png",
        "reference": pictures / f"{reference}.png",
        "steps": 2,
    }
    return EditRequest(**(values | changes))  # type: ignore[arg-type]


def test_a_wish_between_the_routes_is_merged_exactly(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        result = editor.edit(request(pictures, "plum"))
        nearest = editor.routes.ranked(result.gate_weights)[0]
        plan = editor.routes.plan(result.gate_weights)
        weight = editor.routes.supply(plan).weight_set.tensors["proj.weight"]
    assert (result.supply, result.warnings) == ("merged", ())
    assert result.route.startswith("merged-")
    assert result.predicted_error < 1e-5 < editor.routes.tolerance < nearest[1]
    np.testing.assert_allclose(result.route_table, result.gate_weights, atol=2**-17)
    assert result.text()["a2edit:supply"] == "merged"
    # sum of w_i a_i, a_i what makes the routes 1, 3/4 and 1/2
    strengths = np.linalg.solve(np.full((3, 3), 0.1) + 0.7 * np.eye(3), [1, 0.75, 0.5])
    np.testing.assert_allclose(weight, np.eye(64) * (result.gate_weights[0] @ strengths), atol=1e-5)


def test_a_routes_own_table_merges_to_the_bytes_that_were_built(bundle: Path) -> None:
    opened = open_bundle(bundle)
    merger = opened.merger("fp32")
    assert merger is not None
    for name, route in opened.manifest.routes.items():
        merged = merger.merge(np.array(route.table, np.float32), name).tensors
        built = opened.weight_set(name, "fp32").tensors
        assert merged.keys() == built.keys()
        for key, array in merged.items():
            assert array.tobytes() == built[key].tobytes()


def test_the_tolerance_decides(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle, route_tolerance=0) as editor:
        assert editor.edit(request(pictures, "red")).supply == "merged"
    with Editor.open(bundle, route_tolerance=2) as editor:
        assert editor.edit(request(pictures, "plum")).supply == "static"
    with pytest.raises(RequestError, match="route tolerance -1"):
        Editor.open(bundle, route_tolerance=-1)


def test_without_experts_a_warning_or_a_refusal(routes_only_bundle: Path, pictures: Path) -> None:
    with Editor.open(routes_only_bundle) as editor:
        result = editor.edit(request(pictures, "plum"))
        assert (result.route, result.supply) == ("red", "static")
        assert "above the tolerance of 30.00%" in result.warnings[0]
        assert editor.edit(request(pictures, "red")).warnings == ()
    with Editor.open(routes_only_bundle, strict_route=True) as editor:
        with pytest.raises(RequestError, match="no experts to merge from: build it without"):
            editor.edit(request(pictures, "plum"))
        assert editor.edit(request(pictures, "red")).supply == "static"


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_thousand_switches_give_the_same_bytes(bundle: Path, backend: str) -> None:
    """Static and merged sets, under a budget of two: outputs and weights never drift."""
    pytest.importorskip(backend)
    rng = np.random.default_rng(0)
    eye = np.eye(3, dtype=np.float32)
    tables = [eye[[k, k]] * np.float32(0.9) + np.float32(0.03) for k in range(3)]
    tables += [rng.random((2, 3)).astype(np.float32) for _ in range(3)]
    pool = EnginePool(open_bundle(bundle), backend=backend)
    with Editor(open_bundle(bundle), pool) as editor:
        editor.routes.limit(2 * ONE_SET)
        spec = pool.get("dit").spec
        given = {s.name: rng.standard_normal(s.shape).astype(np.float32) for s in spec.inputs}

        def outcome(k: int) -> tuple[bytes, bytes]:
            choice = editor.routes.get(tables[k])
            assert choice.supply == ("static" if k < 3 else "merged")
            output = pool.denoiser(choice).run(given)["next_latents"]
            return output.tobytes(), choice.weight_set.tensors["proj.weight"].tobytes()

        first = [outcome(k) for k in range(len(tables))]
        assert len({output for output, _ in first}) == len(tables)
        assert outcome(0) == first[0]
        for k in rng.integers(0, len(tables), 1000).tolist():
            assert outcome(k) == first[k]
            assert editor.routes.nbytes <= 2 * ONE_SET


class CountingBundle(Bundle):
    """Remembers every array that was handed out, and how many lived then."""

    arrays: list[weakref.ref[np.ndarray]]
    alive: list[int]

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle.folder, bundle.manifest)
        object.__setattr__(self, "arrays", [])
        object.__setattr__(self, "alive", [])

    def weight_set(self, route: str, variant: str) -> WeightSet:
        weights = super().weight_set(route, variant)
        array = np.array(weights.tensors["proj.weight"])
        counted = WeightSet(route, {"proj.weight": array})
        self.arrays.append(weakref.ref(array))
        self.alive.append(sum(array() is not None for array in self.arrays))
        return counted


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("room", [1, 2])
def test_no_more_sets_are_alive_than_the_budget_holds(
    bundle: Path, pictures: Path, backend: str, room: int
) -> None:
    pytest.importorskip(backend)
    counting = CountingBundle(open_bundle(bundle))
    pool = EnginePool(counting, backend=backend)
    colours = ["red", "blue", "green", "red", "red", "blue"]
    wanted = [request(pictures, colour) for colour in colours]
    with Editor(counting, pool) as editor:
        editor.routes.limit(room * ONE_SET)
        alone = [editor.edit(one) for one in wanted]
        assert max(counting.alive) == room
        together = editor.edit_many(wanted)
        assert max(counting.alive) == room
    for one, other in zip(alone, together, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
    assert not any(array() is not None for array in counting.arrays)


def test_a_smaller_limit_drops_sets_at_once(bundle: Path, pictures: Path) -> None:
    with Editor.open(bundle) as editor:
        for colour in ("red", "green", "blue"):
            editor.edit(request(pictures, colour, steps=1))
        assert editor.routes.nbytes == 3 * ONE_SET
        editor.routes.limit(ONE_SET)
        assert [weights.name for weights in editor.routes.held] == ["blue"]


def test_a_baked_bundle_merges_into_the_shared_graph(
    bundle: Path, baked_bundle: Path, pictures: Path
) -> None:
    wanted = request(pictures, "plum")
    with Editor.open(bundle) as editor:
        expected = editor.edit(wanted)
    with Editor.open(baked_bundle) as editor:
        editor.routes.limit(ONE_SET)
        assert editor.edit(request(pictures, "red")).supply == "static"
        assert editor.routes.nbytes == 0
        result = editor.edit(wanted)
        assert editor.edit(request(pictures, "blue")).route == "blue"
        assert editor.routes.nbytes == ONE_SET
    assert (result.supply, result.route) == ("merged", expected.route)
    gap = np.asarray(result.image).astype(int) - np.asarray(expected.image)
    assert np.abs(gap).max() <= 1


def test_a_damaged_set_or_source_is_refused_by_name(own_bundle: Path) -> None:
    opened = open_bundle(own_bundle)
    for name in ("weights/routes/red.safetensors", "weights/merge.safetensors"):
        (own_bundle / name).write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"red\.safetensors' is no sound .* build it again"):
        opened.weight_set("red", "fp32")
    with pytest.raises(BundleError, match=r"merge\.safetensors' is no sound .* build it again"):
        Editor(opened, EnginePool(opened))


def test_what_the_gate_asked_for_is_logged(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    log = tmp_path / "routes.jsonl"
    results = []
    for _ in range(2):
        with Editor.open(bundle, route_log=log) as editor:
            results += editor.edit_many([request(pictures, name) for name in ("red", "plum")])
    records = read_route_log(log)
    assert records.checkpoint == editor.bundle.manifest.model.checkpoint_hash
    assert records.routes == tuple(result.route for result in results)
    assert records.supplies == ("static", "merged") * 2
    np.testing.assert_array_equal(records.tables, [result.gate_weights for result in results])
    assert records.predicted_errors.tolist() == [result.predicted_error for result in results]
    for word in (str(pictures), "scene", "prompt", "red.png"):
        assert word not in log.read_text()


def test_a_log_that_cannot_be_written_costs_no_edit(
    bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_log: object, _weights: object, _choice: RouteChoice) -> None:
        raise OSError(28, "No space left on device")

    with Editor.open(bundle, route_log=tmp_path / "log") as editor:
        monkeypatch.setattr("a2edit.runtime.route_log.RouteLog.append", full)
        result = editor.edit(request(pictures, "red"))
    assert "No space left on device" in result.warnings[0]
    with pytest.raises(RequestError, match=r"route log .* cannot be written"):
        Editor.open(bundle, route_log=tmp_path / "nowhere/log")
