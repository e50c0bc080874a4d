"""The commands: `python -m localmi --help`. Here alone an error becomes words and an exit code.

0: done. 1: it ran, and the answer is no (a notebook failed, a cache is damaged, something was
found). 2: refused, or it could not be done; the words say why. 130: stopped by Ctrl-C.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

import localmi
from localmi.errors import ConfigError, LocalMIError
from localmi.names import FRONTAL_VIEWS, Source
from localmi.ranks import LAUNCHER, PATIENCE, one_of_several, rank

REFUSED, STOPPED = 2, 130  # exit codes; the latter is what a shell says of Ctrl-C


class Commands(TyperGroup):
    """Puts every error the library raises on purpose into words."""

    def main(self, *words: Any, **others: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a redirect of Windows knows 256 letters
                stream.reconfigure(errors="replace")
        return super().main(*words, **others)

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
        except LocalMIError as error:
            typer.echo(f"{type(error).__name__}: {error}", err=True)
            raise typer.Exit(REFUSED) from error
        except KeyboardInterrupt as error:
            typer.echo(
                "Stopped. The same command goes on from there, where it can; a run goes on with "
                "--resume --out <its folder>.",
                err=True,
            )
            raise typer.Exit(STOPPED) from error


app = typer.Typer(
    cls=Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
)

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


class RunCommand(TyperCommand):
    """Takes `-p NAME VALUE`, as papermill does, and `-p NAME=VALUE`."""

    def parse_args(self, context: Any, words: list[str]) -> list[str]:
        joined: list[str] = []
        while words:
            word, *words = words
            joined.append(word)
            if word == "-p" and len(words) > 1 and "=" not in words[0]:
                joined.append(f"{words[0]}={words[1]}")
                words = words[2:]
        return super().parse_args(context, joined)


Pairs = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="NAME VALUE", help="Set one parameter; may be repeated."),
]
ParameterFile = Annotated[
    Path | None, typer.Option("-f", help="Set those named in a YAML file; -p goes over it.")
]
AllowOutputs = Annotated[
    bool, typer.Option("--allow-outputs", help="Store and print what cells show of MIMIC-CXR.")
]


@app.command(cls=RunCommand, context_settings={"help_option_names": []})
def run(
    context: typer.Context,
    notebook: Annotated[Path | None, typer.Argument(help="The notebook.")] = None,
    pairs: Pairs = None,
    file: ParameterFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the run is kept; default runs/NOTEBOOK-001, ...")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, its own parameters.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Begin the run in --out, go on, or find it finished.")
    ] = False,
    allow_outputs: AllowOutputs = False,
    help: Annotated[
        bool, typer.Option("--help", "-h", help="This text; with NOTEBOOK, its parameters.")
    ] = False,
) -> None:
    """Execute a notebook without opening it, with other parameters than its own defaults.

    0: done, 1: the notebook failed, 2: refused before anything was executed.
    """
    from localmi.notebook import parameters
    from localmi.notebook.launch import follow
    from localmi.notebook.plan import plan_run
    from localmi.notebook.run import execute_plan, run_once
    from localmi.notebook.stopping import ends_with_its_parent

    if notebook is None:
        typer.echo(context.get_help())
        raise typer.Exit(0 if help else REFUSED)
    if help:
        stored = parameters.read_notebook(notebook)
        typer.echo(parameters.table(parameters.parameters_of(stored, notebook.name)))
        return
    asked = _asked(pairs, file) | {"out": out, "allow_outputs": allow_outputs}
    if one_of_several():
        ends_with_its_parent(os.environ.get(LAUNCHER))
    if rank():
        raise typer.Exit(follow(notebook, **asked))
    if once:
        raise typer.Exit(run_once(notebook, **asked))
    raise typer.Exit(execute_plan(plan_run(notebook, **asked, resume=resume)))


@app.command(cls=RunCommand)
def launch(
    notebook: Annotated[Path, typer.Argument(help="The notebook.")],
    pairs: Pairs = None,
    file: ParameterFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the run is kept, or goes on; default as of run.")
    ] = None,
    allow_outputs: AllowOutputs = False,
    nproc: Annotated[int, typer.Option(help="Processes on this node: one a GPU.")] = 1,
    nnodes: Annotated[int, typer.Option(help="Nodes that give this command.")] = 1,
    rendezvous: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Of one of several nodes.")
    ] = "",
    max_restarts: Annotated[
        int, typer.Option(help="How often all go on from the checkpoint, where one has failed.")
    ] = 0,
    patience: Annotated[
        int, typer.Option(help="Seconds; who keeps the others waiting for longer has hung.")
    ] = PATIENCE,
) -> None:
    """Execute a notebook on several processes that train together, started by torchrun."""
    from localmi.notebook.launch import launch as start

    words = [word for pair in pairs or [] for word in ("-p", pair)]
    words += ["-f", str(file)] if file else []
    words += ["--allow-outputs"] if allow_outputs else []
    code = start(
        notebook,
        words,
        asked=_asked(pairs, file),
        out=out,
        processes=nproc,
        nodes=nnodes,
        meet_at=rendezvous,
        restarts=max_restarts,
        patience=patience,
    )
    raise typer.Exit(code)


def _asked(pairs: list[str] | None, file: Path | None) -> dict[str, Any]:
    """The parameters that are set, as `plan_run` takes them."""
    from localmi.notebook.parameter_files import read_yaml

    return {
        "from_file": read_yaml(file) if file else {},
        "from_command": dict(_name_and_value(pair) for pair in pairs or []),
    }


def _name_and_value(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise ConfigError(f"-p {name} has no value: -p NAME VALUE.")
    return name, value


@app.command()
def environment(
    packages: Annotated[
        bool, typer.Option("--packages", help="Only missing packages, only problems.")
    ] = False,
) -> None:
    """Check this machine and say how to mend what is wrong."""
    from localmi.environment.check import check_environment, problems_of_packages

    found = problems_of_packages() if packages else check_environment()
    for each in found:
        typer.echo(each)
    raise typer.Exit(int(any(each.level == "problem" for each in found)))


@app.command()
def lint(
    folder: Annotated[Path, typer.Argument(help="The folder of notebooks.")] = Path("notebooks"),
) -> None:
    """Check the shape of the notebooks: CONTRIBUTING.md says what is asked of them."""
    from localmi.notebook.lint import lint_folder

    problems = lint_folder(folder)
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{len(list(folder.glob('*.ipynb')))} notebooks, {len(problems)} problems")
    raise typer.Exit(int(bool(problems)))


@app.command()
def render(
    notebooks: Annotated[
        list[Path] | None, typer.Argument(help="Some notebooks; default all.")
    ] = None,
) -> None:
    """Execute notebooks in place, store their outputs, and bring their text pairs in step."""
    from localmi.notebook.render import all_notebooks, render_notebooks

    raise typer.Exit(render_notebooks(notebooks or all_notebooks(Path("notebooks"))))


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
    """Refuse files with ids or reports of MIMIC-CXR or MIMIC-IV; `make hooks`: at each commit."""
    from localmi.privacy.scan import scan_and_report

    raise typer.Exit(scan_and_report(paths or [], staged=staged, against=against))


@app.command()
def prepare(
    data_dir: Annotated[Path, typer.Option(help="The downloaded study: a folder, or a CSV.")],
    out: Annotated[Path, typer.Option(help="The folder of the cache.")],
    source: Annotated[Source, typer.Option(help="What lies in data_dir.")] = "auto",
    reports: Annotated[
        Path | None, typer.Option(help="MIMIC: reports that lie apart, a folder or the zip.")
    ] = None,
    records: Annotated[
        Path | None, typer.Option(help="MIMIC: the folder of MIMIC-IV, for patients and stays.")
    ] = None,
    views: Annotated[
        str, typer.Option(help="View positions that are kept, such as AP,PA,LATERAL,LL.")
    ] = ",".join(FRONTAL_VIEWS),
    image_size: Annotated[int, typer.Option(help="Side of the square images, in pixels.")] = 256,
    workers: Annotated[int, typer.Option(help="Threads that decode; 0: one a core.")] = 0,
    leaks: Annotated[
        Literal["refuse", "reject"],
        typer.Option(help="Patients or pixels in two splits: an error, or left out and listed."),
    ] = "refuse",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say time, disk, and what of a sample fails.")
    ] = False,
) -> None:
    """Turn MIMIC-CXR, OpenI, NIH-14, CheXpert or a CSV into a checked cache, even after a kill."""
    from localmi.data.cache.prepare import prepare as prepare_cache

    prepare_cache(
        data_dir,
        out,
        source=source,
        reports_dir=reports,
        records_dir=records,
        views=[view.strip() for view in views.split(",")],
        image_size=image_size,
        workers=workers,
        leaks=leaks,
        dry_run=dry_run,
    )


@app.command()
def verify(cache: Annotated[Path, typer.Argument(help="The folder of a cache.")]) -> None:
    """Check every image and table of a cache against what was written; 1: something is damaged."""
    from localmi.data.cache.verify import MEND, verify_cache

    if damaged := verify_cache(cache, progress=True):
        typer.echo("\n".join([f"{cache} is damaged:", *damaged, MEND]), err=True)
        raise typer.Exit(1)
    typer.echo(f"{cache} is whole: every image, table and hash is as it was written.")


@app.command()
def example(
    out: Annotated[Path, typer.Option(help="The folder; its contents are replaced.")],
) -> None:
    """Generate the committed example study again, byte for byte."""
    phantom(out)


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="The folder; a synthetic study in it is replaced.")],
    patients: Annotated[int, typer.Option(help="1.8 studies each, .8 of them to train.")] = 1000,
    seed: Annotated[int, typer.Option(help="Another seed, another study.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.")] = 0,
    lateral: Annotated[float, typer.Option(help="Share of studies with a lateral view.")] = 0.0,
    depth_said: Annotated[
        float, typer.Option(help="Share of sentences that say what lies in front, what behind.")
    ] = 0.0,
    record_reversed: Annotated[
        bool, typer.Option("--record-reversed", help="Findings shorten stays: another hospital.")
    ] = False,
) -> None:
    """Generate a synthetic study of any size, with its truth: the example is the default."""
    from localmi.phantom.example import regenerate

    regenerate(
        out,
        patients=patients,
        seed=seed,
        workers=workers,
        lateral=lateral,
        depth_said=depth_said,
        record_reversed=record_reversed,
    )
    files = sum(path.is_file() for path in out.rglob("*"))
    typer.echo(f"{out}: {files} files, {_megabytes(out):.1f} MB")


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
    from localmi.downstream.tables import write_tables

    out = out or folder / "tables"
    text = write_tables(folder, out, data_dir=data_dir, permutations=permutations, workers=workers)
    typer.echo(f"{text}\nWritten: {out}")


@app.command()
def collect(
    folder: Annotated[Path, typer.Argument(help="The `out` of a grid with variants.")],
    out: Annotated[Path | None, typer.Option(help="Default FOLDER/tables.")] = None,
) -> None:
    """Metrics and tables of the runs of one notebook in several variants, side by side."""
    from localmi.notebook.collect import collect_runs

    out = out or folder / "tables"
    runs = collect_runs(folder, out)
    typer.echo(", ".join(f"{variant}: {number}" for variant, number in runs.items()))
    typer.echo(f"Written: {out}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run of notebook 07, or its checkpoint.pt.")],
    out: Annotated[Path, typer.Argument(help="A folder; of a checkpoint a file, a new one.")],
) -> None:
    """Keep what a run has learnt, without the optimisers: small, for notebooks 07, 08 and 09."""
    from localmi.train.trained_model import export_networks, export_run

    keep = export_run if run.is_dir() else export_networks
    keep(run, out)
    before, after = (_megabytes(path) for path in (run, out))
    typer.echo(f"{out}: {after:.1f} MB of {before:.1f} MB")


def _megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    sys.exit(app())
