"""Errors a user can meet. Each message says what was found, where, and what to do."""

import errno
from collections.abc import Iterable, Sequence

MACHINE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
}


def machine_failed(error: BaseException) -> bool:
    """Whether the disk or the machine failed: to reject the file would lose it in silence."""
    return isinstance(error, OSError) and error.errno in MACHINE


def shortened(names: Iterable[str], most: int = 12) -> list[str]:
    """The first few of a long list, for an error."""
    names = list(names)
    return [*names[:most], f"and {len(names) - most} more"] if len(names) > most else names


class LocalMIError(Exception):
    """Base of every error the library raises on purpose."""


class DataError(LocalMIError):
    """Input data cannot be used as they are: a file, a column, an image, a report."""


class StudyLeakError(DataError):
    """A patient, study or image stands in more than one split."""


class NoNegativesError(LocalMIError):
    """A row of a score matrix has no mismatched pair to compare with."""


class ConfigError(LocalMIError):
    """A parameter has an unknown name, a wrong type or an impossible value."""


class CheckpointError(LocalMIError):
    """A checkpoint is missing, damaged, or belongs to another run."""


class TrainingError(LocalMIError):
    """Training cannot go on: the loss is not a number, or there is nothing to train on."""


class NotFiniteError(TrainingError):
    """The bound of a step is not a number.

    step: which. rows: its images, as rows of the cache.
    """

    def __init__(self, words: str, *, step: int = 0, rows: Sequence[int] = ()) -> None:
        super().__init__(words)
        self.step, self.rows = step, list(rows)


class StoppedError(TrainingError):
    """A run was asked to stop; it has saved what is needed to go on."""


def check_name(what: str, found: object, known: Iterable[str]) -> None:
    """Nothing if `found` is one of the known names.

    Raises:
        ConfigError: it is none; says what it is the name of, and which are known.
    """
    names = list(known)
    if found not in names:
        raise ConfigError(f"Unknown {what} {found!r}; known are {', '.join(names)}.")
