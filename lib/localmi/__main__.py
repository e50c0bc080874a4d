"""The commands: `python -m localmi --help`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import localmi

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

# Everything below is imported where it is used, so that --help does not wait for torch.


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"localmi {localmi.__version__}")
        raise typer.Exit


@app.callback()
def commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Local mutual information of chest radiographs and reports: the course's commands."""


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def run(context: typer.Context) -> None:
    """Execute a notebook with other parameters: run NOTEBOOK -p NAME VALUE ... (run --help)."""
    from localmi.course.run import main

    raise typer.Exit(main(context.args))


@app.command()
def environment() -> None:
    """Check this machine and say how to mend what is wrong."""
    from localmi.course.environment import main

    raise typer.Exit(main([]))


@app.command()
def lint(
    folder: Annotated[Path, typer.Argument(help="The folder of notebooks.")] = Path("notebooks"),
) -> None:
    """Check the shape of the notebooks: CONTRIBUTING.md says what is asked of them."""
    from localmi.course.lint import main

    raise typer.Exit(main(folder))


@app.command()
def render(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Some notebooks; default all.")
    ] = None,
) -> None:
    """Execute notebooks in place, store their outputs, and bring their text pairs in step."""
    from localmi.course.render import all_notebooks, main

    raise typer.Exit(main(notebooks or all_notebooks(Path("notebooks"))))


@app.command()
def example(
    out: Annotated[Path, typer.Option(help="The folder; its contents are replaced.")],
) -> None:
    """Generate the committed example study again, byte for byte."""
    from localmi.course.example import main

    raise typer.Exit(main(out))


if __name__ == "__main__":
    sys.exit(app())
