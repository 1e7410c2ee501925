"""How a2edit's commands fail: one line on stderr, exit code 2, no traceback."""

import errno
from typing import IO, Any

import click

from a2edit.runtime.errors import A2EditError


class OneLineError(click.ClickException):
    """`error: …` and exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {' '.join(self.format_message().split())}", file=file, err=True)


class Command(click.Command):
    """A command that prints refusals, its own and click's, as one line."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            raise _one_line(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (A2EditError, OSError, click.UsageError) as error:
            raise _one_line(error) from None


class Group(Command, click.Group):
    """A command of commands; what goes wrong in any of them is printed alike."""


def _one_line(error: Exception) -> Exception:
    if isinstance(error, click.UsageError):
        # asked for nothing, a group shows its help: that is no one-liner
        if type(error).__name__ == "NoArgsIsHelpError":
            return error
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return OneLineError(error.format_message() + hint)
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return error  # click's own business: the reader has gone
    return OneLineError(str(error))
