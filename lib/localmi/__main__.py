"""The commands: `python -m localmi --help`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

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
    from localmi.notebook.run import main

    raise typer.Exit(main(context.args))


@app.command()
def environment() -> None:
    """Check this machine and say how to mend what is wrong."""
    from localmi.environment.check import main

    raise typer.Exit(main([]))


@app.command()
def lint(
    folder: Annotated[Path, typer.Argument(help="The folder of notebooks.")] = Path("notebooks"),
) -> None:
    """Check the shape of the notebooks: CONTRIBUTING.md says what is asked of them."""
    from localmi.notebook.lint import main

    raise typer.Exit(main(folder))


@app.command()
def render(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Some notebooks; default all.")
    ] = None,
) -> None:
    """Execute notebooks in place, store their outputs, and bring their text pairs in step."""
    from localmi.notebook.render import all_notebooks, main

    raise typer.Exit(main(notebooks or all_notebooks(Path("notebooks"))))


@app.command()
def scan(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders; default what git takes up.")
    ] = None,
    staged: Annotated[bool, typer.Option("--staged", help="What the next commit adds.")] = False,
    against: Annotated[
        Path | None, typer.Option(help="A study or cache: look for its sentences as well.")
    ] = None,
) -> None:
    """Refuse files that hold ids or reports of MIMIC-CXR; `make hooks` does so at each commit."""
    from localmi.privacy.scan import main

    raise typer.Exit(main(paths or [], staged=staged, against=against))


@app.command()
def prepare(
    data_dir: Annotated[Path, typer.Option(help="The downloaded study: a folder, or a CSV.")],
    out: Annotated[Path, typer.Option(help="The folder of the cache.")],
    source: Annotated[
        Literal["auto", "mimic", "openi", "csv"], typer.Option(help="What lies in data_dir.")
    ] = "auto",
    reports: Annotated[
        Path | None, typer.Option(help="MIMIC: reports that lie apart, a folder or the zip.")
    ] = None,
    image_size: Annotated[int, typer.Option(help="Side of the square images, in pixels.")] = 256,
    workers: Annotated[int, typer.Option(help="Threads that decode; 0: one a core.")] = 0,
    leaks: Annotated[
        Literal["refuse", "reject"],
        typer.Option(help="Patients or pixels in two splits: an error, or left out and listed."),
    ] = "refuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say time and disk only.")] = False,
) -> None:
    """Turn MIMIC-CXR, OpenI or a CSV into a checked cache; after a kill, go on from there."""
    from localmi.data.cache.prepare import main

    code = main(
        data_dir,
        out,
        source=source,
        reports_dir=reports,
        image_size=image_size,
        workers=workers,
        leaks=leaks,
        dry_run=dry_run,
    )
    raise typer.Exit(code)


@app.command()
def verify(cache: Annotated[Path, typer.Argument(help="The folder of a cache.")]) -> None:
    """Check every image and table of a cache against what was written; 1: something is damaged."""
    from localmi.data.cache.verify import main

    raise typer.Exit(main(cache))


@app.command()
def example(
    out: Annotated[Path, typer.Option(help="The folder; its contents are replaced.")],
) -> None:
    """Generate the committed example study again, byte for byte."""
    from localmi.phantom.example import main

    raise typer.Exit(main(out))


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="The folder; a synthetic study in it is replaced.")],
    patients: Annotated[int, typer.Option(help="1.8 studies each, .8 of them to train.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed, another study.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.")] = 0,
) -> None:
    """Generate a synthetic study of any size, with its truth: the example is the default."""
    from localmi.errors import LocalMIError
    from localmi.phantom.example import main

    try:
        main(out, patients=patients, seed=seed, workers=workers)
    except LocalMIError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from error


@app.command()
def tables(
    folder: Annotated[Path, typer.Argument(help="A folder of finished downstream runs.")],
    out: Annotated[Path | None, typer.Option(help="Default FOLDER/tables.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Their prepared cache: counts its labels.")
    ] = None,
    permutations: Annotated[int, typer.Option(help="Of each paired test.", min=1)] = 10_000,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
) -> None:
    """The paper's tables from the runs below a folder: AUCs with intervals, paired tests."""
    from localmi.downstream.tables import main

    out = out or folder / "tables"
    raise typer.Exit(
        main(folder, out, data_dir=data_dir, permutations=permutations, workers=workers)
    )


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run of notebook 07.")],
    out: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
) -> None:
    """Keep the trained networks of a checkpoint alone: a small file for notebooks 08 and 09."""
    from localmi.train.trained_model import main

    raise typer.Exit(main(checkpoint, out))


if __name__ == "__main__":
    sys.exit(app())
