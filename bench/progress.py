"""Progress of a bench whose stages are known by name as they come."""

from collections.abc import Callable

from rich.progress import Progress, TaskID


def stage_bars(bar: Progress) -> Callable[[str, int, int], None]:
    """(what, done, of) → a bar a stage, which appears when it is first told of."""
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=of)
        bar.update(tasks[what], completed=min(done, of))

    return show
