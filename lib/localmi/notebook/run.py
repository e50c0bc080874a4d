"""Headless runs: `python -m localmi run NOTEBOOK -p name value ...`, papermill underneath.

Everything that can be refused is refused before anything is executed. What a run leaves lies in
one folder: the executed notebook, parameters.yaml, run.log, and what the notebook itself writes to
`run_dir` (results.json, checkpoints). On credentialed data nothing a cell shows is kept or
printed, unless --allow-outputs is given: see `private_run`.
"""

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import yaml

from localmi.errors import ConfigError, LocalMIError
from localmi.notebook import parameters as notebook_parameters
from localmi.privacy.credentialed import folders, is_credentialed

DONE, FAILED, REFUSED = 0, 1, 2  # exit codes
RUN_DIR = "run_dir"  # the parameter a notebook writes its results to; "" keeps nothing
PARAMETERS_FILE = "parameters.yaml"
ALLOW_OUTPUTS = "allow_outputs"  # a parameter a notebook may have; as the flag
RESULTS = "results.json"
NOT_KEPT = """The data has ids of MIMIC-CXR: what the cells show is neither stored nor printed, and
of an error only its type. Metrics come in metrics.jsonl and results.json. --allow-outputs stores
and prints it all."""
KEPT = """The data has ids of MIMIC-CXR, and --allow-outputs was given: the notebook and the log of
this run hold what the cells show. They must stay where the data may lie, and in no repository."""

USAGE = """python -m localmi run NOTEBOOK [-p NAME VALUE]... [-f FILE] [--out FOLDER]
       [--resume | --once]

Execute a notebook without opening it, with other parameters than its own defaults.

  -p NAME VALUE   set one parameter (may be given several times)
  -f FILE         set the parameters named in a YAML file; -p goes over it
  --out FOLDER    where the run is kept; default runs/<notebook>-001, -002, ... under this folder
  --resume        go on with the run in --out FOLDER, with its own parameters
  --once          begin the run in --out FOLDER, go on with it, or leave it where it is finished
  --allow-outputs store and print what the cells show, although the data is MIMIC-CXR's
  --help          this text; with NOTEBOOK, the table of its parameters

Exit codes: 0 done, 1 the notebook failed, 2 refused before anything was executed."""


@dataclass(frozen=True)
class Plan:
    """A run that was checked and can start."""

    notebook: Path
    run_dir: Path
    values: Mapping[str, Any]  # every parameter of the notebook, run_dir excepted
    changed: Mapping[str, Any]  # those that differ from the notebook's defaults
    keeps_results: bool  # the notebook has the parameter run_dir
    resume: bool
    numbered: bool  # run_dir was not asked for by name
    credentialed: bool = False  # the data has ids of MIMIC-CXR
    allow_outputs: bool = False  # to be stored and printed even so


def plan_run(
    notebook: Path,
    *,
    from_file: Mapping[str, Any] | None = None,
    from_command: Mapping[str, str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    allow_outputs: bool = False,
) -> Plan:
    """Checks everything that can be checked beforehand; changes nothing on disk.

    Whether data is credentialed is decided by its ids, here and not by the notebook.

    Raises:
        ConfigError: an unknown parameter, a wrong type or value, a run folder that exists
            (or, with `resume`, one that does not).
        DataError: no such notebook, or a data folder that does not exist.
    """
    from_file, from_command = dict(from_file or {}), dict(from_command or {})
    if RUN_DIR in {*from_file, *from_command}:
        raise ConfigError(f"{RUN_DIR} is set by the runner: use --out FOLDER.")
    notebook = notebook.resolve()
    known = notebook_parameters.parameters_of(
        notebook_parameters.read_notebook(notebook), notebook.name
    )
    run_dir = _run_folder(notebook, out, resume)
    if resume:
        from_file = {**read_yaml(run_dir / PARAMETERS_FILE), **from_file}
    values = notebook_parameters.resolve(known, from_file, from_command, notebook.name)
    keeps_results = values.pop(RUN_DIR, None) is not None
    changed = {name: value for name, value in values.items() if value != known[name].default}
    return Plan(
        notebook,
        run_dir,
        values,
        changed,
        keeps_results,
        resume,
        numbered=out is None,
        credentialed=any(map(is_credentialed, folders(values))),
        allow_outputs=allow_outputs or values.get(ALLOW_OUTPUTS) is True,
    )


def _run_folder(notebook: Path, out: Path | None, resume: bool) -> Path:
    if out is not None:
        out = out.expanduser().resolve()
    if resume:
        if out is None or not (out / PARAMETERS_FILE).is_file():
            raise ConfigError(
                f"--resume needs --out FOLDER, the folder of an earlier run (one that holds "
                f"{PARAMETERS_FILE}); found {out or 'no --out'}."
            )
        return out
    if out is not None:
        if out.exists():
            raise ConfigError(
                f"The run folder {out} exists. Give another --out, remove it, or go on with that "
                "run: --resume."
            )
        return out
    return _next_folder(notebook)


def _next_folder(notebook: Path) -> Path:
    folders = (Path.cwd() / "runs" / f"{notebook.stem}-{n:03d}" for n in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def _take_folder(plan: Plan) -> Plan:
    """Makes the run folder; a numbered one that another run has just taken becomes the next."""
    while True:
        try:
            plan.run_dir.mkdir(parents=True, exist_ok=plan.resume)
        except FileExistsError:
            if not plan.numbered:
                raise
            plan = replace(plan, run_dir=_next_folder(plan.notebook))
        else:
            return plan


def read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"The parameter file {path} cannot be read: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"The parameter file {path} must hold lines of the form name: value.")
    return content


class _Tee:
    """Writes to the screen and to the log at once."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()


def execute_plan(plan: Plan) -> int:
    """Runs the plan, showing what the notebook prints where it may; returns the exit code."""
    from localmi.notebook import private_run

    logging.getLogger("papermill").setLevel(logging.ERROR)
    plan = _take_folder(plan)
    written = yaml.safe_dump(dict(plan.values), sort_keys=False, allow_unicode=True)
    aside = plan.run_dir.with_name(f".{plan.run_dir.name}.writing")
    aside.write_text(written, encoding="utf-8")
    aside.replace(plan.run_dir / PARAMETERS_FILE)  # whole or not at all, whenever a kill comes
    executed = plan.run_dir / plan.notebook.name
    injected = {**plan.changed, **({RUN_DIR: str(plan.run_dir)} if plan.keeps_results else {})}
    with (plan.run_dir / "run.log").open("a", encoding="utf-8") as log:
        screen = _Tee(sys.stdout, log)
        _say_start(plan, screen)
        if plan.credentialed and not plan.allow_outputs:
            failed = private_run.execute_without_outputs(
                plan.notebook, executed, injected, say=lambda line: screen.write(f"{line}\n")
            )
            failed = failed and f"Failed in {failed}\nWithout its outputs: {executed}\n"
        else:
            notebook = (
                private_run.prepared(plan.notebook, injected, note=private_run.STORED)
                if plan.credentialed
                else str(plan.notebook)
            )
            failed = _execute_in_the_open(notebook, executed, injected, log)
        results = plan.run_dir / RESULTS
        if plan.credentialed and results.is_file() and private_run.mask_ids(results):
            screen.write(f"{results} held ids of the data: they are masked.\n")
        if failed:
            screen.write(failed)
            return FAILED
        _say_end(plan, screen)
    return DONE


def _execute_in_the_open(
    notebook: Any, executed: Path, injected: Mapping[str, Any], log: TextIO
) -> str:
    """Stores and shows all outputs as they come; returns what failed, "" for nothing."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from localmi.notebook.render import KERNEL_CONFIG

    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=dict(injected),
            kernel_name="python3",
            progress_bar=False,
            config=KERNEL_CONFIG,
            stdout_file=_Tee(sys.stdout, log),
            stderr_file=_Tee(sys.stderr, log),
        )
    except PapermillExecutionError as error:
        return (
            f"Failed in cell [{error.exec_count}]: {error.ename}: {error.evalue}\n"
            f"The notebook as far as it came, with the traceback: {executed}\n"
        )
    except Exception as error:  # the kernel died, or could not start
        return f"Failed: {type(error).__name__}: {error}\nSee {executed}\n"
    return ""


def _say_start(plan: Plan, screen: _Tee) -> None:
    screen.write(f"{'Going on with' if plan.resume else 'Run folder'}: {plan.run_dir}\n")
    screen.write(f"Notebook: {plan.notebook}\n")
    changes = ", ".join(f"{name} = {value!r}" for name, value in plan.changed.items())
    screen.write(f"Parameters other than the defaults: {changes or 'none'}\n")
    if plan.credentialed:
        screen.write(f"{KEPT if plan.allow_outputs else NOT_KEPT}\n")
    screen.flush()


def _say_end(plan: Plan, screen: _Tee) -> None:
    results = plan.run_dir / RESULTS
    screen.write(f"Done. Executed notebook: {plan.run_dir / plan.notebook.name}\n")
    if results.is_file():
        screen.write(f"Results: {results}\n")
        for name, metric in json.loads(results.read_text(encoding="utf-8"))["metrics"].items():
            value, low, high = (
                "?" if number is None else f"{number:.3g}"
                for number in (metric["value"], *metric["interval95"])
            )
            screen.write(f"  {name}: {value} [{low}, {high}]\n")


def main(words: Sequence[str]) -> int:
    """The command `python -m localmi run`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m localmi run", usage=USAGE, add_help=False)
    parser.add_argument("notebook", type=Path, nargs="?")
    parser.add_argument("-p", dest="pairs", nargs=2, action="append", default=[])
    parser.add_argument("-f", dest="file", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--allow-outputs", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    asked = parser.parse_args(words)
    try:
        if asked.notebook is None:
            print(USAGE)
            return DONE if asked.help else REFUSED
        if asked.help:
            notebook = notebook_parameters.read_notebook(asked.notebook)
            known = notebook_parameters.parameters_of(notebook, asked.notebook.name)
            print(notebook_parameters.table(known))
            return DONE
        from_file = read_yaml(asked.file) if asked.file else {}
        asked_for: dict[str, Any] = {"from_file": from_file, "from_command": dict(asked.pairs)}
        asked_for |= {"out": asked.out, "allow_outputs": asked.allow_outputs}
        if asked.once:
            from localmi.notebook.once import run_once

            return run_once(asked.notebook, **asked_for)
        plan = plan_run(asked.notebook, **asked_for, resume=asked.resume)
    except LocalMIError as error:
        print(f"Refused, nothing was executed.\n{error}", file=sys.stderr)
        return REFUSED
    return execute_plan(plan)
