"""Recipes: files and dataclasses say the same, and what a file gets wrong is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from a2edit.runtime.errors import RequestError
from a2edit.training.recipe import RECIPES, Recipe, find_recipe, toml_of
from a2edit.training.stages import FINE, MINI_STAGES, PAPER_STAGES, Stage

STAGE = Stage("a", "base", 10, 4, 1e-3, 2, 0.5, FINE)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(toml_of(find_recipe(name)))
    assert find_recipe(str(path)) == RECIPES[name]


def test_the_recipe_of_the_documentation_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    (tmp_path / "shown.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    recipe = find_recipe(str(tmp_path / "shown.toml"))
    assert (recipe.name, recipe.stages[0].without) == ("no-vehicles", ("vehicles",))


def test_defaults_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(
        'name = "short"\n[[stages]]\nname = "a"\ntrains = "base"\nsteps = 10\nbatch = 4\n'
        "rate = 1e-3\nwarmup = 2\ndecay = 0.5\nmasks = { fine = 1 }\n"
    )
    assert find_recipe(str(path)) == Recipe("short", (STAGE,))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("speed = 3", "unknown keys: speed; missing keys: none; the keys are name, trains"),
        ("steps = 1.5", "stages[0]: steps is 1.5; it must be of type int"),
        ('trains = "everything"', "allowed: autoencoder, base, experts"),
        ("masks = { round = 1 }", "masks: unknown keys: round"),
        ("masks = { fine = 0 }", "is no mixture of masks"),
        ("sides = 7", "sides is 7; it must be a list"),
        ("batch = 0", "batch is 0; it must be at least 1"),
        ("decay = 2", "the decay between 0 and 1"),
        ('experts_on = "mlp"', "allowed: all, ffn, attention, none"),
        ("balance = true", "balance is True; it must be of type float"),
    ],
)
def test_what_a_file_gets_wrong_is_named(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    key = line.partition(" = ")[0]
    good = toml_of(Recipe("bad", (STAGE,)))
    kept = [text for text in good.splitlines() if not text.startswith(f"{key} =")]
    path.write_text("\n".join([*kept, line]))
    with pytest.raises(RequestError) as refusal:
        find_recipe(str(path))
    assert says in str(refusal.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="give a TOML file, or one of mini, paper"):
        find_recipe("nowhere.toml")
    (tmp_path / "bad.toml").write_text("name = [")
    with pytest.raises(RequestError, match="cannot be read as TOML"):
        find_recipe(str(tmp_path / "bad.toml"))
    with pytest.raises(RequestError, match="every name once"):
        Recipe("twice", (STAGE, replace(STAGE, steps=3)))


def test_stages_keep_the_papers_proportions() -> None:
    for stages in (MINI_STAGES, PAPER_STAGES):
        steps = {stage.name: stage.steps for stage in stages}
        assert steps["fine"] == 2 * steps["rough"] == 2 * steps["box"]
    assert [(s.steps, s.batch) for s in PAPER_STAGES] == [(3000, 8), (1500, 8), (1500, 8)]


def test_the_rate_rises_stays_and_falls() -> None:
    rates = [STAGE.rate_at(step) / STAGE.rate for step in range(10)]
    assert rates[:5] == [0.5, 1.0, 1.0, 1.0, 1.0]
    assert rates[5:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
