"""Self-checks of exercises: words instead of tracebacks, and never an exception.

In a notebook: `from localmi.course import check`, then `check.exercise_5_1(my_function)` as the
last line of a cell. The checks of chapter 5 stand in `localmi/course/exercises/ch05.py`:

    @exercise
    def exercise_5_1(my_mean: Callable[[Tensor], Tensor]) -> None:
        expect(my_mean(torch.tensor([1.0, 3.0])) == 2, "the mean of 1 and 3 is 2")
"""

import functools
import importlib
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

Status = Literal["right", "not tried yet", "not yet"]


@dataclass(frozen=True)
class Verdict:
    """What a check says; its repr is what the notebook shows."""

    exercise: str  # "5.1"
    status: Status
    words: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "right"

    def __repr__(self) -> str:
        after = f": {self.words}" if self.words else ""
        return f"exercise {self.exercise}: {self.status}{after}"


class NotTriedError(Exception):
    """The answer is still the stub."""


class WrongError(Exception):
    """The answer is wrong; the message says in which way."""


def expect(condition: object, words: str) -> None:
    """Inside a check: the answer is wrong, in these words, unless the condition holds."""
    if not bool(condition):
        raise WrongError(words)


def expect_close(found: Any, wanted: Any, words: str, *, tolerance: float = 1e-5) -> None:
    """Inside a check: shape and numbers of `found` are those of `wanted` (floats, arrays)."""
    import numpy as np

    found, wanted = np.asarray(_plain(found)), np.asarray(_plain(wanted))
    if found.shape != wanted.shape:
        raise WrongError(
            f"{words}: the shape is {list(found.shape)}, it should be {list(wanted.shape)}"
        )
    if not np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        shown = f"it gives {_short(found)}, it should give {_short(wanted)}"
        raise WrongError(f"{words}: {shown}")


def expect_number(value: Any) -> float:
    """Inside a check: `value` is one number (a float, or an array or tensor of one), returned."""
    import numpy as np

    array = np.asarray(_plain(value))
    is_number = array.size == 1 and array.dtype.kind in "fiu"
    expect(is_number, f"one number is asked for, found {value!r}")
    return float(array.reshape(()))


def _plain(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _short(array: Any) -> str:
    import numpy as np

    return np.array2string(array.ravel()[:4], precision=4) + (" ..." if array.size > 4 else "")


def is_stub(value: object) -> bool:
    """Whether an answer, or what it returned, is a stub's: `...`, None, NotImplemented."""
    if isinstance(value, tuple):
        return any(is_stub(part) for part in value)
    return value is None or value is Ellipsis or value is NotImplemented


def exercise(function: Callable[..., None]) -> Callable[..., Verdict]:
    """Makes a check out of a function `exercise_5_1(answer, ...)` that calls `expect`.

    The check returns a `Verdict` and never raises. Functions among the answers are watched: what
    they return, when it is a stub's, says "not tried yet"; what they raise is told in words.
    """
    number = re.fullmatch(r"exercise_(\d+)_(\d+)", function.__name__)
    if number is None:
        raise ValueError(f"{function.__name__}: a check is called exercise_<chapter>_<number>")
    name = f"{number[1]}.{number[2]}"

    @functools.wraps(function)
    def checked(*answers: Any) -> Verdict:
        try:
            if not answers or any(is_stub(answer) for answer in answers):
                raise NotTriedError
            function(*[_watched(answer) for answer in answers])
        except NotTriedError:
            return Verdict(name, "not tried yet")
        except WrongError as error:
            return Verdict(name, "not yet", str(error))
        except Exception as error:
            return Verdict(name, "not yet", f"{type(error).__name__}: {error}")
        return Verdict(name, "right")

    return checked


def _watched(answer: Any) -> Any:
    """A learner's function, which says so when it is still a stub; anything else as it is."""
    if not isinstance(answer, types.FunctionType | types.MethodType | functools.partial):
        return answer

    @functools.wraps(answer)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        try:
            value = answer(*arguments, **keywords)
        except NotImplementedError as error:
            raise NotTriedError from error
        except Exception as error:
            if "ellipsis" in str(error).lower():
                raise NotTriedError from error
            raise WrongError(f"your function raised {type(error).__name__}: {error}") from error
        if is_stub(value):
            raise NotTriedError
        return value

    return watched


def __getattr__(name: str) -> Callable[..., Verdict]:
    """`check.exercise_5_1` is `exercise_5_1` of localmi/course/exercises/ch05.py."""
    number = re.fullmatch(r"exercise_(\d+)_(\d+)", name)
    if number is None:
        _no_attribute(name)
    chapter = f"localmi.course.exercises.ch{int(number[1]):02d}"
    try:
        found: Callable[..., Verdict] = getattr(importlib.import_module(chapter), name)
    except ModuleNotFoundError as error:
        if error.name != chapter:
            raise
        _no_attribute(name)
    except AttributeError:
        _no_attribute(name)
    return found


def _no_attribute(name: str) -> NoReturn:
    raise AttributeError(f"There is no check {name}; see localmi/course/exercises/.")


def __dir__() -> list[str]:
    """The checks there are, for Tab."""
    folder = Path(__file__).parent / "exercises"
    source = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("ch*.py")))
    return re.findall(r"^def (exercise_\d+_\d+)\(", source, flags=re.MULTILINE)
