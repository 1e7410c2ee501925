"""Figures of 8 bits on a model that is small: each stage is what it says, and none is the other."""

import numpy as np
import pytest

from a2edit.bench.precision import Plan, Stage, measure_precision
from a2edit.bench.precision_command import rows
from a2edit.bench.rows import Setup
from a2edit.calibration.choice import EightBitPolicy
from a2edit.calibration.policy import TOLERANCE, Kind
from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts

ALLOWED: dict[Kind, float] = {"int8": 1e-3, "fp8": 5e-3}
Found = tuple[dict[tuple[str, str], Stage], dict[Kind, EightBitPolicy]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    checkpoint = new_checkpoint(TINY, tmp_path_factory.mktemp("tokenizers"))
    randomise_experts(checkpoint)
    told: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        # So tight that some linears are lifted: a random model bears more than a trained one.
        for kind, allowed in ALLOWED.items():
            patch.setitem(TOLERANCE, kind, allowed)
        stages, policies = measure_precision(
            checkpoint,
            Plan(samples=1, calibration=8),
            lambda what, done, of: told.update({what: of - done}),
        )
    assert told == dict.fromkeys(("calibration requests", "choices", "held-out requests"), 0)
    return {(stage.kind, stage.name): stage for stage in stages}, policies


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_stages(found: Found, kind: Kind) -> None:
    stages, policies = found
    plain, best, lifted = (stages[kind, name] for name in ("plain", "best settings", "lifted"))
    assert plain.share == best.share == 1
    assert 0.1 < lifted.share < 1
    assert policies[kind].error <= ALLOWED[kind]
    assert plain.errors.shape == (1, TINY.mot.steps)
    assert lifted.errors.max() < plain.errors.max()
    assert policies[kind].ranges.keys() < policies[kind].tried["best"].keys()
    for stage in (plain, best, lifted):
        (picture,) = stage.pictures
        assert picture.keys() == {"mask", "band", "outside"}
        assert picture["mask"].psnr_db > 10


def test_rows(found: Found) -> None:
    stages, _ = found
    stage = stages["int8", "lifted"]
    made = {row.subject: row for row in rows(Setup.here("precision", "tiny", 3), stage)}
    largest = made["int8 lifted: velocity error, largest"]
    assert largest.p50 == pytest.approx(100 * stage.errors.max())
    every = made["int8 lifted: velocity error"]
    assert every.n == stage.errors.size
    assert every.p50 == pytest.approx(100 * float(np.median(stage.errors)))
    assert made["int8 lifted: PSNR, mask"].unit == "dB"
    assert made["int8 lifted: routed weights in 8 bits"].p50 == pytest.approx(100 * stage.share)
