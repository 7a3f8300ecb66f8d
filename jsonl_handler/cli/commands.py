"""The commands: their names, their options, their help."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from jsonl_handler import json_schema
from jsonl_handler.cli.checking import run_check
from jsonl_handler.cli.demo import run_demo

app = typer.Typer(
    help="JSON Lines logs that belong to one session alone.",
    no_args_is_help=True,
    add_completion=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("jsonl-handler"))
        raise typer.Exit


@app.callback()
def _common(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    # Only for the option that belongs to no command.
    pass


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A .toml, .json or .yaml file, as configure() reads it.")],
    table: Annotated[
        str | None, typer.Option(help='The table in it, with dots: "tool.myapp.logging".  [default: the whole file]')
    ] = None,
) -> None:
    """Say what is wrong with a logging configuration, or what would run.

    Exits with 1 when something is wrong. It makes no handler, but imports the modules that the file names.
    """
    raise typer.Exit(run_check(file, table=table))


@app.command()
def demo(
    directory: Annotated[
        Path | None, typer.Option(help="Where the files go.  [default: a new temporary folder]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="How many processes log.")] = 4,
    threads: Annotated[int, typer.Option(min=1, max=64, help="How many threads in each of them log.")] = 4,
    files: Annotated[int | None, typer.Option(min=1, help="How many files are parsed at most.  [default: all]")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="No file is begun after this time.")] = 9.0,
) -> None:
    """Parse the standard library in several processes, log an event per file, and count what arrived.

    Exits with 1 when an event is missing or stands there twice.
    """
    folder = directory if directory is not None else Path(tempfile.mkdtemp(prefix="jsonl_handler-demo-"))
    raise typer.Exit(run_demo(folder, processes=processes, threads=threads, files=files, seconds=seconds))


@app.command()
def schema(
    whole: Annotated[
        bool, typer.Option("--whole", help="The schema of a whole logging configuration, not of one handler's entry.")
    ] = False,
) -> None:
    """Print the JSON Schema (2020-12) of the configuration, for editors and other programs."""
    typer.echo(json.dumps(json_schema(whole=whole), indent=2))
