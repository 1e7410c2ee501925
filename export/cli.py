"""a2edit-build: engines from a checkpoint, and what is in a bundle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from a2edit.export.settings import MATERIALISE, PRECISIONS, BuildSettings
from a2edit.runtime.commands import Command, Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="a2edit")
def main() -> None:
    """Build bundles for a2edit-run."""


@main.command(cls=Command)
@click.option("--model", default="a2edit-mini", show_default=True, help="Embedded model or folder.")
@click.option("--out", type=click.Path(path_type=Path), help="Bundle folder.  [build/<model>]")
@click.option("--routes", default=8, show_default=True, metavar="K", help="Most routes to make.")
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option(
    "--materialise",
    type=click.Choice(MATERIALISE),
    default="inputs",
    show_default=True,
    help="inputs: one engine that routes are bound to; baked: one engine a route.",
)
@click.option("--target", default="cpu", show_default=True, help="What the engines run on.")
def engines(model: str, out: Path | None, **options: Any) -> None:
    """Checkpoint → graphs, routes, weight sets, engines, verified, in one folder."""
    from a2edit.export.build import build

    out = out or Path("build") / Path(model).name
    settings = BuildSettings(model=model, out=out, **options)
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
def inspect(bundle: Path) -> None:
    """Check BUNDLE's files and print what is in it."""
    from a2edit.export.inspect import print_bundle

    print_bundle(bundle, Console(highlight=False))


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
