"""`a2edit-build verify` and `gc` from the outside."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.export.chain import file_hash
from a2edit.export.cli import main
from a2edit.export.settings import BuildSettings
from a2edit.runtime.manifest import FileEntry, read_manifest


def test_a_bundle_verifies_itself_without_its_checkpoint(bundle: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(bundle)])
    assert result.exit_code == 0, result.output
    manifest = read_manifest(bundle)
    for name in (*manifest.engines["cpu"].keys() - {"dit"}, *manifest.routes):
        assert name in result.output
    assert "OVER" not in result.output


@pytest.mark.slow
def test_its_checkpoint_gives_the_same_truth(bundle: Path, checkpoint_folder: Path) -> None:
    own = CliRunner().invoke(main, ["verify", str(bundle)])
    anew = CliRunner().invoke(main, ["verify", str(bundle), "--model", str(checkpoint_folder)])
    assert anew.exit_code == 0, anew.output
    assert anew.stdout == own.stdout
    other = CliRunner().invoke(main, ["verify", str(bundle), "--model", "a2edit-mini"])
    assert other.exit_code == 2
    assert "was built of another checkpoint" in other.stderr


def test_a_route_with_anothers_weights_is_over_tolerance(bundle: Path, tmp_path: Path) -> None:
    """Whole by its hashes, and wrong: only running it shows that."""
    wrong = tmp_path / "wrong"
    shutil.copytree(bundle, wrong)
    manifest = read_manifest(wrong)
    (sets,) = manifest.weight_sets.values()
    first, second = sorted(sets)[:2]
    shutil.copyfile(wrong / sets[second].file, wrong / sets[first].file)
    path = wrong / sets[first].file
    entry = FileEntry(sha256=file_hash(path), bytes=path.stat().st_size)
    replace(manifest, files={**manifest.files, sets[first].file: entry}).write(wrong)
    result = CliRunner().invoke(main, ["verify", str(wrong)])
    assert result.exit_code == 2
    assert f"cpu route {first}: velocity error" in result.stderr
    assert f"route {second}:" not in result.stderr
    assert "OVER" in result.stdout


def test_gc_says_what_it_frees(
    bundle: Path, tiny_settings: Callable[..., BuildSettings], tmp_path: Path
) -> None:
    out = tmp_path / "tiny"
    shutil.copytree(bundle, out)
    cache = tiny_settings(out).cache
    shutil.copytree(tiny_settings(bundle).cache, cache)
    steps = {path.name for path in cache.iterdir()}
    (cache / "graph-dit.fp32-0123456789abcdef01234567").mkdir()
    dry = CliRunner().invoke(main, ["gc", str(tmp_path), "--dry-run"])
    assert dry.exit_code == 0
    assert "graph-dit.fp32-0123456789abcdef01234567  not of tiny's last build" in dry.stdout
    assert dry.stdout.splitlines()[-1].endswith("would be freed")
    real = CliRunner().invoke(main, ["gc", str(out)])
    assert real.stdout.splitlines()[-1].endswith("were freed")
    assert {path.name for path in cache.iterdir()} == steps
    nothing = CliRunner().invoke(main, ["gc", str(tmp_path / "elsewhere")])
    assert nothing.exit_code == 2
    assert "holds no bundle and no cached steps" in nothing.stderr
