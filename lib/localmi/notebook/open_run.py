"""A notebook run in the open: its outputs are stored, and shown as they come."""

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from localmi.errors import machine_failed


class Tee:
    """Writes to the screen and to the log at once; a full disk costs lines, and not the run."""

    def __init__(self, *streams: TextIO) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        self._each(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._each(lambda stream: stream.flush())

    def _each(self, does: Callable[[TextIO], object]) -> None:
        for stream in self._streams:
            try:
                does(stream)
            except OSError as error:
                if not machine_failed(error):
                    raise


def execute_with_outputs(executed: Path, *, screen: Tee, errors: Tee) -> str:
    """Executes a prepared notebook in its place: outputs are shown as they come, and stored after
    each cell.

    Args:
        executed: the notebook.
        screen, errors: where its stdout and stderr go.

    Returns:
        What failed, "" for nothing.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from localmi.notebook.render import KERNEL_CONFIG

    try:
        papermill.execute_notebook(
            executed,
            executed,
            kernel_name="python3",
            progress_bar=False,
            autosave_cell_every=0,  # within a cell: on a full disk it would end the run
            config=KERNEL_CONFIG,
            stdout_file=screen,
            stderr_file=errors,
        )
    except PapermillExecutionError as error:
        return (
            f"Failed in cell [{error.exec_count}]: {error.ename}: {error.evalue}\n"
            f"That cell begins with: {error.source.strip().partition(chr(10))[0]}\n"
            f"The notebook as far as it came, with the traceback: {executed}\n"
        )
    except Exception as error:  # the kernel died, or could not start
        return f"Failed: {type(error).__name__}: {error}\nSee {executed}\n"
    return ""
