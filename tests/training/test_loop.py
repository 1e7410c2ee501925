"""The whole of training at tiny size: every stage runs, resumes alike, and leaves a checkpoint."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import MixtureLinear
from a2edit.runtime.errors import CheckpointError, RequestError
from a2edit.training.loop import Trainer
from a2edit.training.settings import Start
from a2edit.training.stages import ExpertsOn, Stage
from a2edit.training.stop import Stopped

Make = Callable[..., Trainer]


def _quiet(stage: Stage, step: int, loss: float) -> None:
    del stage, step, loss


def _losses(folder: Path) -> dict[tuple[str, str], str]:
    with (folder / "metrics.csv").open() as stream:
        return {(row["stage"], row["step"]): row["loss"] for row in csv.DictReader(stream)}


def _assert_same_checkpoint(first: Path, second: Path) -> None:
    other = Checkpoint.load(second).modules()
    for name, module in Checkpoint.load(first).modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, other[name].state_dict()[key]), (name, key)


class _KilledError(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_curve_and_checkpoint(
    tiny_trainer: Make, whole_run: Path, tmp_path: Path
) -> None:
    for stage_name, last in (("base", 3), ("experts", 2)):

        def kill(stage: Stage, step: int, loss: float, at: object = (stage_name, last)) -> None:
            del loss
            if (stage.name, step) == at:
                raise _KilledError

        trainer = tiny_trainer(tmp_path)
        trainer.resume()
        with pytest.raises(_KilledError):
            trainer.run(kill)
    trainer = tiny_trainer(tmp_path)
    assert trainer.resume()
    again = trainer.run(_quiet)
    # The steps that a kill threw away are in the log twice, with equal losses.
    assert _losses(tmp_path) == _losses(whole_run)
    _assert_same_checkpoint(whole_run / "checkpoint", again)
    assert list((whole_run / "sheets").glob("*.png"))
    assert (whole_run / "metrics.png").stat().st_size > 10_000


@pytest.mark.parametrize(("number", "stage_name"), [(signal.SIGTERM, "experts"), (2, "base")])
def test_a_stopped_run_leaves_a_checkpoint_and_goes_on(
    tiny_trainer: Make, whole_run: Path, tmp_path: Path, number: int, stage_name: str
) -> None:
    def stop(stage: Stage, step: int, loss: float) -> None:
        del loss
        if (stage.name, step) == (stage_name, 2):
            os.kill(os.getpid(), number)

    trainer = tiny_trainer(tmp_path, save_every=1000)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=f"step 3 of {stage_name}") as stopped:
        trainer.run(stop)
    assert stopped.value.exit_code == 128 + number
    assert signal.getsignal(signal.SIGINT) is handler
    assert trainer.done[stage_name] == 3
    Checkpoint.load(tmp_path / "checkpoint")
    trainer = tiny_trainer(tmp_path)
    assert trainer.resume()
    trainer.run(_quiet)
    assert _losses(tmp_path) == _losses(whole_run)
    _assert_same_checkpoint(whole_run / "checkpoint", tmp_path / "checkpoint")


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(whole_run: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("two_processes.py")
    launch = "-m torch.distributed.run --standalone --nproc-per-node 2"
    done = subprocess.run(
        [sys.executable, *launch.split(), str(script), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr
    one, two = _losses(whole_run), _losses(tmp_path)
    assert one.keys() == two.keys()
    for key, loss in one.items():
        # Sums run in another order; the log keeps five digits.
        assert float(two[key]) == pytest.approx(float(loss), rel=2e-4), key


def test_pieces_of_a_batch_add_up_to_it(
    tiny_trainer: Make, stages: tuple[Stage, ...], tmp_path: Path
) -> None:
    """Accumulation changes nothing but memory (the gate's terms see a piece: off here)."""
    plain = (stages[1], replace(stages[2], balance=0.0, sharpen=0.0))
    for name, cuts in (("whole", 1), ("pieces", 2)):
        tiny_trainer(tmp_path / name, plain, accumulate=cuts, save_every=9).run(_quiet)
    whole, pieces = _losses(tmp_path / "whole"), _losses(tmp_path / "pieces")
    for key, loss in whole.items():
        assert float(pieces[key]) == pytest.approx(float(loss), rel=2e-4), key


def test_checkpointing_and_no_average_change_no_loss(
    tiny_trainer: Make, whole_run: Path, tmp_path: Path
) -> None:
    trainer = tiny_trainer(tmp_path, checkpointing=True, ema=0.0, save_every=9)
    trainer.run(_quiet)
    one, two = _losses(whole_run), _losses(tmp_path)
    # A stage starts from the averages of the last: without them only the first one is alike.
    for key in [key for key in one if key[0] == "autoencoder"]:
        assert one[key] == two[key]
    assert all(np.isfinite(float(loss)) for loss in two.values())
    assert trainer.state.average == []
    Checkpoint.load(tmp_path / "checkpoint")


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch: its fused norm takes one dtype
def test_bf16_stays_near_fp32_and_keeps_fp32_weights(
    tiny_trainer: Make, whole_run: Path, tmp_path: Path
) -> None:
    trainer = tiny_trainer(tmp_path, precision="bf16", save_every=9)
    trainer.run(_quiet)
    one, two = _losses(whole_run), _losses(tmp_path)
    assert one != two
    for key, loss in one.items():
        assert float(two[key]) == pytest.approx(float(loss), rel=0.03), key
    for module in trainer.checkpoint.modules().values():
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert {value.dtype for value in trainer.state.average} == {torch.float32}


def test_each_stage_trains_its_own_part_only(
    tiny_trainer: Make, stages: tuple[Stage, ...], tmp_path: Path
) -> None:
    trainer = tiny_trainer(tmp_path, stages[2:], Start(fresh=frozenset()))
    before = {
        name: {key: value.clone() for key, value in module.state_dict().items()}
        for name, module in trainer.checkpoint.modules().items()
    }
    trainer.run(_quiet)
    changed = {
        name
        for name, module in trainer.checkpoint.modules().items()
        if any(not torch.equal(v, before[name][k]) for k, v in module.state_dict().items())
    }
    assert changed == {"experts", "gate"}
    # What no stage changes is not in the state: at full size it is 48 GB.
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert set(state["modules"]) == {"experts", "gate"}


@pytest.mark.parametrize("where", ["ffn", "attention", "none"])
def test_experts_learn_where_a_stage_says(
    tiny_trainer: Make, stages: tuple[Stage, ...], tmp_path: Path, where: ExpertsOn
) -> None:
    stage = replace(stages[2], experts_on=where, steps=2)
    trainer = tiny_trainer(tmp_path, (stage,), Start(fresh=frozenset()))
    trainer.run(_quiet)
    bank = trainer.checkpoint.experts
    learnt = {".attn." in name for name in bank.linears if bank.pair(name).B.any()}
    assert learnt == {"ffn": {False}, "attention": {True}, "none": set()}[where]


def test_checkpoints_in_the_middle_of_the_experts_can_be_loaded(
    tiny_trainer: Make, stages: tuple[Stage, ...], tmp_path: Path
) -> None:
    seen = []

    def look(stage: Stage, step: int, loss: float) -> None:
        del stage, loss
        if step == 3:  # step 2's sheet and checkpoint are written by then
            seen.append(Checkpoint.load(tmp_path / "checkpoint"))

    trainer = tiny_trainer(tmp_path, stages[2:], sheet_every=2, sheets=True)
    trainer.run(look)
    assert _AttentionBackendRegistry.get_active_backend()[0].value == "native"
    assert any(seen[0].experts.pair(name).B.any() for name in seen[0].experts.linears)
    assert not any(isinstance(m, MixtureLinear) for m in trainer.checkpoint.transformer.modules())


def test_a_damaged_state_is_refused(tiny_trainer: Make, tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path)
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="cannot be taken up"):
        trainer.resume()


def test_a_run_from_elsewhere_is_refused(
    tiny_trainer: Make, whole_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "state.pt").write_bytes((whole_run / "state.pt").read_bytes())
    trainer = tiny_trainer(tmp_path, start=Start(origin="0123456789abcdef"))
    with pytest.raises(CheckpointError, match="started from nothing"):
        trainer.resume()


def test_a_batch_that_cannot_be_cut_is_refused(tiny_trainer: Make, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be cut into 3 equal parts"):
        tiny_trainer(tmp_path, accumulate=3)
