"""The example programs, and the folder that is shipped."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2edit.runtime.editor import Editor
from a2edit.runtime.request import EditRequest
from tests.cpp.conftest import command


@pytest.mark.parametrize(("program", "seed"), [("edit_one", 7), ("edit_one_c", 0)])
def test_examples_edit(
    cpp_build: Path, byte_bundle: Path, pictures: Path, tmp_path: Path, program: str, seed: int
) -> None:
    given = [pictures / name for name in ("scene.png", "mask.png", "red.png")]
    out = tmp_path / "edit.png"
    words = [cpp_build / "examples" / program, byte_bundle, *given, out]
    done = command(*words)
    assert done.returncode == 0, done.stderr
    request = EditRequest(image=given[0], mask=given[1], reference=given[2], seed=seed)
    with Editor.open(byte_bundle) as editor:
        expected = editor.edit(request)
    assert f"route {expected.route}" in done.stdout
    with Image.open(out) as found:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected.image))
    broken = command(*words[:2], tmp_path / "none.png", *words[3:])
    assert broken.returncode == 2
    assert f"error: image '{tmp_path / 'none.png'}' does not exist: check the path" in broken.stderr
    few = command(*words[:3])
    assert (few.returncode, few.stderr.split()[0]) == (2, "usage:")


def _needed(library: Path) -> dict[str, str]:
    """What a library loads, and where from, in an environment that says nothing of paths."""
    said = subprocess.run(["ldd", library], capture_output=True, text=True, check=True, env={})
    return dict(re.findall(r"(\S+) => (\S+|not found)", said.stdout))


def test_what_is_shipped_needs_nothing_else(cpp_build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ship"
    done = command("cmake", "--install", cpp_build, "--component", "ship", "--prefix", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    system = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+))\.so")
    libraries = [path for path in (folder / "lib").glob("*.so*") if not path.is_symlink()]
    assert {"liba2edit", "libopenvino", "libopenvino_intel_cpu_plugin"} <= {
        path.name.partition(".")[0] for path in libraries
    }
    for library in libraries:
        for name, place in _needed(library).items():
            if not system.match(name) and "liba2edit" in library.name:
                assert Path(place).parent.resolve() == folder / "lib", (library.name, name, place)
    data = next(path for path in libraries if path.name.startswith("liba2edit")).read_bytes()
    assert str(cpp_build).encode() not in data
    assert b"site-packages" not in data
    assert len(data) < 10e6
