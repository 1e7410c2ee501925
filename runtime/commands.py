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
            hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            raise OneLineError(error.format_message() + hint) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except A2EditError as error:
            raise OneLineError(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click's own business: the reader has gone
                raise
            raise OneLineError(str(error)) from error
        except click.UsageError as error:
            raise OneLineError(
                f"{error.format_message()} (see {ctx.command_path} --help)"
            ) from error
