"""Whole builds: what a bundle holds, resuming after a kill, rebuilding to the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from a2edit.export import verify
from a2edit.export.build import build
from a2edit.export.chain import Chain, Silent
from a2edit.export.settings import BuildSettings
from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.errors import EngineError
from a2edit.runtime.manifest import read_manifest

Settings = Callable[..., BuildSettings]


class Recorder(Silent):
    """Progress that remembers which steps were done and which were found."""

    def __init__(self) -> None:
        self.steps: dict[str, bool] = {}

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
    assert manifest.precision["routed_weights"] == {"float32": manifest.precision["routed_linears"]}
    for figures in manifest.verification.values():
        for name, figure in figures.items():
            assert figure["relative_error"] <= figure["tolerance"], name
    assert set(manifest.verification["routes"]) == set(manifest.routes)
    page = (bundle / "report/index.html").read_text(encoding="utf-8")
    assert all(route in page for route in manifest.routes)
    assert "http" not in page  # self-contained


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_bundle(
    bundle: Path, checkpoint_folder: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    out = tmp_path / "else/where"
    script = f"""
from pathlib import Path
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
build(BuildSettings(model={str(checkpoint_folder)!r}, out=Path({str(out)!r}), routes=3, samples=8,
                    precision="fp32"), Silent())
"""
    cache = tiny_settings(out).cache
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 120
    try:
        while not any(cache.glob("graph-text_encoder-*")) and time.monotonic() < deadline:
            assert process.poll() is None, "the build ended before it could be killed"
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not out.exists()
    recorder = Recorder()
    build(tiny_settings(out), recorder)
    assert recorder.steps["traces"]
    assert recorder.steps["graph-text_encoder"]
    assert not recorder.steps["graph-dit"]
    assert not list(cache.glob(".doing-*"))
    assert contents(out) == contents(bundle)


@pytest.mark.slow
def test_other_settings_reuse_what_they_share(
    bundle: Path, tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random weights a few dozen wide average out less than a trained model's do.
    monkeypatch.setitem(verify.TOLERANCE, "int8", 0.1)
    out = tmp_path / "tiny"
    settings = tiny_settings(out, precision="int8", routes=1)
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    recorder = Recorder()
    build(settings, recorder)
    redone = {step for step, reused in recorder.steps.items() if not reused}
    assert {"ranges", "graph-dit", "engine-dit", "routes", "verify"} <= redone
    assert not {"shared", "traces", "graph-gate", "engine-gate"} & redone
    manifest = open_bundle(out).manifest
    linears = manifest.precision["routed_linears"]
    # Counted in the graph: all but the first block's feed-forward.
    assert manifest.precision["routed_weights"] == {"float32": 2, "int8": linears - 2}
    assert manifest.precision["graphs"]["gate"] == "fp32"
    (figure,) = manifest.verification["routes"].values()
    assert 1e-3 < figure["relative_error"] <= 0.1  # int8, and not silently fp32

    # The same folder again, baked: it is replaced as a whole.
    build(tiny_settings(out, precision="int8", routes=1, materialise="baked"), Silent())
    manifest = open_bundle(out).manifest
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
    figures = {"gate": verify.Figure(1e-7, 1e-5), "route vehicles": verify.Figure(2e-3, 1e-5)}
    with pytest.raises(
        EngineError, match=r"route vehicles: relative error 2\.0e-03, allowed 1e-05"
    ):
        verify.check(figures)
    with pytest.raises(EngineError):
        verify.check({"dit": verify.Figure(float("nan"), 1e-5)})


def test_manifest_is_read_back_as_it_was(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert manifest.to_json()["bundle_hash"] == manifest.bundle_hash
