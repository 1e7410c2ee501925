"""Built ahead or merged on demand, a route's weights are the same bytes (SPEC §11.1)."""

import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from a2edit.calibration.routes import Route
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.change import build_command, read_bundle_routes
from a2edit.export.cli import main
from a2edit.export.plan import plan_build
from a2edit.export.quality import Figure
from a2edit.export.settings import BuildSettings
from a2edit.export.source import Source
from a2edit.export.steps.merge import (
    MERGE_FILE,
    read_merge_entry,
    save_merge_source,
    save_weight_set,
)
from a2edit.export.verify import MergedError, check
from a2edit.export.weights import TensorFile
from a2edit.kernels.reference import quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.part_files import PartFiles
from a2edit.model.peft_files import ExpertFiles
from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.engines.base import TensorSpec
from a2edit.runtime.errors import EngineError
from a2edit.runtime.manifest import read_manifest


def test_merged_on_demand_is_built_ahead(
    bundle: Path, merges_to_the_built_bytes: Callable[[Path], None]
) -> None:
    merges_to_the_built_bytes(bundle)


def test_what_is_merged_from_is_stored_as_the_checkpoint_is(
    bundle: Path, checkpoint: Checkpoint
) -> None:
    # The checkpoint on disk is fp16, so its values are held by half the bytes of what is computed.
    with safe_open(bundle / "weights/merge.safetensors", "np") as stored:
        names = set(stored.keys())
        assert {stored.get_slice(name).get_dtype() for name in names} == {"F16"}
        for linear in checkpoint.linears:
            pair = checkpoint.experts.pair(linear.name)
            weight = checkpoint.transformer.get_parameter(f"{linear.name}.weight")
            for part, tensor in (("weight", weight), ("A", pair.A), ("B", pair.B)):
                found = stored.get_tensor(f"{linear.name}.{part}")
                assert np.array_equal(found.astype(np.float32), tensor.detach().numpy())
                names.remove(f"{linear.name}.{part}")
    assert not names


def test_int8_sets_are_the_merge_quantised_last(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    source = Source(checkpoint_folder)
    save_merge_source(tmp_path / "source", source)
    table = np.full((checkpoint.blocks, 8), 0.3, np.float32)
    route = Route("even", table, 1, 0.0)
    taken = {linear.name for linear in checkpoint.linears[1:]}
    full, small = [], []
    for linear in checkpoint.linears:
        shape = (linear.out_features, linear.in_features)
        full.append(TensorSpec(f"{linear.name}.weight", "float32", shape))
        dtype = "int8" if linear.name in taken else "float32"
        small.append(TensorSpec(f"{linear.name}.weight", dtype, shape))
        if linear.name in taken:
            small.append(TensorSpec(f"{linear.name}.scale", "float32", shape[:1]))
    found: list[dict[str, np.ndarray]] = []
    for kind in (full, small, small):
        folder = tmp_path / f"{len(found)}"
        folder.mkdir()
        save_weight_set(folder, tmp_path / "source", kind, route)
        found.append(load_file(folder / "even.safetensors"))
    plain, quantised, _ = found
    truth = merged_state(checkpoint.transformer, checkpoint.experts, torch.from_numpy(table))
    for name, tensor in truth.items():
        np.testing.assert_allclose(plain[name], tensor.numpy(), rtol=0, atol=1e-6)
        linear_name = name.removesuffix(".weight")
        if linear_name in taken:
            levels, scales = quantise_rows(plain[name])
            np.testing.assert_array_equal(quantised[name], levels)
            np.testing.assert_array_equal(quantised[f"{linear_name}.scale"], scales)
        else:
            np.testing.assert_array_equal(quantised[name], plain[name])
            assert f"{linear_name}.scale" not in quantised
    first, second = ((tmp_path / f"{place}/even.safetensors").read_bytes() for place in (1, 2))
    assert first == second


def test_the_entry_says_which_row_of_a_table_a_linear_reads(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    save_merge_source(tmp_path, Source(checkpoint_folder))
    entry = read_merge_entry(tmp_path, MERGE_FILE)
    assert entry.scale == checkpoint.experts.scale
    assert entry.blocks == {linear.name: linear.block for linear in checkpoint.linears}


def test_the_source_is_read_a_linear_at_a_time(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    most, write = 0, TensorFile.write

    def watched(self: TensorFile, name: str, array: np.ndarray) -> None:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in held))
        write(self, name, array)

    def noted(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*arguments: Any) -> Any:
            found = read(*arguments)
            held.extend(map(weakref.ref, found if isinstance(found, tuple) else (found,)))
            return found

        return reading

    monkeypatch.setattr(TensorFile, "write", watched)
    for files in (PartFiles, ExpertFiles):
        monkeypatch.setattr(files, "read", noted(files.read))
    monkeypatch.delattr(Checkpoint, "load")
    save_merge_source(tmp_path, Source(checkpoint_folder))
    assert len(held) == 3 * len(checkpoint.linears)
    assert most == 3


def test_mixed_types_are_stored_in_one_that_holds_both(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint_folder, folder)
    path = folder / "experts/expert_02/adapter_model.safetensors"
    name = checkpoint.linears[0].name
    mine = {f"base_model.model.{name}.lora_{letter}.weight" for letter in "AB"}
    save_torch({k: v.bfloat16() if k in mine else v for k, v in load_torch(path).items()}, path)
    save_merge_source(tmp_path, Source(folder))
    loaded = Checkpoint.load(folder)
    with safe_open(tmp_path / MERGE_FILE, "np") as stored:
        for linear in checkpoint.linears:
            pair = loaded.experts.pair(linear.name)
            for part, tensor in (("A", pair.A), ("B", pair.B)):
                found = stored.get_tensor(f"{linear.name}.{part}")
                assert found.dtype == ("float32" if linear.name == name else "float16")
                assert np.array_equal(found.astype(np.float32), tensor.numpy())


class Steps(Silent):
    """Progress that remembers which steps were done anew."""

    def __init__(self) -> None:
        self.done_anew: set[str] = set()

    def done(self, step: str, size: int, seconds: float, *, reused: bool) -> None:
        if not reused:
            self.done_anew.add(step)


@pytest.fixture(scope="module")
def small_base(
    bundle: Path,
    tiny_settings: Callable[..., BuildSettings],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, set[str]]:
    """The bundle with its base in 8 bits but for one linear, and the steps that were not found."""
    settings = tiny_settings(
        tmp_path_factory.mktemp("small") / "tiny", merge_base="int8", lift=("*.0.proj_out",)
    )
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    steps = Steps()
    build(settings, steps)
    return settings.out, steps.done_anew


LIFTED = "single_transformer_blocks.0.proj_out"


def test_only_what_is_merged_on_demand_has_a_base_in_8_bits(
    bundle: Path, small_base: tuple[Path, set[str]]
) -> None:
    small, steps = small_base
    assert steps == {"merge-base", "verify-cpu"}
    whole, files = read_manifest(bundle), read_manifest(small).files
    differ = {name for name, entry in whole.files.items() if files[name] != entry}
    assert differ == {"weights/merge.safetensors", "report/index.html"}
    full = load_file(bundle / "weights/merge.safetensors")
    found = load_file(small / "weights/merge.safetensors")
    for name in open_bundle(small).manifest.merge.blocks:  # type: ignore[union-attr]
        for part in ("A", "B"):
            assert found.pop(f"{name}.{part}").tobytes() == full[f"{name}.{part}"].tobytes()
        weight = found.pop(f"{name}.weight")
        if name == LIFTED:
            assert weight.tobytes() == full[f"{name}.weight"].tobytes()
            continue
        levels, scales = quantise_rows(full[f"{name}.weight"])
        assert weight.tobytes() == levels.tobytes()
        assert found.pop(f"{name}.base_scale").tobytes() == scales.tobytes()
    assert not found


def test_routes_merged_from_a_base_in_8_bits_are_verified_beside_those_built_ahead(
    bundle: Path, small_base: tuple[Path, set[str]]
) -> None:
    manifest = open_bundle(small_base[0]).manifest
    about, figures = manifest.precision["merge_base"], manifest.verification["cpu"]
    assert about["lifted"] == {LIFTED: {"error_alone": None, "why": "as asked for"}}
    assert len(about["eight"]) == manifest.precision["routed_linears"] - 1
    assert figures["routes"] == read_manifest(bundle).verification["cpu"]["routes"]
    assert figures["merged"].keys() == manifest.routes.keys()
    for route, figure in figures["merged"].items():
        assert figures["routes"][route]["relative_error"] < 1e-5
        assert 1e-4 < figure["relative_error"] < figure["tolerance"] == 2e-2
        assert figure["relative_error"] < 3 * about["error"]
    page = (small_base[0] / "report/index.html").read_text(encoding="utf-8")
    assert "21 of 22 routed linears have theirs rounded" in page
    assert "merged" not in read_manifest(bundle).verification["cpu"]
    assert "merge_base" not in read_manifest(bundle).precision


def test_a_bundle_says_that_its_base_is_in_8_bits(small_base: tuple[Path, set[str]]) -> None:
    small, _ = small_base
    printed = CliRunner().invoke(main, ["inspect", str(small)], env={"COLUMNS": "140"}).output
    (share,) = (line for line in printed.splitlines() if line.startswith("past routes"))
    assert "% of its base in int8)" in share
    assert "The same routes, merged on demand" in printed
    assert "--merge-base int8" in build_command(
        read_bundle_routes(small), Path("elsewhere"), [], None
    )
    again = CliRunner().invoke(main, ["verify", str(small)], env={"COLUMNS": "140"})
    assert again.exit_code == 0, again.output
    for route in read_manifest(small).routes:
        assert f"merged route {route}" in again.output


def test_a_dry_run_says_what_a_base_in_8_bits_takes_at_least_and_at_most(
    bundle: Path,
    small_base: tuple[Path, set[str]],
    tiny_settings: Callable[..., BuildSettings],
    tmp_path: Path,
) -> None:
    plan = plan_build(tiny_settings(tmp_path / "new", merge_base="int8"))
    (item,) = (it for it in plan.items if it.name == "weights/merge.safetensors")
    made = (small_base[0] / item.name).stat().st_size
    assert item.least is not None
    assert item.least < made < item.bytes == (bundle / item.name).stat().st_size


@pytest.mark.slow
def test_baked_engines_leave_what_is_merged_to_the_graph(
    bundle: Path, tiny_settings: Callable[..., BuildSettings], tmp_path: Path
) -> None:
    options = {"materialise": "baked", "merge_base": "int8", "routes": 1}
    settings = tiny_settings(tmp_path / "tiny", **options)
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    build(settings, Silent())
    (figure,) = read_manifest(settings.out).verification["cpu"]["merged"].values()
    assert 1e-4 < figure["relative_error"] < 2e-2
    again = CliRunner().invoke(main, ["verify", str(settings.out)])
    assert again.exit_code == 0, again.output


def test_a_base_that_costs_too_much_fails_the_build_and_says_what_to_do() -> None:
    over, fine = Figure(3e-2, 2e-2), Figure(1e-6, 1e-5)
    with pytest.raises(MergedError, match=r"merged route red: .*Build with --merge-base full, or"):
        check({"route red": fine, "merged route red": over})
    with pytest.raises(EngineError, match="with --merge-base full and --precision fp32, or") as it:
        check({"route red": over, "merged route red": over})
    assert not isinstance(it.value, MergedError)
    assert check({"merged route red": over}, accept=True) == [f"merged route red: {over.over}"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--merge-base", "int8", "--routes-only"], "--merge-base int8 and --routes-only do not"),
        (["--merge-base", "int4"], "'int4' is not one of 'full', 'int8'"),
    ],
)
def test_what_cannot_be_asked_of_a_base(options: list[str], says: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["engines", "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not list(tmp_path.iterdir())
