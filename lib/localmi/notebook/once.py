"""`localmi run --once`: what a sweep calls again and again, and each run happens once.

Begins the run in a folder, goes on with it after a kill, or leaves it alone when it is finished.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from localmi.errors import ConfigError
from localmi.notebook import parameters as notebook_parameters
from localmi.notebook import run
from localmi.train.config import differences

CHECKPOINT = "checkpoint.pt"  # what a notebook with the parameter `resume` goes on from
RESUME = "resume"


def run_once(
    notebook: Path,
    *,
    from_file: Mapping[str, Any],
    from_command: Mapping[str, str],
    out: Path | None,
    allow_outputs: bool = False,
) -> int:
    """Sees to it that `out` holds the finished run with these parameters; returns the exit code.

    Two at once on one folder: the second waits, and finds the run finished. The lock goes with
    its process, so a killed one leaves none behind.

    Raises:
        ConfigError: no `out`, or the folder holds a run with other parameters; and what
            `run.plan_run` refuses.
        DataError: as `run.plan_run`.
    """
    if out is None:
        raise ConfigError("--once needs --out FOLDER, the folder of the run.")
    out = out.expanduser().resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with _held(out):
        begun = (out / run.PARAMETERS_FILE).is_file()
        if begun:
            _check_same(notebook, from_file, from_command, out)
            if (out / run.RESULTS).is_file():
                print(f"Finished before: {out}")
                return run.DONE
            if (out / CHECKPOINT).is_file():
                from_command = {**from_command, RESUME: "true"}
        elif out.is_dir() and not any(out.iterdir()):
            out.rmdir()  # workflow managers make the folder of what they expect
        plan = run.plan_run(
            notebook,
            from_file=from_file,
            from_command=from_command,
            out=out,
            resume=begun,
            allow_outputs=allow_outputs,
        )
        return run.execute_plan(plan)


def _held(out: Path) -> FileLock:
    """The lock of a run, beside its folder; says so where it has to wait."""
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another process is at {out}: waiting for it.", flush=True)
        lock.acquire()
    return lock


def _check_same(
    notebook: Path, from_file: Mapping[str, Any], from_command: Mapping[str, str], out: Path
) -> None:
    known = notebook_parameters.parameters_of(
        notebook_parameters.read_notebook(notebook), notebook.name
    )
    now = notebook_parameters.resolve(known, from_file, from_command, notebook.name)
    then = run.read_yaml(out / run.PARAMETERS_FILE)
    for name in (run.RUN_DIR, RESUME):
        now.pop(name, None)
        then.pop(name, None)
    if changed := differences(then, now):
        raise ConfigError(
            f"{out} holds a run with other parameters:\n  "
            + "\n  ".join(changed)
            + "\nGive another --out, or remove that folder."
        )
