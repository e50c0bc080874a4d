"""What a headless run will do, checked before anything is executed or written."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localmi.configuration import differences
from localmi.errors import ConfigError
from localmi.files import ASIDE
from localmi.notebook import parameters as notebook_parameters
from localmi.notebook.parameter_files import read_yaml
from localmi.notebook.parameters import Parameters
from localmi.privacy.credentialed import folders, is_credentialed
from localmi.train.checkpoint_files import CHECKPOINT, by_age, last_whole

RUN_DIR = "run_dir"  # the parameter a notebook writes its results to; "" keeps nothing
RESUME = "resume"  # the parameter of a notebook that can go on from a checkpoint
ALLOW_OUTPUTS = "allow_outputs"  # a parameter a notebook may have; as the flag
PARAMETERS_FILE = "parameters.yaml"


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
    checkpoint: Path | None = None  # from which it goes on: the newest that is whole

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
            (or, with `resume`, one that does not, has other parameters, or no whole checkpoint).
        DataError: no such notebook, or a data folder that does not exist.
    """
    from_file, from_command = dict(from_file or {}), dict(from_command or {})
    if RUN_DIR in {*from_file, *from_command}:
        raise ConfigError(f"{RUN_DIR} is set by the runner: use --out FOLDER.")
    if RESUME in from_command:
        raise ConfigError(
            f"{RESUME} is set by the runner: use --resume --out FOLDER, of a run begun before."
        )
    notebook = notebook.resolve()
    known = _parameters(notebook)
    run_dir = _run_folder(notebook, out, resume)
    if resume:
        asked = {**from_file, **from_command}  # the data may have moved; their hash is compared
        moved = {name: value for name, value in asked.items() if name.endswith("_dir")}
        stored = {**read_yaml(run_dir / PARAMETERS_FILE), **moved}
        from_file = {**stored, **from_file}
    values = notebook_parameters.resolve(known, from_file, from_command)
    if resume:
        check_same(known, stored, values, run_dir)
    checkpoint = None
    if resume and RESUME in values:
        checkpoint = _last_checkpoint(run_dir)
        values[RESUME] = checkpoint is not None
    plan = _plan(notebook, run_dir, known, values, allow_outputs)
    return replace(plan, resume=resume, numbered=out is None, checkpoint=checkpoint)


def _parameters(notebook: Path) -> Parameters:
    return notebook_parameters.parameters_of(
        notebook_parameters.read_notebook(notebook), notebook.name
    )


def _plan(
    notebook: Path,
    run_dir: Path,
    known: Parameters,
    values: Mapping[str, Any],
    allow_outputs: bool,
) -> Plan:
    """What follows from the values of the parameters; the run begins, in a folder of this name."""
    return Plan(
        notebook,
        run_dir,
        known,
        {name: value for name, value in values.items() if name != RUN_DIR},
        keeps_results=RUN_DIR in values,
        resume=False,
        numbered=False,
        credentialed=any(map(is_credentialed, folders(values))),
        allow_outputs=allow_outputs or values.get(ALLOW_OUTPUTS) is True,
    )


def _last_checkpoint(run_dir: Path) -> Path | None:
    """The newest that is whole; refused, as long as nothing is written, where all are damaged."""
    there = by_age(run_dir / CHECKPOINT)
    whole = last_whole(there)
    if there and not whole:
        names = ", ".join(path.name for path in there)
        raise ConfigError(
            f"Every checkpoint in {run_dir} is damaged: {names}. Put back a copy; or remove them, "
            "and --resume begins this run anew, with the same parameters."
        )
    return whole


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
    return next_folder(notebook)


def next_folder(notebook: Path) -> Path:
    folders = (Path.cwd() / "runs" / f"{notebook.stem}-{n:03d}" for n in itertools.count(1))
    return next(folder for folder in folders if not folder.exists())


def check_once(
    notebook: Path,
    out: Path,
    *,
    from_file: Mapping[str, Any] | None = None,
    from_command: Mapping[str, str] | None = None,
) -> bool:
    """Whether the run in `out` was begun before; then it has these parameters.

    Raises:
        ConfigError: it has others, those asked for are refused, or `out` holds something else.
        DataError: as `plan_run`.
    """
    known = _parameters(notebook)
    asked = notebook_parameters.resolve(known, from_file or {}, from_command or {})
    begun = (out / PARAMETERS_FILE).is_file()
    if begun:
        check_same(known, read_yaml(out / PARAMETERS_FILE), asked, out)
    elif out.exists() and not _left_before_it_began(out):
        raise ConfigError(f"{out} exists, and holds no run. Give another --out, or remove it.")
    return begun


def _left_before_it_began(out: Path) -> bool:
    """Whether a folder is empty, or that of a run that was killed before it had begun."""
    return out.is_dir() and all(path.name.endswith(ASIDE) for path in out.iterdir())


def follower_plan(
    notebook: Path,
    from_file: Mapping[str, Any],
    from_command: Mapping[str, str],
    out: Path,
    allow_outputs: bool,
) -> Plan:
    """What a further rank executes: the same values, in the folder that rank 0 keeps.

    Whether there is a checkpoint to go on from does not change before all ranks have met.

    Raises: as `plan_run`.
    """
    notebook, out = notebook.resolve(), out.expanduser().resolve()
    known = _parameters(notebook)
    values = notebook_parameters.resolve(known, from_file, from_command)
    if RESUME in values:
        values[RESUME] = _last_checkpoint(out) is not None
    return _plan(notebook, out, known, values, allow_outputs)


def check_same(
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
