"""metrics.csv: what a row means, whatever was killed or taken up in between."""

from pathlib import Path

import numpy as np
import pytest

from a2edit.training.metrics import Metrics, read_metrics, smoothed


def test_rows_are_means_since_the_last(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, every=2)
    for step, loss in enumerate([1.0, 3.0, 5.0]):
        metrics.add("base", step, {"loss": loss}, flush=step == 2)
    rows = [(row["step"], row["loss"], row["active"]) for row in read_metrics(metrics.path)]
    assert rows == [("1", "2", ""), ("2", "5", "")]


def test_of_repeated_steps_the_last_counts(tmp_path: Path) -> None:
    for loss in (1.0, 2.0):  # killed before the state was saved, and taken up
        Metrics(tmp_path).add("base", 0, {"loss": loss})
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.csv")] == ["2"]


def test_an_older_files_columns_stay(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("stage,step,loss\nbase,0,1\n")
    metrics = Metrics(tmp_path)
    metrics.add("fine", 0, {"loss": 0.5, "norm": 1.0, "active": 2.0})
    assert read_metrics(metrics.path)[1] == {"stage": "fine", "step": "0", "loss": "0.5"}
    metrics.plot()
    assert metrics.plot_path.stat().st_size > 0


def test_nothing_is_drawn_of_nothing(tmp_path: Path) -> None:
    Metrics(tmp_path).plot()
    assert not list(tmp_path.iterdir())


def test_smoothing_is_a_mean_that_shortens_at_the_ends() -> None:
    values = np.arange(10.0)
    assert smoothed(values, share=0.3) == pytest.approx([0.5, 1, 2, 3, 4, 5, 6, 7, 8, 8.5])
    assert smoothed(values, share=0.0) == pytest.approx(values)
