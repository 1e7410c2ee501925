"""a2edit-bench: what it costs, and whether it is right."""

from pathlib import Path

import click
from rich.console import Console

from a2edit.bench import latency as latencies
from a2edit.bench.experts_command import experts
from a2edit.bench.export_command import export
from a2edit.bench.flow_command import flow
from a2edit.bench.fullsize_command import fullsize
from a2edit.bench.ladder.command import ladder
from a2edit.bench.memory_command import memory
from a2edit.bench.options import bundle_option, results_option
from a2edit.bench.precision_command import precision
from a2edit.bench.quality.command import quality
from a2edit.bench.routes_command import routes
from a2edit.bench.rows import Setup, append_rows, table_of
from a2edit.runtime.commands import Command, Group


@click.group(cls=Group)
def main() -> None:
    """Measure a bundle: latency and memory against the torch reference, held-out figures."""


@main.command(cls=Command)
@bundle_option
@results_option("latency.csv")
@click.option("--model", default="a2edit-mini", show_default=True, help="The reference's model.")
@click.option("--baked", type=click.Path(path_type=Path), help="A second bundle, weights baked.")
@click.option("--rounds", type=click.IntRange(min=3), default=9, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Default: the bundle's.")
def latency(
    bundle: Path, results: Path, model: str, baked: Path | None, rounds: int, steps: int | None
) -> None:
    """Warm edits interleaved with the torch reference's, cold start, peak memory."""
    console = Console()
    plan = latencies.Plan(bundle=bundle, model=model, baked=baked, rounds=rounds, steps=steps)
    with console.status("starting") as status:
        rows = latencies.measure(plan, status.update)
    append_rows(results / "latency.csv", rows)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'latency.csv'}")


@main.command(cls=Command)
@results_option("training.csv")
@click.option("--model", default="a2edit-mini", show_default=True, help="What training goes on.")
@click.option("--steps", type=click.IntRange(min=4), default=12, show_default=True,
              help="Of every configuration, in visits of four that take turns.")  # fmt: skip
def training(results: Path, model: str, steps: int) -> None:
    """Samples a second by configuration: precision, optimiser, windows, recomputing."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.training import measure_training

    console = Console()
    with console.status("starting") as status:
        rates = measure_training(
            model, steps, progress=lambda name, step: status.update(f"{name}: step {step}")
        )
    setup = Setup.here("training", model, steps)
    rows = [setup.row(name, "samples/s", values) for name, values in rates.items()]
    append_rows(results / "training.csv", rows)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'training.csv'}")


@main.command(cls=Command)
@bundle_option
@results_option("switching.csv")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--model", default="a2edit-mini", show_default=True, help="The reference's model.")
@click.option("--baked", type=click.Path(path_type=Path), help="A second bundle, weights baked.")
@click.option(
    "--open",
    "opened",
    type=click.Path(path_type=Path),
    help="A second bundle, built with --sizes and --batch.",
)
@click.option("--rounds", type=click.IntRange(min=8), default=40, show_default=True)
def switching(
    bundle: Path,
    results: Path,
    device: str,
    model: str,
    baked: Path | None,
    opened: Path | None,
    rounds: int,
) -> None:
    """Switching routes, merging on demand, memory of many, weights baked, sizes left open."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench import switching as bench

    console = Console()
    plan = bench.Plan(
        bundle=bundle, model=model, device=device, baked=baked, opened=opened, rounds=rounds
    )
    with console.status("starting") as status:
        rows = bench.measure(plan, status.update)
    append_rows(results / "switching.csv", rows)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'switching.csv'}")


@main.command(cls=Command)
@bundle_option
@results_option("cache.csv")
@click.option(
    "--threshold",
    "thresholds",
    type=float,
    multiple=True,
    default=(0.04, 0.08, 0.16),
    show_default=True,
    help="Of the cache; again for more.",
)
@click.option("--rounds", type=click.IntRange(min=2), default=16, show_default=True)
@click.option("--steps", type=click.IntRange(min=3), help="Default: the bundle's.")
def cache(
    bundle: Path, results: Path, thresholds: tuple[float, ...], rounds: int, steps: int | None
) -> None:
    """Edits with the step cache beside edits without: seconds, and what changes in the picture."""
    from a2edit.bench.step_cache import Plan, measure

    console = Console()
    plan = Plan(bundle=bundle, thresholds=thresholds, rounds=rounds, steps=steps)
    with console.status("starting") as status:
        rows = measure(plan, status.update)
    append_rows(results / "cache.csv", rows)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'cache.csv'}")


@main.command(cls=Command)
@bundle_option
@results_option("hosts.csv")
@click.option(
    "--build",
    type=click.Path(path_type=Path),
    default=Path("build/cpp"),
    show_default=True,
    help="The folder that the C++ host was built in.",
)
@click.option("--rounds", type=click.IntRange(min=3), default=15, show_default=True)
@click.option("--many", type=click.IntRange(min=10), default=500, show_default=True,
              help="Edits in one process, over which memory is watched.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), help="Default: the bundle's.")
def hosts(
    bundle: Path, results: Path, build: Path, rounds: int, many: int, steps: int | None
) -> None:
    """The C++ host beside the Python runtime: warm edits, cold start, memory."""
    from a2edit.bench.hosts import Plan, measure

    console = Console()
    plan = Plan(bundle=bundle, build=build, rounds=rounds, many=many, steps=steps)
    with console.status("starting") as status:
        rows = measure(plan, status.update)
    append_rows(results / "hosts.csv", rows)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'hosts.csv'}")


@main.command(cls=Command)
@results_option("gram.csv")
@click.option(
    "--model", default="flux-fill", show_default=True, help="Or a checkpoint: its shapes."
)
def gram(results: Path, model: str) -> None:
    """Time and memory of the route metric at full size, with random experts."""
    from a2edit.bench.reference import quiet

    quiet()
    from a2edit.bench.gram import measure_gram

    console = Console()
    with console.status("starting") as status:
        cost = measure_gram(model, lambda done, of: status.update(f"linear {done} of {of}"))
    setup = Setup.here("gram", model, 0)
    rows = [
        setup.row(f"Gram matrices of {cost.linears} linears, in all", "s", [sum(cost.seconds)]),
        setup.row("Gram matrix of one linear", "ms", [1e3 * value for value in cost.seconds]),
        setup.row("peak memory beyond one linear's factors", "MB", [cost.peak / 1e6]),
        setup.row("parameters of the experts", "M", [cost.parameters / 1e6]),
    ]
    append_rows(results / "gram.csv", rows)
    console.print(table_of(rows))
    console.print(f"appended to {results / 'gram.csv'}")


main.add_command(quality)
main.add_command(experts)
main.add_command(export)
main.add_command(flow)
main.add_command(fullsize)
main.add_command(ladder)
main.add_command(memory)
main.add_command(precision)
main.add_command(routes)


if __name__ == "__main__":
    main()
