"""Headless runs: `python -m localmi run NOTEBOOK -p name value ...`, papermill underneath.

Everything that can be refused is refused before anything is executed. What a run leaves lies in
one folder: the executed notebook, parameters.yaml, run.log, what the notebook itself writes to
`run_dir` (checkpoints, metrics), and results.json, the record, which is written here and last. On
credentialed data nothing a cell shows is kept or printed, unless --allow-outputs is given: see
`private_run`.
"""

import itertools
import json
import logging
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import yaml
from filelock import BaseFileLock, FileLock, Timeout

from localmi.configuration import differences
from localmi.errors import CheckpointError, ConfigError
from localmi.files import ASIDE, whole_file, write_text
from localmi.notebook import parameters as notebook_parameters
from localmi.notebook.open_run import Tee, execute_with_outputs
from localmi.notebook.parameter_files import read_yaml
from localmi.notebook.parameters import FURTHER, Parameters
from localmi.privacy.credentialed import folders, is_credentialed
from localmi.record import MEASURED, METRICS, RESULTS, finish_record

DONE, FAILED = 0, 1  # exit codes; what is refused is an error, and `__main__` makes it 2
RUN_DIR = "run_dir"  # the parameter a notebook writes its results to; "" keeps nothing
RESUME = "resume"  # the parameter of a notebook that can go on from a checkpoint
CHECKPOINT = "checkpoint.pt"  # from this one
ALLOW_OUTPUTS = "allow_outputs"  # a parameter a notebook may have; as the flag
PARAMETERS_FILE, LOG = "parameters.yaml", "run.log"
SAME_NUMBERS = {RESUME, "cache_dir", ALLOW_OUTPUTS}  # parameters that change no result
OTHER = """**Run with other parameters than the course's: {}.** Numbers in the text are those of
the defaults, on the example study; what this run found is in the outputs of its cells."""
NOT_KEPT = """The data has ids of MIMIC-CXR: what the cells show is neither stored nor printed, and
of an error only its type. Metrics come in metrics.jsonl and results.json. --allow-outputs stores
and prints it all."""
KEPT = """The data has ids of MIMIC-CXR, and --allow-outputs was given: the notebook and the log of
this run hold what the cells show. They must stay where the data may lie, and in no repository."""


@dataclass(frozen=True)
class Plan:
    """A run that was checked and can start."""

    notebook: Path
    run_dir: Path
    parameters: Parameters
    values: Mapping[str, Any]  # every parameter of the cell, run_dir excepted
    keeps_results: bool  # the notebook has the parameter run_dir
    resume: bool
    numbered: bool  # run_dir was not asked for by name
    credentialed: bool = False  # the data has ids of MIMIC-CXR
    allow_outputs: bool = False  # to be stored and printed even so

    @property
    def changed(self) -> dict[str, Any]:
        """The values that differ from the notebook's defaults."""
        known = self.parameters.cell
        return {name: value for name, value in self.values.items() if value != known[name].default}


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

    Args:
        from_file, from_command: values by name; the command's go over the file's.
        out: folder of the run; None: the next free `runs/<notebook>-NNN` under the working folder.
        resume: go on with the run in `out`, with its own parameters, from its checkpoint where it
            has one.

    Raises:
        ConfigError: an unknown parameter, a wrong type or value, a run folder that exists
            (or, with `resume`, one that does not, has other parameters, or a damaged checkpoint).
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
        asked = {**from_file, **from_command}  # the data may have moved; their hash is compared
        moved = {name: value for name, value in asked.items() if name.endswith("_dir")}
        stored = {**read_yaml(run_dir / PARAMETERS_FILE), **moved}
        from_file = {**stored, **from_file}
    values = notebook_parameters.resolve(known, from_file, from_command)
    if resume:
        _check_same(known, stored, values, run_dir)
    if resume and RESUME in values:
        values[RESUME] = _has_checkpoint(run_dir)
    return Plan(
        notebook,
        run_dir,
        known,
        {name: value for name, value in values.items() if name != RUN_DIR},
        keeps_results=RUN_DIR in values,
        resume=resume,
        numbered=out is None,
        credentialed=any(map(is_credentialed, folders(values))),
        allow_outputs=allow_outputs or values.get(ALLOW_OUTPUTS) is True,
    )


def _has_checkpoint(run_dir: Path) -> bool:
    """Whether there is one; refused, as long as nothing is written, where it is damaged."""
    path = run_dir / CHECKPOINT
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        whole = False
    if not whole:
        raise ConfigError(
            f"The checkpoint {path} is damaged. Put back a copy; or remove it, and --resume "
            "begins this run anew, with the same parameters."
        )
    return True


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
    with _held(out, wait=True):
        begun = (out / PARAMETERS_FILE).is_file()
        if begun:
            known = notebook_parameters.parameters_of(
                notebook_parameters.read_notebook(notebook), notebook.name
            )
            asked = notebook_parameters.resolve(known, from_file or {}, from_command or {})
            _check_same(known, read_yaml(out / PARAMETERS_FILE), asked, out)
        elif out.is_dir() and all(path.name.endswith(ASIDE) for path in out.iterdir()):
            for path in out.iterdir():  # of a run that was killed before it began
                path.unlink()
            out.rmdir()  # workflow managers make the folder of what they expect
        plan = plan_run(
            notebook,
            from_file=from_file,
            from_command=from_command,
            out=out,
            resume=begun,
            allow_outputs=allow_outputs,
        )
        return execute_plan(plan)


def _held(run_dir: Path, *, wait: bool) -> BaseFileLock:
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


def _check_same(
    known: Parameters, stored: Mapping[str, Any], asked: Mapping[str, Any], out: Path
) -> None:
    """Refuses to go on with other parameters than the run's own; what "auto" was may be named."""
    stored = notebook_parameters.resolve(known, stored, {})
    then, now = (
        notebook_parameters.recorded(known, {**values, RESUME: None}) for values in (stored, asked)
    )
    then |= {"precision": now["precision"]} if then.get("precision") == "auto" else {}
    if changed := differences(then, now):
        raise ConfigError(
            f"{out} holds a run with other parameters:\n  "
            + "\n  ".join(changed)
            + "\nA run goes on with its own, which --resume knows: leave -f and -p out. For "
            "others begin a run anew, with another --out; for more steps too: the learning rate "
            "and the temperature follow their number."
        )


def execute_plan(plan: Plan) -> int:
    """Runs the plan, showing what the notebook prints where it may; returns the exit code.

    Raises:
        ConfigError: another process is at this run.
        CheckpointError: a resumed run did not go on from its checkpoint; it is as it was.
    """
    plan = _take_folder(plan)
    with _held(plan.run_dir, wait=False):
        if plan.resume and (plan.run_dir / RESULTS).is_file():
            print(f"Finished before: {plan.run_dir}")
            return DONE
        parts = (plan.run_dir / plan.notebook.name, plan.run_dir / LOG) if plan.resume else ()
        before = {path: path.read_bytes() for path in parts if path.is_file()}
        steps = _age(plan.run_dir / METRICS)
        failed = _execute(plan)
        if "CheckpointError" in failed and before and steps == _age(plan.run_dir / METRICS):
            for path, content in before.items():
                with whole_file(path) as file:
                    file.write(content)
            raise CheckpointError(
                "The run did not go on from its checkpoint, for the reason above. Its notebook "
                "and its log are put back as they were."
            )
        return FAILED if failed else DONE


def _execute(plan: Plan) -> str:
    """Executes the notebook and writes the record; what failed, "" for nothing."""
    from localmi.notebook import prepare, private_run

    logging.getLogger("papermill").setLevel(logging.ERROR)
    began = time.perf_counter()
    (plan.run_dir / MEASURED).unlink(missing_ok=True)
    if not plan.resume:  # a run keeps the parameters that it began with
        written = yaml.safe_dump(dict(plan.values), sort_keys=False, allow_unicode=True)
        write_text(written, plan.run_dir / PARAMETERS_FILE)
    executed = plan.run_dir / plan.notebook.name
    injected = {**plan.changed, **({RUN_DIR: str(plan.run_dir)} if plan.keeps_results else {})}
    with (plan.run_dir / LOG).open("a", encoding="utf-8") as log:
        screen = Tee(sys.stdout, log)
        _say_start(plan, screen)
        if plan.credentialed and not plan.allow_outputs:
            failed = private_run.execute_without_outputs(
                plan.notebook, executed, injected, say=lambda line: screen.write(f"{line}\n")
            )
            failed = failed and f"Failed in {failed}\nWithout its outputs: {executed}\n"
        else:
            other = OTHER.format(_changes(plan)) if plan.changed.keys() - SAME_NUMBERS else ""
            note = f"{private_run.STORED}\n\n{other}" if plan.credentialed else other
            nbformat.write(prepare.with_parameters(plan.notebook, injected, note), executed)
            failed = execute_with_outputs(executed, log)
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
        if failed:
            screen.write(failed)
        else:
            _say_end(plan, screen)
    return failed


def _age(path: Path) -> int:
    """When a file was last written; 0 where there is none."""
    return path.stat().st_mtime_ns if path.is_file() else 0


def _say_start(plan: Plan, screen: Tee) -> None:
    screen.write(f"{'Going on with' if plan.resume else 'Run folder'}: {plan.run_dir}\n")
    if plan.resume and not plan.values.get(RESUME, True):
        screen.write("It has no checkpoint yet: it begins anew.\n")
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
