"""a2edit-run: edit one picture, or a list of them, with a bundle."""

import logging
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from a2edit.runtime.boxes import Box
from a2edit.runtime.commands import Command
from a2edit.runtime.editor import Editor
from a2edit.runtime.errors import RequestError
from a2edit.runtime.explain import explain as print_explanation
from a2edit.runtime.images import check_output, save_picture
from a2edit.runtime.jobs import read_jobs, run_jobs
from a2edit.runtime.request import EditRequest, EditResult
from a2edit.runtime.sheet import contact_sheet, sheet_row
from a2edit.runtime.sizes import parse_size

DEFAULT_BUNDLE = Path("build/a2edit-mini")
PICTURE = click.Path(path_type=Path)
# options of a single edit, by parameter
PER_EDIT = {
    "image": "--image",
    "mask": "--mask",
    "reference": "--reference",
    "reference_mask": "--reference-mask",
    "boxes": "--box",
    "prompt": "--prompt",
    "steps": "--steps",
    "seed": "--seed",
    "size": "--size",
    "resize_mask": "--resize-mask",
    "out": "--out",
    "sheet": "--sheet",
    "explain": "--explain",
}


@click.command(cls=Command, context_settings={"max_content_width": 100})
@click.option("--image", type=PICTURE, help="The picture to edit, of any size.")
@click.option(
    "--mask", type=PICTURE, help="White (or transparent) where to repaint; rough is fine."
)
@click.option("--reference", type=PICTURE, help="A picture of the object to paint in.")
@click.option(
    "--reference-mask",
    type=PICTURE,
    help="White where the object is [default: its alpha, or all off a plain ground].",
)
@click.option("--box", "boxes", multiple=True, help="x0,y0,x1,y1 in pixels, besides or for --mask.")
@click.option("--prompt", default="", help="What it should be, in words.")
@click.option("--steps", type=int, help="Denoising steps [default: the bundle's].")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed, same picture.")
@click.option(
    "--size", type=int, metavar="S", help="Side at which the region is repainted [the bundle's]."
)
@click.option("--resize-mask", is_flag=True, help="Scale masks whose size is not the picture's.")
@click.option("--out", type=PICTURE, help="Where to write the edit (PNG, JPEG, WebP, TIFF, BMP).")
@click.option("--sheet", type=PICTURE, help="Also write scene, reference, edit and experts there.")
@click.option(
    "--explain",
    is_flag=True,
    help="Print which experts the request woke, the route, how far it is from the gate's wish, the "
    "next nearest routes, and seconds.",
)
@click.option(
    "--jobs",
    type=PICTURE,
    help="Edit by a list, one JSON object a line; keys are these options' names (boxes: a list "
    "of lists) and id, the output's name; paths are relative to the list. Goes on where it "
    "stopped; exit code 1 if a job failed.",
)
@click.option("--out-dir", type=PICTURE, help="The folder for the outputs of --jobs.")
@click.option(
    "--bundle",
    type=PICTURE,
    envvar="A2EDIT_BUNDLE",
    default=DEFAULT_BUNDLE,
    show_default=True,
    show_envvar=True,
    help="The folder that `a2edit-build engines` wrote.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="auto: what the bundle was compiled by; openvino, onnxruntime or "
    "inductor on a cpu; tensorrt_rtx, tensorrt, inductor, onnxruntime-cuda or "
    "onnxruntime-tensorrt on a GPU.",
)
@click.option(
    "--route-tolerance",
    type=float,
    metavar="ERROR",
    help="Run a route that was built ahead where its predicted relative error is at most this "
    "(0.01: 1 %); past it, merge weights for the table, unless that errs as much (a base "
    "in 8 bits). 0 merges whatever was not built exactly "
    "[default: the bundle's].",
)
@click.option(
    "--memory-budget",
    metavar="SIZE",
    help="What engines and weight sets may take in memory together (on a GPU, of its memory), such "
    "as 500MB or 8GiB: the fastest plan that fits is followed, and printed [default: no limit].",
)
@click.option(
    "--strict-route",
    is_flag=True,
    help="Refuse a request that no route serves within the tolerance, where a bundle cannot merge "
    "(built with --routes-only), instead of warning.",
)
@click.option(
    "--route-log",
    type=PICTURE,
    metavar="FILE",
    help="Append what the gate asked for there, to calibrate routes on with `a2edit-build routes "
    "--from-log`. Holds gate weights; no pictures, prompts or names.",
)
@click.option(
    "--cache",
    metavar="first-block[:T]",
    help="Leave out the denoiser's tail in steps that are predicted to be at most T off (0.08: 8 % "
    "of the velocity); faster, and not the same picture. Needs a bundle built with --cache "
    "[default: off; T: the bundle's].",
)
@click.version_option(package_name="a2edit")
@click.pass_context
def main(ctx: click.Context, /, **given: Any) -> None:
    """Paint the object of a reference picture into the masked region of a picture."""
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
    if given["jobs"] is None:
        _edit_one(given)
    elif not _edit_many(ctx, given):
        ctx.exit(1)


def _edit_one(given: dict[str, Any]) -> None:
    """Check what can be checked, edit, and write only then."""
    for name in ("image", "reference", "out"):
        if given[name] is None:
            raise click.UsageError(f"Missing option '--{name}'.")
    if given["out_dir"] is not None:
        raise click.UsageError("--out-dir goes with --jobs; use --out.")
    out, sheet = check_output(given["out"], "--out"), given["sheet"]
    if sheet is not None and check_output(sheet, "--sheet").resolve() == out.resolve():
        raise RequestError(f"--out and --sheet are both {str(out)!r}: give two names")
    request = EditRequest(
        image=given["image"],
        mask=given["mask"],
        reference=given["reference"],
        reference_mask=given["reference_mask"],
        boxes=tuple(Box.parse(box) for box in given["boxes"]),
        prompt=given["prompt"],
        steps=given["steps"],
        seed=given["seed"],
        size=given["size"],
        resize_mask=given["resize_mask"],
    )
    start = time.perf_counter()
    with _open(given) as editor:
        result = _with_progress(editor, request)
        rows = [sheet_row(request, result)] if sheet is not None else []
        save_picture(result.image, out, result.text())
        if sheet is not None:
            save_picture(contact_sheet(rows), sheet)
        for warning in result.warnings:
            click.echo(f"warning: {warning}", err=True)
        if given["explain"]:
            print_explanation(result, editor, Console())
    skipped = f" ({result.skipped_steps} skipped)" if given["cache"] else ""
    click.echo(
        f"{click.format_filename(out)}: route {result.route} ({result.supply}), "
        f"predicted error {result.predicted_error:.2%}, "
        f"seed {result.seed}, {result.steps} steps{skipped}, {time.perf_counter() - start:.2f} s"
    )


def _edit_many(ctx: click.Context, given: dict[str, Any]) -> bool:
    """Run the job list; True if none failed."""
    for name, option in PER_EDIT.items():
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} is for one edit and does not go with --jobs.")
    if given["out_dir"] is None:
        raise click.UsageError("--jobs needs --out-dir.")
    jobs = read_jobs(given["jobs"])
    counts = {"done": 0, "skipped": 0, "failed": 0}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with (
        _open(given) as editor,
        Progress(*columns, TimeRemainingColumn(), console=console, disable=_quiet(console)) as bar,
    ):
        task = bar.add_task("edits", total=len(jobs))
        for outcome in run_jobs(editor, jobs, given["out_dir"]):
            counts[outcome.status] += 1
            bar.update(task, advance=1, description=outcome.job.name)
            if outcome.status == "failed":
                jobs_file = click.format_filename(given["jobs"])
                where = f"{jobs_file}:{outcome.job.line} ({outcome.job.name})"
                click.echo(f"error: {where}: {outcome.problem}", err=True)
        for warning in editor.memory.said:
            click.echo(f"warning: {warning}", err=True)
    figures = ", ".join(f"{n} {status}" for status, n in counts.items())
    click.echo(f"{click.format_filename(given['out_dir'])}: {figures}")
    return counts["failed"] == 0


def _open(given: dict[str, Any]) -> Editor:
    budget = given["memory_budget"]
    editor = Editor.open(
        given["bundle"],
        device=given["device"],
        engine=given["engine"],
        route_tolerance=given["route_tolerance"],
        memory_budget=parse_size(budget) if budget is not None else None,
        strict_route=given["strict_route"],
        route_log=given["route_log"],
        cache=given["cache"],
    )
    if budget is not None:
        click.echo(f"memory: {editor.memory}", err=True)
    return editor


def _with_progress(editor: Editor, request: EditRequest) -> EditResult:
    """A bar over the steps where someone is watching; it vanishes at the end."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=_quiet(console)) as bar:
        task = bar.add_task("steps", total=None)
        return editor.edit(request, lambda done, of: bar.update(task, completed=done, total=of))


def _quiet(console: Console) -> bool:
    return not console.is_terminal
