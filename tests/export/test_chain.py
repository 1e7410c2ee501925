"""Steps and their cache: shared between builds, done beside each other, cleared."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from a2edit.export.chain import Chain, Progress, Silent, Task
from a2edit.export.gc import Freed, collect
from a2edit.runtime.errors import EngineError, RequestError

Work = Callable[[Path], None]


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.reused: dict[str, bool] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def done(self, step: str, size: int, seconds: float, *, reused: bool) -> None:
        self.reused[step] = reused


def writing(content: str) -> Work:
    def work(folder: Path) -> None:
        (folder / "file").write_text(content, encoding="utf-8")

    return work


def opened(cache: Path, jobs: int = 1, progress: Progress | None = None) -> Chain:
    chain = Chain(cache, progress or Silent(), jobs)
    chain.open()
    return chain


def silent(_: str) -> None: ...


def test_two_builds_in_one_cache_do_each_step_once(tmp_path: Path) -> None:
    cache, began, go = tmp_path / ".tiny.steps", threading.Event(), threading.Event()
    notes = Notes()
    first, second = (opened(cache, progress=notes) for _ in range(2))
    done: list[str] = []

    def work(folder: Path) -> None:
        began.set()
        assert go.wait(20)
        done.append("work")
        writing("content")(folder)

    made: list[Path] = []
    builds = [
        threading.Thread(target=lambda chain=chain: made.append(chain.run("one", {}, work).folder))
        for chain in (first, second)
    ]
    for build in builds:
        build.start()
    assert began.wait(20)
    third = opened(cache)  # must not clear what the first is in the middle of
    assert len(list(cache.glob(".doing-*"))) == 1
    assert third.run("other", {}, writing("")).folder.is_dir()
    go.set()
    for build in builds:
        build.join(20)
    assert done == ["work"]
    assert len(set(made)) == 1
    assert notes.notes in ([], ["one is being made by another build: waiting for it"])
    assert not list(cache.glob(".making-*"))


def test_a_killed_build_is_cleared_and_a_running_one_is_not(tmp_path: Path) -> None:
    cache = tmp_path / ".tiny.steps"
    script = """
import sys, time
from pathlib import Path
from a2edit.export.chain import Chain, Silent
chain = Chain(Path(sys.argv[1]), Silent())
chain.open()
def work(folder):
    (folder / "half").write_bytes(b"half")
    print("working", flush=True)
    time.sleep(60)
chain.run("slow", {}, work)
"""
    command = [sys.executable, "-c", script, str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "working\n"
            opened(cache).close()
            assert len(list(cache.glob(".doing-slow-*/half"))) == 1
            notes: list[str] = []
            assert collect(tmp_path, notes.append, dry_run=False) == []
            assert notes == [f"{cache}: a build runs in it, left as it is"]
        finally:
            process.kill()
    assert len(list(cache.glob(".doing-slow-*/half"))) == 1
    chain = opened(cache)
    assert not list(cache.glob(".doing-*"))
    assert (chain.run("slow", {}, writing("whole")).folder / "file").read_text() == "whole"


def test_independent_steps_run_side_by_side_and_no_more_than_jobs(tmp_path: Path) -> None:
    barrier, running, most = threading.Barrier(2, timeout=20), [0], [0]
    lock = threading.Lock()

    def work(folder: Path) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        barrier.wait()  # is only passed by two at a time
        with lock:
            running[0] -= 1
        writing(folder.name.split("-")[1])(folder)

    tasks = [Task(f"step{place}", {"place": place}, work) for place in range(4)]
    made = opened(tmp_path / "two", jobs=2).run_all(tasks)
    assert most == [2]
    assert [(it.folder / "file").read_text() for it in made] == [f"step{n}" for n in range(4)]


def test_after_a_failure_no_step_begins(tmp_path: Path) -> None:
    begun: list[str] = []

    def fail(_: Path) -> None:
        raise EngineError("no")

    def late(folder: Path) -> None:
        begun.append(folder.name)
        time.sleep(0.05)

    tasks = [Task("bad", {}, fail), *(Task(f"late{place}", {}, late) for place in range(8))]
    with pytest.raises(EngineError, match="no"):
        opened(tmp_path / "steps").run_all(tasks)
    assert len(begun) <= 2


def built(folder: Path, name: str, needed: dict[str, str], spare: dict[str, str]) -> Path:
    """A bundle's folder with a cache of steps that it was made of, and of others."""
    for steps, ends in ((spare, False), (needed, True)):
        chain = opened(folder / f".{name}.steps")
        for step, content in steps.items():
            chain.run(step, {"content": content}, writing(content))
        if ends:
            chain.finish()
        chain.close()
    (folder / name).mkdir()
    (folder / name / "manifest.json").write_text("{}", encoding="utf-8")
    return folder / f".{name}.steps"


def removed(freed: list[Freed]) -> set[str]:
    return {it.path.name.partition("-")[0] + ": " + it.why for it in freed}


def test_gc_keeps_what_the_last_build_used(tmp_path: Path) -> None:
    cache = built(tmp_path, "tiny", {"graph": "new"}, {"graph": "older", "engine": "x" * 1000})
    other = built(tmp_path, "tiny-2", {"graph": "a"}, {})
    (tmp_path / ".tiny-abcd_123").mkdir()  # a bundle that was being assembled
    (cache / ".doing-verify-1").mkdir()
    before = sorted(cache.iterdir())
    wanted = {"graph: not of tiny's last build", "engine: not of tiny's last build"}
    wanted |= {".doing: left by a killed build", ".tiny: left by a killed build"}
    found = collect(tmp_path, silent, dry_run=True)
    assert removed(found) == wanted
    assert sorted(cache.iterdir()) == before
    assert collect(tmp_path, silent, dry_run=False) == found
    assert max(it.bytes for it in found) > 1000
    (left,) = cache.glob("[!.]*")
    assert (left / "file").read_text() == "new"
    assert collect(tmp_path, silent, dry_run=False) == []
    assert len(list(other.glob("graph-*"))) == 1
    # The kept step is found by the next build.
    notes = Notes()
    opened(cache, progress=notes).run("graph", {"content": "new"}, writing("new"))
    assert notes.reused == {"graph": True}


def test_gc_of_one_bundle_leaves_others_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        built(tmp_path, name, {}, {"old": name})
    freed = collect(tmp_path / "one", silent, dry_run=False)
    assert [it.path.parent.name for it in freed] == [".one.steps"]
    assert len(list((tmp_path / ".two.steps").glob("old-*"))) == 1


def test_gc_keeps_an_unfinished_build_and_clears_after_a_bundle_that_is_gone(
    tmp_path: Path,
) -> None:
    chain = opened(tmp_path / ".new.steps")
    chain.run("graph", {}, writing("1"))
    chain.close()
    gone = built(tmp_path, "gone", {"graph": "1"}, {})
    (tmp_path / "gone/manifest.json").unlink()
    (tmp_path / "gone").rmdir()
    notes: list[str] = []
    assert removed(collect(tmp_path, notes.append, dry_run=False)) == {
        "graph: gone is gone",
        ".needed.json: gone is gone",
    }
    assert not gone.exists()
    assert notes == [
        f"{tmp_path / '.new.steps'}: no build has ended here, its steps are kept for the next one"
    ]
    assert len(list((tmp_path / ".new.steps").glob("graph-*"))) == 1


def test_gc_says_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no bundle and no cached steps"):
        collect(tmp_path, silent, dry_run=False)
