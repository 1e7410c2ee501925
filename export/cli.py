"""a2edit-build: engines from a checkpoint, what is in a bundle, and what its routes are worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from a2edit.calibration.policy import PRESETS
from a2edit.calibration.routes import RouteLimit
from a2edit.export.settings import (
    BACKENDS,
    MATERIALISE,
    MERGE_BASES,
    PRECISIONS,
    BuildSettings,
)
from a2edit.runtime.commands import Command, Group
from a2edit.runtime.errors import EngineError
from a2edit.runtime.sizes import parse_size
from a2edit.runtime.step_cache import FirstBlockCache
from a2edit.runtime.targets import TARGETS


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="a2edit")
def main() -> None:
    """Build bundles for a2edit-run."""


def _limits(command: Callable[..., None]) -> Callable[..., None]:
    """How many routes: one of three options."""
    for option in (
        click.option(
            "--routes-budget", metavar="SIZE", help="As many routes as fit, such as 8GiB."
        ),
        click.option(
            "--route-error",
            type=float,
            metavar="E",
            help="The fewest routes whose predicted errors are within E for 95 % of requests, "
            "such as 0.01.",
        ),
        click.option("--routes", type=int, metavar="K", help="Most routes to make."),
    ):
        command = option(command)
    return command


def _sides(_: click.Context, option: click.Parameter, given: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in given.split(",")) if given else ()
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is no list of whole numbers such as 512,768", param=option
        ) from None


_FROM_LOG = click.option(
    "--from-log",
    "logs",
    multiple=True,
    metavar="LOG",
    type=click.Path(path_type=Path),
    help="A log of a2edit-run --route-log, again for more: routes are made from the calibration "
    "set and what was asked. Every gate table counts once, but the calibration set never for "
    "less than a quarter of the whole.",
)


@main.command(cls=Command)
@click.option("--model", default="a2edit-mini", show_default=True, help="Embedded model or folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Bundle folder.  [build/<model>]")
@_limits
@click.option(
    "--route-tolerance",
    "tolerance",
    type=float,
    default=0.01,
    show_default=True,
    metavar="E",
    help="Predicted error up to which a route is run; past it, weights are merged for the table.",
)
@click.option(
    "--routes-only",
    is_flag=True,
    help="Leave out base and experts, from which other routes would be merged on demand.",
)
@click.option(
    "--merge-base",
    type=click.Choice(MERGE_BASES),
    default="full",
    show_default=True,
    help="What other routes are merged from on demand. full: the base as the checkpoint stores it; "
    "int8: in 8 bits with a scale a row, where the velocity bears it: half of bf16's bytes.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="UniEdit folder or WebDataset shards to calibrate on.  [drawn scenes]",
)
@click.option("--samples", default=64, show_default=True, metavar="N", help="Calibration requests.")
@_FROM_LOG
@click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="lossless: bf16 (a CPU without it: fp32); balanced: the denoiser's linears in 8 bits, FP8 "
    "where the target has it, else INT8; small: its modulation's and T5's weights in 8 bits too.  "
    "[cpu: lossless, GPUs: balanced]",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="Of the denoiser, in place of a preset; refused where a target lacks it.",
)
@click.option(
    "--materialise",
    type=click.Choice(MATERIALISE),
    default="inputs",
    show_default=True,
    help="inputs: one engine that routes are bound to; baked: one engine a route.",
)
@click.option(
    "--target",
    default="cpu",
    show_default=True,
    metavar="T[,T…]",
    help=f"What the engines run on: {', '.join(TARGETS)}. GPUs' engines are built without a GPU.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="What compiles them: by default OpenVINO for cpu, TensorRT for RTX for GPUs, and for sm90 "
    "TensorRT, which needs such a GPU at hand. inductor: torch, for cpu or the GPU at hand.",
)
@click.option(
    "--lift",
    multiple=True,
    metavar="GLOB",
    help="Routed linears that stay in high precision, such as "
    "'single_transformer_blocks.*.proj_out'; again for more.",
)
@click.option(
    "--accept-quality",
    is_flag=True,
    help="Go on where engines do not repeat the model; the bundle says what failed.",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    metavar="N",
    help="Weight sets and engines that are made at a time; memory grows with it.",
)
@click.option(
    "--sizes",
    metavar="S[,S…]",
    callback=_sides,
    help="Sides in pixels that engines take besides the checkpoint's own, such as 512,768; an edit "
    "asks for one by --size.",
)
@click.option(
    "--batch",
    default=1,
    show_default=True,
    metavar="B",
    help="Most requests that engines take in one run; a2edit-run --jobs makes use of it.",
)
@click.option(
    "--cache",
    "step_cache",
    metavar="first-block[:T]",
    help="Build the denoiser in two as well, so that `a2edit-run --cache` may leave out the tail "
    "of steps; T is the threshold that it takes unless told otherwise [0.08].",
)
@click.option(
    "--fused-kernels",
    is_flag=True,
    help="With --backend inductor on a GPU: quantise activations, norm and turn q and k, by our "
    "Triton kernels in place of those that torch makes.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be made, and its size.")
def engines(
    model: str,
    out: Path | None,
    logs: tuple[Path, ...],
    routes_budget: str | None,
    step_cache: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Checkpoint → graphs, routes, weight sets, engines, verified, in one folder.

    Without --routes, --route-error or --routes-budget there are at most 8 routes.
    """
    from a2edit.export.build import build

    out = out or Path("build") / Path(model).name
    budget = parse_size(routes_budget) if routes_budget is not None else None
    settings = BuildSettings(
        model=model,
        out=out,
        from_log=logs,
        routes_budget=budget,
        step_cache=FirstBlockCache.of(step_cache) if step_cache is not None else None,
        **options,
    )
    if dry_run:
        from a2edit.export.plan import plan_build, print_plan

        _quiet_libraries()
        print_plan(plan_build(settings), Console(highlight=False))
        return
    started = time.perf_counter()
    console = Console(stderr=True, highlight=False)
    _quiet_libraries()
    with console.status("reading") as status:
        bundle_hash = build(settings, _Console(console, status))
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    seconds = time.perf_counter() - started
    click.echo(f"{out}  {size / 1e6:.1f} MB in {seconds:.0f} s  bundle hash {bundle_hash[:16]}")


@main.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@_limits
@_FROM_LOG
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="PAGE.html", help="Write an HTML page."
)
def routes(
    bundle: Path,
    logs: tuple[Path, ...],
    routes: int | None,
    route_error: float | None,
    routes_budget: str | None,
    report: Path | None,
) -> None:
    """Judge BUNDLE's routes on its calibration set; needs no checkpoint.

    With a log or a limit, routes are made anew, as many as there are unless a limit says
    otherwise, and what they would change is printed beside what is. Nothing is built: the command
    that does is printed.
    """
    from a2edit.export.routes_command import show_routes

    limit = None
    if routes is not None or route_error is not None or routes_budget is not None:
        budget = parse_size(routes_budget) if routes_budget is not None else None
        limit = RouteLimit(routes, route_error, budget)
    show_routes(bundle, logs, limit, report, Console(highlight=False))


@main.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
def inspect(bundle: Path) -> None:
    """Check BUNDLE's files and print what is in it."""
    from a2edit.export.inspect import print_bundle

    print_bundle(bundle, Console(highlight=False))


@main.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--model", help="Its checkpoint, to compute anew what torch makes of the requests.")
def verify(bundle: Path, model: str | None) -> None:
    """Check BUNDLE's files, and run its engines on the requests that it was verified on.

    Engines for GPUs that are not here are left out. Exit status 2 if a figure is out of tolerance
    that the build did not accept.
    """
    from a2edit.export.inspect import print_rechecked
    from a2edit.export.recheck import recheck

    console = Console(highlight=False)
    _quiet_libraries()
    with console.status("reading") as status:
        found = []
        for figure in recheck(bundle, model, console.print):
            status.update(f"{figure.target}: {figure.name}")
            found.append(figure)
    print_rechecked(found, console)
    if failed := [figure for figure in found if not figure.passed]:
        over = "; ".join(f"{it.target} {it.name}: {it.now.over}" for it in failed)
        raise EngineError(f"{bundle} does not repeat its model here: {over}")


@main.command(cls=Command)
@click.argument("folder", type=click.Path(path_type=Path), default="build")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(folder: Path, dry_run: bool) -> None:
    """Remove steps that no bundle in FOLDER needs, and what killed builds left.

    FOLDER is the folder that bundles lie in, or one bundle.  [build]
    """
    from a2edit.export.gc import collect

    freed = collect(folder, click.echo, dry_run=dry_run)
    for thing in freed:
        click.echo(f"{thing.bytes / 1e6:>10.2f} MB  {thing.path}  {thing.why}")
    total = sum(thing.bytes for thing in freed) / 1e6
    click.echo(f"{total:>10.2f} MB {'would be' if dry_run else 'were'} freed")


def _quiet_libraries() -> None:
    """The libraries that read a checkpoint draw bars of their own over ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


class _Console:
    """Progress as one line a step: name, size, seconds."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console, self._status = console, status

    def start(self, step: str) -> None:
        self._status.update(f"{step} …")

    def at(self, step: str, place: int, total: int) -> None:
        filled = round(24 * place / total)
        bar = "━" * filled + f"[dim]{'━' * (24 - filled)}[/]"
        self._status.update(f"{step} {bar} {place} of {total}")

    def done(self, step: str, size: int, seconds: float, *, reused: bool) -> None:
        took = "found" if reused else f"{seconds:.1f} s"
        self._console.print(f"  {step:<32}{size / 1e6:>9.2f} MB {took:>9}")

    def note(self, text: str) -> None:
        self._console.print(f"  [yellow]{text}[/]", soft_wrap=True)


if __name__ == "__main__":
    main()
