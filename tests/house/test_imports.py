"""What importing the package loads, in interpreters of their own: nothing heavy, nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDERS = ("model", "training", "calibration", "export", "runtime", "kernels", "bench")
HEAVY = {"torch", "diffusers", "transformers", "peft", "onnx", "onnxscript", "sklearn", "scipy"}
ROOT = Path(__file__).parents[2]


def modules_after(code: str) -> set[str]:
    """Names in sys.modules after `code` has run in a bare interpreter outside the checkout."""
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def runtime_modules() -> list[str]:
    """Every module of the runtime, its engines included, by its import name."""
    found = []
    for path in sorted((ROOT / "runtime").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        # The service has an extra of its own, which an environment may lack.
        if "serve" not in parts and path.stem != "__main__":
            found.append(".".join(("a2edit", *parts)).removesuffix(".__init__"))
    return found


def test_importing_the_package_loads_nothing_but_itself() -> None:
    loaded = modules_after("import a2edit")
    assert not loaded & (HEAVY | {"numpy", "PIL", "openvino"})
    assert {name for name in loaded if name.startswith("a2edit")} == {"a2edit"}


@pytest.mark.parametrize(
    "code",
    [
        "from a2edit import A2EditError, EditRequest, EditResult, Editor",
        "import a2edit.kernels",
        "import " + ", ".join(runtime_modules()),
    ],
    ids=["public names", "kernels", "all of runtime"],
)
def test_running_a_bundle_needs_no_torch(code: str) -> None:
    assert not modules_after(code) & HEAVY


def test_no_folder_is_importable_by_its_bare_name() -> None:
    """An install maps a2edit alone: a bare name would make a second copy of every class."""
    tries = "\n".join(
        f"try:\n    import {name}\n    raise SystemExit('{name} was importable')\n"
        f"except ImportError:\n    pass"
        for name in FOLDERS
    )
    assert not modules_after(f"import a2edit.runtime\n{tries}") & set(FOLDERS)


def test_this_test_session_has_loaded_no_folder_twice() -> None:
    files = {name: str(getattr(sys.modules.get(name), "__file__", "")) for name in FOLDERS}
    twice = [name for name, file in files.items() if file.startswith(str(ROOT))]
    assert not twice


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_is_one_relative_link(name: str) -> None:
    link = ROOT / "a2edit" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_an_unknown_public_name_says_what_there_is() -> None:
    import a2edit

    with pytest.raises(AttributeError, match="Editor"):
        a2edit.Pipeline  # noqa: B018
