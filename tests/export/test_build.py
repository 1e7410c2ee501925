"""Whole builds: what a bundle holds, resuming after a kill, rebuilding to the same bytes."""

import fnmatch
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from a2edit.calibration import policy
from a2edit.export.build import build
from a2edit.export.chain import Chain, Silent
from a2edit.export.cli import main
from a2edit.export.quality import Figure
from a2edit.export.settings import BuildSettings
from a2edit.export.source import Source, data_hash
from a2edit.export.steps.calibrate import read_traces
from a2edit.export.steps.keyed import Steps
from a2edit.export.verify import check
from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import EngineError, RequestError
from a2edit.runtime.manifest import RouteEntry, read_manifest
from a2edit.runtime.route_log import RouteLog
from a2edit.runtime.routing import RouteChoice

Settings = Callable[..., BuildSettings]


class Recorder(Silent):
    """Progress that remembers which steps were done and which were found."""

    def __init__(self) -> None:
        self.steps: dict[str, bool] = {}
        self.places: list[tuple[int, int]] = []

    def at(self, step: str, place: int, total: int) -> None:
        self.places.append((place, total))

    def done(self, step: str, size: int, seconds: float, *, reused: bool) -> None:
        assert size >= 0
        assert seconds >= 0
        self.steps[step] = reused


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_bundle_holds_what_its_manifest_says(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest  # compares every hash
    assert manifest.name == "a2edit-tiny"
    assert set(manifest.engines["cpu"]) == set(manifest.graphs)
    assert 1 <= len(manifest.routes) <= 3
    assert sum(route.members for route in manifest.routes.values()) == 8
    counted = {"fp32": {"float32": manifest.precision["routed_linears"]}}
    assert manifest.precision["routed_weights"] == counted
    verified = manifest.verification["cpu"]
    assert verified["runner"] == "openvino"
    assert "accepted" not in verified
    for name, figure in {**verified["graphs"], **verified["routes"]}.items():
        assert figure["relative_error"] <= figure["tolerance"], name
    for figure in verified["routes"].values():
        assert figure["pictures"]["mask"]["psnr_db"] >= figure["least_psnr_db"] == 50
    assert set(manifest.verification["cpu"]["routes"]) == set(manifest.routes)
    calibration = manifest.calibration
    assert calibration is not None
    assert len(calibration.categories) == 8
    tables = load_file(bundle / calibration.file)["tables"]
    assert tables.shape == (8, manifest.model.blocks, manifest.model.experts)
    routes = np.array([route.table for route in manifest.routes.values()])
    errors = manifest.route_metric.metric.errors(tables, routes).min(1)
    predicted = sum(route.members * route.predicted_error for route in manifest.routes.values())
    assert predicted == pytest.approx(float(errors.sum()), rel=1e-5)
    assert manifest.route_metric.tolerance == 0.01
    page = (bundle / "report/index.html").read_text(encoding="utf-8")
    assert all(route in page for route in manifest.routes)
    assert "http" not in page  # self-contained


_KILLED = """
import os, random, signal, sys, time
from pathlib import Path
import diffusers, torch, transformers  # once, and not once a build
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings

class Telling(Silent):
    def start(self, step):
        print(step, flush=True)

chance = random.Random(int(sys.argv[3]))
for last in sorted(chance.sample(range(1, 29), 10)):  # of some 31 steps
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setsid()  # compilers of the build are killed with it
        os.dup2(writing, 1)
        build(BuildSettings(model=sys.argv[1], out=Path(sys.argv[2]), routes=3, samples=8,
                            precision="fp32", jobs=2), Telling())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as steps:
        begun = [line for _, line in zip(range(last), steps)]
        time.sleep(chance.uniform(0, 0.3))
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the build ended before it could be killed"
    print(len(begun), begun[-1].strip(), flush=True)
"""


@pytest.mark.slow
def test_killed_ten_times_and_resumed_it_is_the_same_bundle(
    bundle: Path, checkpoint_folder: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    """Each kill lies somewhere in a later step than the last; two steps are done at a time."""
    out = tmp_path / "else/where"
    command = [sys.executable, "-c", _KILLED, str(checkpoint_folder), str(out), "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    kills = done.stdout.splitlines()
    assert len(kills) == 10
    assert not out.exists()
    cache = tiny_settings(out).cache
    recorder = Recorder()
    build(tiny_settings(out, jobs=2), recorder)
    assert recorder.steps["traces"]
    assert recorder.steps["graph-text_encoder.fp32"]
    assert not list(cache.glob(".doing-*"))
    assert contents(out) == contents(bundle)  # which was built one step at a time


@pytest.mark.slow
def test_other_settings_reuse_what_they_share(
    bundle: Path,
    tiny_settings: Settings,
    merges_to_the_built_bytes: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Random weights a few dozen wide average out less than a trained model's do.
    monkeypatch.setitem(policy.TOLERANCE, "int8", 0.1)
    out = tmp_path / "tiny"
    settings = tiny_settings(out, precision="int8", routes=1)
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    recorder = Recorder()
    build(settings, recorder)
    redone = {step for step, reused in recorder.steps.items() if not reused}
    assert {"ranges-int8", "graph-dit.int8", "engine-cpu-dit", "merge-source", "routes"} <= redone
    found = {"shared", "traces-0000", "traces", "graph-gate.fp32", "engine-cpu-gate"}
    assert not (found | {"metric"}) & redone
    manifest = open_bundle(out).manifest
    linears = manifest.precision["routed_linears"]
    # Counted in the graph: all but those that the policy lifted.
    counted = manifest.precision["routed_weights"]["int8"]
    chosen = manifest.precision["ranges"]["int8"]
    assert counted["int8"] == linears - len(chosen["lifted"]) > linears / 2
    assert chosen["error"] <= 0.1
    assert manifest.precision["targets"]["cpu"]["gate"] == "fp32"
    (figure,) = manifest.verification["cpu"]["routes"].values()
    assert 1e-3 < figure["relative_error"] <= 0.1  # int8, and not silently fp32

    merges_to_the_built_bytes(out)

    # The same folder again, baked and with its routes only: it is replaced as a whole.
    build(
        tiny_settings(out, precision="int8", routes=1, materialise="baked", routes_only=True),
        Silent(),
    )
    manifest = open_bundle(out).manifest
    assert manifest.merge is None
    assert not (out / "weights/merge.safetensors").exists()
    (route,) = manifest.routes
    assert "dit" not in manifest.engines["cpu"]
    assert manifest.engines["cpu"][f"dit.{route}"].materialise == "baked"
    assert not (out / "engines/cpu/dit.blob").exists()


def test_a_damaged_step_is_done_again(tmp_path: Path) -> None:
    recorder = Recorder()
    chain = Chain(tmp_path / "steps", recorder)
    chain.open()

    def work(folder: Path) -> None:
        (folder / "file").write_bytes(b"content")

    made = chain.run("one", {"a": 1}, work)
    assert chain.run("one", {"a": 1}, work) == made
    assert recorder.steps.pop("one")
    (made.folder / "file").write_bytes(b"cOntent")
    assert chain.run("one", {"a": 1}, work) == made
    assert not recorder.steps["one"]
    assert (made.folder / "file").read_bytes() == b"content"
    assert chain.run("one", {"a": 2}, work).key != made.key


def test_a_failing_step_leaves_nothing(tmp_path: Path) -> None:
    chain = Chain(tmp_path / "steps", Silent())
    chain.open()

    def work(folder: Path) -> None:
        (folder / "half").write_bytes(b"")
        raise EngineError("no")

    with pytest.raises(EngineError):
        chain.run("one", {}, work)
    assert not list((tmp_path / "steps").iterdir())


def test_over_tolerance_fails_and_names_the_route() -> None:
    figures = {"gate": Figure(1e-7, 1e-5), "route vehicles": Figure(2e-3, 1e-5)}
    with pytest.raises(
        EngineError, match=r"route vehicles: relative error 2\.0e-03, allowed 1e-05"
    ):
        check(figures)
    with pytest.raises(EngineError):
        check({"dit": Figure(float("nan"), 1e-5)})


def test_manifest_is_read_back_as_it_was(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.to_json()["bundle_hash"] == manifest.bundle_hash


def steps_of(settings: BuildSettings, folder: Path) -> tuple[Steps, Recorder]:
    recorder = Recorder()
    chain = Chain(settings.cache, recorder)
    chain.open()
    return Steps(settings, Source(folder), chain), recorder


def test_traces_are_done_part_by_part(
    bundle: Path, checkpoint_folder: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    settings = tiny_settings(tmp_path / "tiny", samples=10)
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    steps, recorder = steps_of(settings, checkpoint_folder)
    found = read_traces(steps.traces().folder)
    # The first eight were traced by another build.
    assert recorder.steps == {"traces-0000": True, "traces-0008": False, "traces": False}
    assert recorder.places == [(9, 10), (10, 10)]
    assert found.tables.shape[0] == len(found.categories) == 10
    ten = found.tables[:8].tobytes()
    assert ten == load_file(bundle / "calibration/tables.safetensors")["tables"].tobytes()


def test_a_data_set_is_calibrated_on_in_place_of_drawn_scenes(
    checkpoint_folder: Path,
    tiny_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from a2edit.training.datasets import DrawnScenes, write_samples
    from a2edit.training.datasets.draw import export_source

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "index"))
    data = tmp_path / "data"
    write_samples(data, export_source(DrawnScenes(), 8, 96, "train"))
    settings = tiny_settings(tmp_path / "tiny", samples=2, calibration=data)
    steps, recorder = steps_of(settings, checkpoint_folder)
    traces = steps.traces()
    assert len(read_traces(traces.folder).categories) == 2
    drawn, _ = steps_of(tiny_settings(tmp_path / "tiny", samples=2), checkpoint_folder)
    assert drawn.traces().key != traces.key
    assert steps.traces() == traces
    assert recorder.steps["traces-0000"]
    # A file of it changes, and so may all that follows.
    before = data_hash(data)
    os.utime(next(data.rglob("*.json")), ns=(0, 0))
    assert data_hash(data) != before
    shard = next(data.rglob("*.json"))
    assert data_hash(shard) != data_hash(data)
    with pytest.raises(RequestError, match="does not exist"):
        tiny_settings(tmp_path / "tiny", calibration=tmp_path / "nowhere")


@pytest.mark.slow
def test_traffic_gets_a_route_of_its_own(
    bundle: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    before = open_bundle(bundle).manifest
    asked = 2 * load_file(bundle / "calibration/tables.safetensors")["tables"][0][:, ::-1]
    with RouteLog(tmp_path / "log", before.model.checkpoint_hash) as log:
        for _ in range(4):
            log.append(asked, RouteChoice(WeightSet("x", {}), "x", 0.5, "merged", asked))
    out = tmp_path / "tiny"
    settings = tiny_settings(out, from_log=(tmp_path / "log",))
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    recorder = Recorder()
    build(settings, recorder)
    assert {"traces", "metric", "merge-source"} <= {
        k for k, found in recorder.steps.items() if found
    }
    assert not recorder.steps["routes"]
    after = open_bundle(out).manifest
    metric = before.route_metric.metric

    def nearest(routes: Mapping[str, RouteEntry]) -> float:
        tables = np.array([route.table for route in routes.values()])
        return float(metric.errors(asked[None], tables).min())

    assert nearest(before.routes) > 0.01
    assert nearest(after.routes) < 1e-5
    assert sum(route.members for route in after.routes.values()) == 8 + 4
    # What users asked for stays out of what may be handed on.
    assert len(load_file(out / "calibration/tables.safetensors")["tables"]) == 8


@pytest.mark.slow
def test_what_is_out_of_tolerance_is_refused_with_its_layers_or_accepted_and_written_down(
    bundle: Path, tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INT8 held to an error that it cannot have, after ranges were chosen for one that it can."""
    monkeypatch.setitem(policy.TOLERANCE, "int8", 0.1)
    out, lifted = tmp_path / "tiny", "single_transformer_blocks.*.attn.to_q"
    shutil.copytree(tiny_settings(bundle).cache, tiny_settings(out).cache)
    options: dict[str, Any] = {"precision": "int8", "routes": 1, "lift": (lifted,)}
    monkeypatch.setitem(policy.LEAST_PSNR_DB, "int8", 99)
    named = r"errors of their own: \S+ \(\S+, by calibration \S+ of the velocity\), .*--lift '"
    with pytest.raises(EngineError, match=rf"99 dB needed.*{named}"):
        build(tiny_settings(out, **options), Silent())
    assert not out.exists()
    build(tiny_settings(out, **options, accept_quality=True), Silent())
    manifest = open_bundle(out).manifest
    verified = manifest.verification["cpu"]
    (accepted,) = verified["accepted"]
    assert accepted.startswith("route ")
    assert "99 dB needed" in accepted
    errors = {layer["name"]: layer["own"] for layer in verified["layers"]}
    assert len(errors) == manifest.precision["routed_linears"]
    kept = [name for name in errors if fnmatch.fnmatch(name, lifted)]
    assert max(errors[name] for name in kept) < 1e-5 < max(errors.values())
    chosen = manifest.precision["ranges"]["int8"]["lifted"]
    assert {chosen[name]["why"] for name in kept} == {"as asked for"}
    page = (out / "report/index.html").read_text(encoding="utf-8")
    assert "Accepted out of tolerance" in page
    assert "data:image/png;base64," in page
    shown = CliRunner().invoke(main, ["inspect", str(out)])
    assert "accepted     route" in shown.output
    assert CliRunner().invoke(main, ["verify", str(out)]).exit_code == 0
    with pytest.raises(RequestError, match=r"--lift 'nothing\.\*' matches no routed linear"):
        build(tiny_settings(out, precision="int8", lift=("nothing.*",)), Silent())
