"""Runs on several processes: torchrun starts one notebook for each, and watches them.

`python -m localmi launch` prints the torchrun line and runs it; Slurm or Kubernetes may start that
line themselves. Each process executes the same notebook in a kernel of its own. That of rank 0 is
the record of the run; of another rank the notebook is kept where it failed. Taught in
14_full_mimic_cxr.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from localmi.errors import ConfigError
from localmi.notebook.open_run import Tee
from localmi.notebook.plan import PARAMETERS_FILE, check_once, follower_plan, next_folder
from localmi.notebook.run import (
    DONE,
    FAILED,
    INTERRUPTED,
    LOG,
    STOPPED,
    STOPPED_ERROR,
    execute_notebook,
    held,
)
from localmi.notebook.stopping import GRACE, ends_with_its_parent
from localmi.ranks import LAUNCHER, STEP_SECONDS, cores, rank
from localmi.record import RESULTS
from localmi.signals import handled_by

RANKS = "ranks"  # folder in a run's: the notebooks of further ranks, where they failed


def torchrun_words(
    *, processes: int, nodes: int = 1, meet_at: str = "", name: str = "", restarts: int = 0
) -> list[str]:
    """The torchrun line, as words, up to what it runs.

    Args:
        processes: on this node; usually one a GPU.
        nodes: how many machines give the same line.
        meet_at: host:port of one of them, where there are several.
        name: of the run, the same on all of them.
        restarts: how often all processes are begun again, when one has failed.

    Raises:
        ConfigError: a number below its least, or several nodes without a place to meet.
    """
    if processes < 1 or nodes < 1 or restarts < 0:
        raise ConfigError(
            f"--nproc {processes}, --nnodes {nodes}, --max-restarts {restarts}: there must be at "
            "least one process on one node, and no fewer than 0 restarts."
        )
    if nodes > 1 and not meet_at:
        raise ConfigError(
            f"--nnodes {nodes} needs --rendezvous HOST:PORT: one of the nodes, and a free port "
            "there, the same for all."
        )
    words = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    if nodes == 1:
        words.append("--standalone")
    else:
        words += [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meet_at}"]
        words.append(f"--rdzv-id={name}")
    return [*words, f"--max-restarts={restarts}", "-m", "localmi", "run"]


def launch(
    notebook: Path,
    words: list[str],
    *,
    asked: Mapping[str, Any],
    out: Path | None,
    patience: int,
    **torchrun: Any,
) -> int:
    """Runs a notebook on several processes, and waits for them; first for another run in `out`.

    Args:
        notebook: to execute.
        words: options of `localmi run`, and `asked`: what they say, as for `check_once`.
        out: the folder of the run, new or of an earlier one that goes on; None: the next number.
        patience: seconds; a process that keeps the others waiting for longer has hung.
        torchrun: see `torchrun_words`.

    Returns:
        The exit code: 0 too where it was asked to stop and has saved.

    Raises:
        ConfigError: as `torchrun_words` and `check_once`; several nodes, and no `out`.
        DataError: as `check_once`.
    """
    if out is None and torchrun["nodes"] > 1:
        raise ConfigError("Several nodes need --out FOLDER, one that all of them see.")
    out = (next_folder(notebook.resolve()) if out is None else out.expanduser()).resolve()
    line = torchrun_words(**torchrun, name=out.name)
    check_once(notebook, out, **asked)
    if torchrun["nodes"] == 1:  # of several the others may have begun
        out.parent.mkdir(parents=True, exist_ok=True)
        with held(out, wait=True):  # else rank 0 would wait within torchrun, and the others for it
            pass
    line += [str(notebook), *words, "--once", "--out", str(out)]
    threads = max(1, cores() // torchrun["processes"])
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    environment |= {STEP_SECONDS: str(patience), LAUNCHER: str(os.getpid())}
    environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(2 * GRACE)  # before torchrun kills
    print(shlex.join(line), flush=True)
    code, stopped = _wait_for(
        subprocess.Popen(
            line,
            env=environment,
            start_new_session=True,
            preexec_fn=ends_with_its_parent if os.name == "posix" else None,
        )
    )
    go_on = f"Go on: the same command with --out {out}"
    if stopped and (out / STOPPED).is_file():
        print(f"Stopped as asked, and saved (a traceback is torchrun's). {go_on}", flush=True)
        return DONE
    if code:
        told = f"What rank 0 says stands in {out / LOG}, of others in {out / RANKS}."
        print(f"The run has ended before its end. {told} {go_on}", file=sys.stderr, flush=True)
    return (INTERRUPTED if stopped else FAILED) if code else DONE


def _wait_for(started: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """Its exit code, and whether it was asked to stop: SIGTERM and Ctrl-C are passed on."""
    asked = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        with suppress(ProcessLookupError):
            started.send_signal(signal.SIGTERM)

    with handled_by(pass_on):
        code = started.wait()
    return code, asked


def follow(
    notebook: Path,
    *,
    from_file: Mapping[str, Any],
    from_command: Mapping[str, str],
    out: Path | None,
    allow_outputs: bool,
) -> int:
    """What a further rank does: the same notebook, of which nothing is kept unless it fails.

    Returns:
        The exit code.

    Raises:
        ConfigError: no `out`; and what `follower_plan` refuses.
    """
    if out is None:
        raise ConfigError("Under torchrun a run needs --once and --out FOLDER.")
    plan = follower_plan(notebook, from_file, from_command, out, allow_outputs)
    if (plan.run_dir / RESULTS).is_file():
        return DONE
    plan.run_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".rank{rank()}-", dir=plan.run_dir.parent) as own:
        executed = Path(own) / f"rank{rank()}.ipynb"
        with executed.with_suffix(".log").open("w", encoding="utf-8") as log:
            failed, asked = execute_notebook(plan, executed, Tee(log), Tee(log))
            log.write(failed)
        if not failed or STOPPED_ERROR in failed:
            return DONE
        kept = plan.run_dir / RANKS
        if (plan.run_dir / PARAMETERS_FILE).is_file():  # else no run has begun in that folder
            kept.mkdir(exist_ok=True)
            for file in Path(own).iterdir():
                shutil.copy(file, kept)
        told = failed.replace(str(executed), str(kept / executed.name))
        print(f"Rank {rank()}: {told}", file=sys.stderr, flush=True)
    return INTERRUPTED if asked else FAILED
