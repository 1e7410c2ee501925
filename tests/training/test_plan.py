"""The plan of a run: counts of the published model, and memory against what is really taken."""

import gc
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.profiler import ProfilerActivity, profile

from a2edit.model.checkpoint import PRETRAINED, Checkpoint
from a2edit.model.experts import inject
from a2edit.model.weightless import FLUX_FILL, fake_checkpoint, shapes_of, without_memory
from a2edit.training.cli import main
from a2edit.training.flow import FlowModel, NoiseLevels
from a2edit.training.objective import Objective, Piece
from a2edit.training.plan_memory import Footprint, count_step, empty_batch, footprint, tokens_of
from a2edit.training.recipe import Recipe, toml_of
from a2edit.training.stages import EVERY, FINE, Stage

SAMPLES = 2
# torch: its fused norm takes one dtype, autocast gives it two
pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype")
STAGES = {
    "base": Stage("base", "base", 1, SAMPLES, 1e-3, 0, 0.0, EVERY, sides=(12,)),
    "experts": Stage("experts", "experts", 1, SAMPLES, 1e-3, 0, 0.0, FINE, sides=(12,)),
}


def test_flux_fill_has_the_published_counts() -> None:
    with without_memory():
        checkpoint = fake_checkpoint(FLUX_FILL, torch.bfloat16)
        counts = {
            name: sum(parameter.numel() for parameter in module.parameters())
            for name, module in checkpoint.modules().items()
        }
        assert tokens_of(checkpoint, Stage("a", "experts", 1, 8, 1e-4, 0, 0.0, FINE)) == 5337
    assert len(checkpoint.experts.linears) == 418
    assert counts["experts"] == 8 * 130_744_320
    assert counts["transformer"] == 11_902_391_360
    assert counts["text_encoder"] == 4_762_310_656
    assert checkpoint.transformer.dtype == torch.bfloat16
    assert checkpoint.experts.pairs[0].A.dtype == torch.float32


@pytest.mark.slow
def test_experts_fit_on_80_gib_only_when_blocks_are_recomputed() -> None:
    """Two samples a device: the paper's batch of 8 on four."""
    stage = Stage("fine", "experts", 3000, 8, 1e-4, 100, 0.0, FINE)
    counted = footprint(FLUX_FILL, stage, 2, "bf16")
    totals = {
        recompute: counted.total(recompute=recompute, kept_gradients=True, average=True) / 2**30
        for recompute in (False, True)
    }
    assert totals[True] < 65 < 80 < totals[False]


def test_the_command_says_how_to_run(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(toml_of(Recipe("one", (STAGES["experts"],))))
    options = ["plan", "--config", "a2edit-mini", "--gpus", "1"]
    options += ["--batch", "1", "--recipe", str(tmp_path / "one.toml")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    assert "8 × 247,808 on 37 linears" in result.output
    assert "experts: GiB on one of 1 × 80GiB" in result.output
    assert "Run with --precision bf16." in result.output
    small = CliRunner().invoke(main, [*options, "--gpu-memory", "1 MiB"])
    assert "Nothing fits." in small.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--gpu-memory", "eighty"), "is no size: give a number and one of MiB, GiB"),
        (("--gpus", "3"), "3 devices cannot share a batch of 8"),
        (("--config", "nowhere"), "is no A²-Edit checkpoint"),
    ],
)
def test_what_cannot_be_planned(options: tuple[str, ...], says: str) -> None:
    result = CliRunner().invoke(main, ["plan", *options])
    assert result.exit_code == 2
    assert says in result.stderr


def test_shapes_are_those_of_a_checkpoint() -> None:
    real = Checkpoint.load(PRETRAINED / "a2edit-mini")
    with without_memory():
        fake = fake_checkpoint(shapes_of("a2edit-mini"), torch.float32)
    for name, module in real.modules().items():
        shapes = {key: value.shape for key, value in module.state_dict().items()}
        fakes = {key: value.shape for key, value in fake.modules()[name].state_dict().items()}
        assert shapes == fakes, name


@pytest.mark.parametrize("trains", STAGES)
@pytest.mark.parametrize("half", [False, True])
def test_a_model_without_memory_saves_what_a_real_one_saves(trains: str, half: bool) -> None:
    stage, shapes = STAGES[trains], shapes_of("a2edit-mini")
    fake = footprint(shapes, stage, SAMPLES, "bf16" if half else "fp32")
    frozen = torch.bfloat16 if half and trains == "experts" else torch.float32
    real = Checkpoint.load("a2edit-mini", frozen)
    assert count_step(real, stage, SAMPLES, half=half) == fake


def _taken(path: Path, stage: Stage, *, half: bool, recompute: bool) -> tuple[int, Footprint]:
    """Bytes that torch's allocator hands out above the weights in a step, and the footprint."""
    checkpoint = Checkpoint.load("a2edit-mini")
    counted = count_step(Checkpoint.load("a2edit-mini"), stage, SAMPLES, half=half)
    flow = FlowModel(checkpoint, NoiseLevels(), torch.device("cpu"))
    if stage.trains == "experts":
        inject(checkpoint.transformer, checkpoint.experts)
    if recompute:
        checkpoint.transformer.enable_gradient_checkpointing()
    objective = Objective(checkpoint, flow, stage)
    batch = empty_batch(checkpoint, stage, SAMPLES)
    noise = objective.noise(SAMPLES, batch.tokens.shape[1])

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss, _ = objective(Piece(batch, noise, torch.tensor(1.0)))
        loss.backward()
        for parameter in objective.parameters():
            parameter.grad = None

    step()  # what the first one caches is not its own
    gc.collect()  # nor is what other tests left to be freed
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    profiler.export_chrome_trace(str(path / "trace.json"))
    events = json.loads((path / "trace.json").read_text())["traceEvents"]
    memory = sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"])
    totals = [int(event["args"]["Total Allocated"]) for event in memory]
    return max(totals) - (totals[0] - int(memory[0]["args"]["Bytes"])), counted


@pytest.mark.slow
@pytest.mark.parametrize("trains", STAGES)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("recompute", [False, True])
def test_the_peak_is_what_the_allocator_hands_out(
    trains: str, half: bool, recompute: bool, tmp_path: Path
) -> None:
    taken, counted = _taken(tmp_path, STAGES[trains], half=half, recompute=recompute)
    peak = counted.peak(recompute=recompute, kept_gradients=False)
    assert 0.95 * taken < peak < 1.15 * taken, (peak, taken)
