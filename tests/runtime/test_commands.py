"""Whatever goes wrong in a command or in a group of them is one line and exit code 2."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from a2edit.runtime.commands import Command, Group
from a2edit.runtime.errors import BundleError


@click.group(cls=Group)
def tool() -> None:
    """A tool."""


@tool.command()
@click.option("--count", type=click.IntRange(min=1), default=1)
@click.option("--file", type=click.Path(path_type=Path))
def read(count: int, file: Path | None) -> None:
    """Read a file."""
    if file is None:
        raise BundleError("the bundle\nis damaged")
    click.echo(file.read_text()[:count])


@click.command(cls=Command)
@click.argument("name")
def alone(name: str) -> None:
    """Do nothing."""
    raise click.UsageError(f"{name} is no name")


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (tool, ["read"], "the bundle is damaged"),
        (tool, ["read", "--file", "nowhere"], "No such file or directory: 'nowhere'"),
        (tool, ["read", "--count", "0"], "--count"),
        (tool, ["read", "--colour"], "(see tool read --help)"),
        (tool, ["write"], "No such command 'write'"),
        (alone, [], "Missing argument 'NAME'"),
        (alone, ["x"], "x is no name"),
    ],
)
def test_refusals(command: click.Command, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(command, arguments, prog_name=command.name)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert says in result.stderr


def test_a_group_alone_shows_its_help() -> None:
    result = CliRunner().invoke(tool, [])
    assert "Read a file." in result.output
    assert "error" not in result.output


def test_a_reader_that_has_gone_is_clicks_own_business() -> None:
    @click.command(cls=Command)
    def talk() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    result = CliRunner().invoke(talk, [])
    assert result.exit_code == 1
    assert "error" not in result.output
