"""Headless runs: `python -m localmi run NOTEBOOK -p name value ...`, papermill underneath.

Everything that can be refused is refused before anything is executed. What a run leaves lies in
one folder: the executed notebook, parameters.yaml, run.log, what the notebook itself writes to
`run_dir` (checkpoints, metrics), and results.json, the record, which is written here and last. On
credentialed data nothing a cell shows is kept or printed, unless --allow-outputs is given: see
`private_run`.
"""

import json
import logging
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import yaml
from filelock import BaseFileLock, FileLock, Timeout

from localmi.errors import CheckpointError, ConfigError, StoppedError
from localmi.files import whole_file, write_text
from localmi.notebook import parameters as notebook_parameters
from localmi.notebook.open_run import Tee, execute_with_outputs
from localmi.notebook.parameters import FURTHER
from localmi.notebook.plan import (
    ALLOW_OUTPUTS,
    PARAMETERS_FILE,
    RESUME,
    RUN_DIR,
    Plan,
    check_once,
    next_folder,
    plan_run,
)
from localmi.notebook.stopping import passed_on
from localmi.ranks import one_of_several
from localmi.record import MEASURED, METRICS, RESULTS, finish_record
from localmi.train.checkpoint_files import CHECKPOINT, going_on_from

# Exit codes; what is refused is an error, and `__main__` makes it 2. A run that was asked to stop
# and has saved is done for now: 0.
DONE, FAILED, INTERRUPTED = 0, 1, 130
STOPPED = "stopped.txt"  # in the folder of a run that has saved and stopped: how it goes on
STOPPED_ERROR = StoppedError.__name__  # of the loop, where it has saved
LOG = "run.log"
SAME_NUMBERS = {RESUME, "cache_dir", ALLOW_OUTPUTS}  # parameters that change no result
OTHER = """**Run with other parameters than the course's: {}.** Numbers in the text are those of
the defaults, on the example study; what this run found is in the outputs of its cells."""
NOT_KEPT = """The data has ids of MIMIC-CXR: what the cells show is neither stored nor printed, and
of an error only its type. Metrics come in metrics.jsonl and results.json. --allow-outputs stores
and prints it all."""
KEPT = """The data has ids of MIMIC-CXR, and --allow-outputs was given: the notebook and the log of
this run hold what the cells show. They must stay where the data may lie, and in no repository."""


def _take_folder(plan: Plan) -> Plan:
    """Makes the run folder; a numbered one that another run has just taken becomes the next."""
    while True:
        try:
            plan.run_dir.mkdir(parents=True, exist_ok=plan.resume)
        except FileExistsError:
            if not plan.numbered:
                raise
            plan = replace(plan, run_dir=next_folder(plan.notebook))
        except OSError as error:
            raise ConfigError(
                f"The run folder {plan.run_dir} cannot be made: {error.strerror}. Give --out a "
                "folder whose parent exists or can be made, on a disk that may be written to."
            ) from error
        else:
            return plan


def run_once(
    notebook: Path,
    *,
    from_file: Mapping[str, Any] | None = None,
    from_command: Mapping[str, str] | None = None,
    out: Path | None = None,
    allow_outputs: bool = False,
) -> int:
    """What a sweep calls again and again: begins a run, goes on with it, or finds it finished.

    Two at once on one folder: the second waits, and finds the run finished. The lock goes with
    its process, so a killed one leaves none behind.

    Returns:
        The exit code.

    Raises:
        ConfigError: no `out`, or the folder holds a run with other parameters; and what
            `plan_run` refuses.
        DataError: as `plan_run`.
    """
    if out is None:
        raise ConfigError("--once needs --out FOLDER, the folder of the run.")
    out = out.expanduser().resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with held(out, wait=True):
        begun = check_once(notebook, out, from_file=from_file, from_command=from_command)
        if not begun and out.is_dir():  # workflow managers make the folder of what they expect
            for path in out.iterdir():
                path.unlink()
            out.rmdir()
        plan = plan_run(
            notebook,
            from_file=from_file,
            from_command=from_command,
            out=out,
            resume=begun,
            allow_outputs=allow_outputs,
        )
        return execute_plan(plan)


def held(run_dir: Path, *, wait: bool) -> BaseFileLock:
    """The lock of a run, beside its folder; it goes with its process, so a kill leaves none.

    Raises:
        ConfigError: another process has it, and `wait` is False.
    """
    lock = FileLock(run_dir.with_name(f".{run_dir.name}.lock"), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise ConfigError(
                f"Another process is at {run_dir}. Wait until it has ended, or end it; then give "
                "the same command again."
            ) from None
        print(f"Another process is at {run_dir}: waiting for it.", flush=True)
        lock.acquire()
    return lock


def execute_plan(plan: Plan) -> int:
    """Runs the plan, showing what the notebook prints where it may; returns the exit code.

    Raises:
        ConfigError: another process is at this run.
        CheckpointError: a resumed run did not go on from its checkpoint; it is as it was.
    """
    plan = _take_folder(plan)
    with held(plan.run_dir, wait=False):
        if plan.resume and (plan.run_dir / RESULTS).is_file():
            print(f"Finished before: {plan.run_dir}")
            return DONE
        parts = (plan.run_dir / plan.notebook.name, plan.run_dir / LOG) if plan.resume else ()
        before = {path: path.read_bytes() for path in parts if path.is_file()}
        steps = _age(plan.run_dir / METRICS)
        failed, asked = _execute(plan)
        if "CheckpointError" in failed and before and steps == _age(plan.run_dir / METRICS):
            for path, content in before.items():
                with whole_file(path) as file:
                    file.write(content)
            raise CheckpointError(
                "The run did not go on from its checkpoint, for the reason above. Its notebook "
                "and its log are put back as they were."
            )
        if STOPPED_ERROR in failed:
            return DONE
        return INTERRUPTED if failed and asked else FAILED if failed else DONE


def _execute(plan: Plan) -> tuple[str, bool]:
    """Executes the notebook and writes the record; what failed, "" for nothing, and whether it
    was asked to stop."""
    from localmi.notebook import private_run

    logging.getLogger("papermill").setLevel(logging.ERROR)
    began = time.perf_counter()
    for of_before in (MEASURED, STOPPED):
        (plan.run_dir / of_before).unlink(missing_ok=True)
    if not plan.resume:  # a run keeps the parameters that it began with
        written = yaml.safe_dump(dict(plan.values), sort_keys=False, allow_unicode=True)
        write_text(written, plan.run_dir / PARAMETERS_FILE)
    with (plan.run_dir / LOG).open("a", encoding="utf-8") as log:
        screen = Tee(sys.stdout, log)
        _say_start(plan, screen)
        executed = plan.run_dir / plan.notebook.name
        failed, asked = execute_notebook(plan, executed, screen, Tee(sys.stderr, log))
        parameters = notebook_parameters.recorded(plan.parameters, plan.values)
        if plan.credentialed:  # before there is a record, so that no kill leaves one with ids
            parameters = private_run.without_ids(parameters)
            for record in private_run.mask_records(plan.run_dir):
                screen.write(f"{record} held ids of the data: they are masked.\n")
        if plan.keeps_results and not failed:
            finish_record(
                plan.run_dir,
                notebook=plan.notebook.stem,
                parameters=parameters,
                seconds=time.perf_counter() - began,
            )
        if STOPPED_ERROR in failed:
            _say_stopped(plan, screen)
        elif failed:
            screen.write(failed)
        else:
            _say_end(plan, screen)
    return failed, asked


def execute_notebook(plan: Plan, executed: Path, screen: Tee, errors: Tee) -> tuple[str, bool]:
    """Executes the notebook of a plan and stores it, with its outputs where they may be kept.

    Args:
        plan: of the run.
        executed: where it is stored.
        screen, errors: where its stdout and stderr go.

    Returns:
        What failed, "" for nothing, and whether it was asked to stop.
    """
    from localmi.notebook import prepare, private_run

    def say(line: str) -> None:
        screen.write(f"{line}\n")
        screen.flush()

    injected = {**plan.changed, **({RUN_DIR: str(plan.run_dir)} if plan.keeps_results else {})}
    with passed_on(say) as asked:
        if plan.credentialed and not plan.allow_outputs:
            failed = private_run.execute_without_outputs(
                plan.notebook, executed, injected, say=say
            )
            failed = failed and f"Failed in {failed}\nWithout its outputs: {executed}\n"
        else:
            other = OTHER.format(_changes(plan)) if plan.changed.keys() - SAME_NUMBERS else ""
            note = f"{private_run.STORED}\n\n{other}" if plan.credentialed else other
            nbformat.write(prepare.with_parameters(plan.notebook, injected, note), executed)
            failed = execute_with_outputs(executed, screen=screen, errors=errors)
        return failed, asked()


def _say_stopped(plan: Plan, screen: Tee) -> None:
    told = "Stopped as asked, and saved."
    if not one_of_several():  # else `launch` says how it goes on
        words = ["run", str(plan.notebook), "--resume", "--out", str(plan.run_dir)]
        told += f" Resume by: {shlex.join([sys.executable, '-m', 'localmi', *words])}"
    told += "\n"
    screen.write(told)
    write_text(told, plan.run_dir / STOPPED)


def _age(path: Path) -> int:
    """When a file was last written; 0 where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _say_start(plan: Plan, screen: Tee) -> None:
    screen.write(f"{'Going on with' if plan.resume else 'Run folder'}: {plan.run_dir}\n")
    if plan.resume and not plan.values.get(RESUME, True):
        screen.write("It has no checkpoint yet: it begins anew.\n")
    if plan.checkpoint and (said := going_on_from(plan.checkpoint, plan.run_dir / CHECKPOINT)):
        screen.write(f"{said}\n")
    screen.write(f"Notebook: {plan.notebook}\n")
    screen.write(f"Parameters other than the defaults: {_changes(plan) or 'none'}\n")
    if plan.credentialed:
        screen.write(f"{KEPT if plan.allow_outputs else NOT_KEPT}\n")
    screen.flush()


def _changes(plan: Plan) -> str:
    changed = plan.changed
    own = plan.parameters.cell[FURTHER].default if FURTHER in changed else {}
    changed |= {k: v for k, v in changed.pop(FURTHER, {}).items() if k not in own or own[k] != v}
    return ", ".join(f"{name} = {value!r}" for name, value in changed.items())


def _say_end(plan: Plan, screen: Tee) -> None:
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
