"""a2edit-run: files in, files out; one line, exit code 2 and nothing left behind otherwise."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from a2edit.runtime.cli import main
from a2edit.runtime.route_log import read_route_log


def run(pictures: Path, bundle: Path, *changes: str, without: Sequence[str] = ()) -> Result:
    """Run with sound options, then `changes`; the later of two options counts."""
    options = {
        "--image": "scene.png",
        "--mask": "mask.png",
        "--reference": "red.png",
        "--out": "out.png",
    }
    arguments = ["--bundle", str(bundle)]
    for name, file in options.items():
        if name not in without:
            arguments += [name, str(pictures / file)]
    return CliRunner().invoke(main, [*arguments, *changes], catch_exceptions=False)


def test_an_edit(pictures: Path, bundle: Path) -> None:
    result = run(pictures, bundle, "--seed", "3", "--steps", "2", "--prompt", "a red chair")
    assert result.exit_code == 0, result.output
    assert "route red" in result.stdout
    with Image.open(pictures / "out.png") as image:
        assert image.size == (120, 90)
        text = {key: value for key, value in image.info.items() if str(key).startswith("a2edit:")}
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert text.pop("a2edit:predicted_error").startswith("0.")
    assert text == {
        "a2edit:route": "red",
        "a2edit:supply": "static",
        "a2edit:seed": "3",
        "a2edit:steps": "2",
        "a2edit:bundle": manifest["bundle_hash"],
    }


def test_the_same_seed_gives_the_same_file_in_a_new_process(pictures: Path, bundle: Path) -> None:
    files = []
    for seed in (3, 3, 4):
        code = "from a2edit.runtime.cli import main; main()"
        arguments = ["--image", "scene.png", "--mask", "mask.png", "--reference", "red.png"]
        arguments += ["--out", "out.png", "--seed", str(seed), "--bundle", str(bundle)]
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, cwd=pictures)
        files.append((pictures / "out.png").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_explain_and_sheet(pictures: Path, bundle: Path) -> None:
    result = run(pictures, bundle, "--explain", "--sheet", str(pictures / "sheet.png"))
    assert result.exit_code == 0, result.output
    for word in (
        "window",
        "predicted error",
        "denoise",
        "compose",
        "static, built ahead",
        "next nearest",
    ):
        assert word in result.stdout
    with Image.open(pictures / "sheet.png") as sheet:
        assert sheet.width > 4 * 256


def test_explain_names_experts_route_and_the_next_nearest(pictures: Path, bundle: Path) -> None:
    result = run(pictures, bundle, "--explain", "--steps", "1")
    words = " ".join(result.stdout.split())
    assert "experts woken 0 at 100.0%, 1 at 0.0%, 2 at 0.0% (mean weight" in words
    assert "red (static, built ahead), predicted error 24.480%, within the tolerance" in words
    assert re.search(r"next nearest (green|blue) 120\.817%, (green|blue) 120\.817%", words)

    plum = ("--reference", str(pictures / "plum.png"))
    result = run(pictures, bundle, "--explain", "--steps", "1", *plum)
    words = " ".join(result.stdout.split())
    assert re.search(r"experts woken 0 at 5\d\.\d%, 2 at 4\d\.\d%, 1 at 0.0%", words)
    merged = (
        "(merged for this request), predicted error 0.000%, as the nearest route, red, is above"
    )
    assert f"{merged} the tolerance of 30" in words
    assert re.search(r"nearest red \d+\.\d+%, blue \d+\.\d+%, green", words)


def test_how_routes_are_served(pictures: Path, bundle: Path, routes_only_bundle: Path) -> None:
    log = pictures / "routes.jsonl"
    budget = ("--memory-budget", "64MiB")
    result = run(pictures, bundle, "--route-tolerance", "0", "--route-log", str(log), *budget)
    assert result.exit_code == 0, result.output
    assert "(merged), predicted error 0.00%" in result.stdout
    plan = "memory: every engine stays open, up to 3 weight sets stay in memory; at most "
    assert result.stderr.startswith(plan)
    assert "MiB of 64.0 MiB foreseen" in result.stderr
    assert read_route_log(log).supplies == ("merged",)

    plum = ("--reference", str(pictures / "plum.png"))
    result = run(pictures, routes_only_bundle, *plum)
    assert result.exit_code == 0
    assert "warning: the nearest route, red, has a predicted error of" in result.stderr
    (pictures / "out.png").unlink()
    result = run(pictures, routes_only_bundle, *plum, "--strict-route")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the nearest route, red, has a predicted error of")
    assert result.stderr.count("\n") == 1
    assert not (pictures / "out.png").exists()


def test_boxes_resized_masks_and_other_formats(pictures: Path, bundle: Path) -> None:
    boxes = ("--box", "5,5,30,40", "--box", "60,20,100,70")
    result = run(pictures, bundle, *boxes, "--out", str(pictures / "o.jpg"), without=["--mask"])
    assert result.exit_code == 0, result.output
    Image.open(pictures / "mask.png").resize((240, 180)).save(pictures / "big.png")
    resized = ("--mask", str(pictures / "big.png"), "--resize-mask")
    result = run(pictures, bundle, *resized, "--engine", "openvino", "--device", "cpu")
    assert result.exit_code == 0, result.output


def bad_files(pictures: Path, bundle: Path) -> None:
    """Every file that the cases below speak of, beside the good ones."""
    (pictures / "broken.png").write_bytes((pictures / "scene.png").read_bytes()[:500])
    (pictures / "text.png").write_text("not a picture")
    Image.new("L", (120, 90)).save(pictures / "black.png")
    Image.new("L", (100, 90), 255).save(pictures / "small.png")
    for name in ("damaged", "future", "partial"):
        shutil.copytree(bundle, pictures / name)
    blob = pictures / "damaged/engines/cpu/dit.blob"
    data = bytearray(blob.read_bytes())
    data[len(data) // 3] ^= 1
    blob.write_bytes(data)
    manifest = pictures / "future/manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 6', '"schema_version": 9'))
    (pictures / "partial/tokenizer/text.json").unlink()


CASES = [
    (["--image", "none.png"], "image 'none.png' does not exist"),
    (["--mask", "none.png"], "mask 'none.png' does not exist"),
    (["--reference", "none.png"], "reference 'none.png' does not exist"),
    (["--reference-mask", "none.png"], "reference mask 'none.png' does not exist"),
    (["--image", "broken.png"], "image 'broken.png' is damaged"),
    (["--reference", "text.png"], "reference 'text.png' is not an image"),
    (["--mask", "."], "mask '.' is a folder"),
    (["--mask", "black.png"], "mask 'black.png' is empty"),
    (["--reference-mask", "black.png"], "reference mask 'black.png' is 120x90, but reference"),
    (["--mask", "small.png"], "mask 'small.png' is 100x90, but image"),
    (
        ["--box", "100,10,130,40"],
        "box 100,10,130,40 lies outside of image 'scene.png', which is 120x90",
    ),
    (["--box", "1,2,3"], "box '1,2,3' is not x0,y0,x1,y1"),
    (["--box", "9,9,9,20"], "box"),
    (["--steps", "0"], "steps must be between 1 and 1000, got 0"),
    (["--size", "48"], "size 48 is none that this bundle was built for; it has 32: take one of"),
    (["--steps", "many"], "'many' is not a valid integer"),
    (["--seed", "-1"], "seed must be between"),
    (["--out", "nowhere/out.png"], "the folder 'nowhere' does not exist"),
    (["--out", "out.xyz"], "--out 'out.xyz' has the suffix '.xyz'"),
    (["--sheet", "nowhere/sheet.png"], "the folder 'nowhere' does not exist"),
    (["--sheet", "out.png"], "--out and --sheet are both"),
    (["--bundle", "nowhere"], "bundle 'nowhere' does not exist"),
    (["--bundle", "."], "'.' is not a bundle"),
    (["--bundle", "damaged"], "dit.blob' does not match its hash"),
    (["--bundle", "future"], "schema version 9, and this a2edit reads 6"),
    (["--bundle", "partial"], "text.json' is missing"),
    (["--device", "abacus"], "device 'abacus' is unknown"),
    (["--engine", "abacus"], "engine 'abacus' is unknown"),
    (["--route-tolerance", "-1"], "route tolerance -1.0 must be 0 or more"),
    (["--route-tolerance", "nan"], "route tolerance nan must be 0 or more"),
    (
        ["--memory-budget", "1kB"],
        "memory budget 1000 B is less than any plan for this bundle takes",
    ),
    (["--memory-budget", "lots"], "'lots' is no size"),
    (["--route-log", "nowhere/log"], "route log 'nowhere/log' cannot be written"),
    (["--route-log", "."], "route log '.' cannot be written"),
    (["--out-dir", "."], "--out-dir goes with --jobs"),
    (["--jobs", "none.jsonl"], "--image is for one edit and does not go with --jobs"),
    (["--frobnicate"], "No such option"),
]


@pytest.mark.parametrize(("change", "message"), CASES, ids=[" ".join(case[0]) for case in CASES])
def test_refusals(
    pictures: Path,
    bundle: Path,
    change: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad_files(pictures, bundle)
    monkeypatch.chdir(pictures)
    before = sorted(pictures.rglob("*"))
    arguments = ["--image", "scene.png", "--mask", "mask.png", "--reference", "red.png"]
    arguments += ["--out", "out.png", "--bundle", str(bundle), *change]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert sorted(pictures.rglob("*")) == before


@pytest.mark.parametrize("option", ["--image", "--reference", "--out", "--mask"])
def test_what_is_needed(pictures: Path, bundle: Path, option: str) -> None:
    result = run(pictures, bundle, without=[option])
    assert result.exit_code == 2
    assert "give a mask" in result.stderr or option in result.stderr


def test_a_real_process_refuses_alike(pictures: Path, bundle: Path) -> None:
    code = "from a2edit.runtime.cli import main; main()"
    arguments = ["--image", "none.png", "--mask", "mask.png", "--reference", "red.png"]
    ran = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--out", "out.png", "--bundle", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        cwd=pictures,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr == "error: image 'none.png' does not exist: check the path\n"
    assert not (pictures / "out.png").exists()


def test_an_output_in_place_keeps_the_outside(pictures: Path, bundle: Path) -> None:
    source = np.asarray(Image.open(pictures / "scene.png"))
    result = run(pictures, bundle, "--out", str(pictures / "scene.png"))
    assert result.exit_code == 0
    edited = np.asarray(Image.open(pictures / "scene.png"))
    np.testing.assert_array_equal(edited[:20], source[:20])
