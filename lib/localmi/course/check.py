"""Self-checks of exercises: words instead of tracebacks, and never an exception.

In a notebook: `from localmi.course import check`, then `check.exercise_5_1(my_function)` as the
last line of a cell. The checks of chapter 5 stand in `localmi/course/exercises/ch05.py`:

    @exercise
    def exercise_5_1(my_mean: Callable[[Tensor], Tensor]) -> None:
        expect(my_mean(torch.tensor([1.0, 3.0])) == 2, "the mean of 1 and 3 is 2")
"""

import dis
import functools
import importlib
import inspect
import math
import re
import reprlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

Status = Literal["right", "not tried yet", "not yet"]

SHOWN = 4  # numbers of an array, in a message


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


def expect_array(value: Any, *shape: int) -> Any:
    """Inside a check: an array of `value`, which is an array, a tensor, or lists of numbers.

    Args:
        shape: that it must have, where the words of `expect_close` do not say it better.
    """
    array = _numbers(value)
    is_array = array is not None and array.ndim > 0
    expect(is_array, f"an array or tensor of numbers is asked for, found {reprlib.repr(value)}")
    found = list(array.shape)
    expect(not shape or found == list(shape), f"the shape is {found}, it should be {list(shape)}")
    return array


def expect_close(found: Any, wanted: Any, words: str, *, tolerance: float = 1e-5) -> None:
    """Inside a check: shape and numbers of `found` are those of `wanted` (floats, arrays).

    Where one number is wanted, an array, list or tensor of one is as good.
    """
    array, wanted = _numbers(found), _numbers(wanted)
    if array is None:
        raise WrongError(f"{words}: numbers are asked for, found {reprlib.repr(found)}")
    if array.size == 1 and wanted.ndim == 0:
        array = array.reshape(())
    if array.shape != wanted.shape:
        raise WrongError(
            f"{words}: the shape is {list(array.shape)}, it should be {list(wanted.shape)}"
        )
    wrong = ~np.isclose(array, wanted, rtol=tolerance, atol=tolerance).ravel()
    if wrong.any():
        first = int(wrong.argmax()) if wrong.size > SHOWN else 0
        of = f"from number {first} on " if first else ""
        shown = [_short(one.ravel()[first:]) for one in (array, wanted)]
        raise WrongError(f"{words}: {of}it gives {shown[0]}, it should give {shown[1]}")


def expect_number(value: Any) -> float:
    """Inside a check: `value` is one number (a float, or a list or tensor of one), returned."""
    (number,) = expect_numbers(value, 1, "one number is asked for")
    return number


def expect_numbers(value: Any, count: int, words: str) -> list[float]:
    """Inside a check: `value` is a tuple, list, array or tensor of `count` numbers, returned."""
    array = _numbers(value)
    right = array is not None and array.size == count and array.dtype.kind != "b"
    expect(right, f"{words}, found {reprlib.repr(value)}")
    return [float(number) for number in array.ravel()]


def expect_dictionary(answer: Any, keys: Collection[Any]) -> dict[Any, Any]:
    """Inside a check: a dictionary with these keys, or a function that returns it; returned."""
    value = answer() if callable(answer) else answer
    right = isinstance(value, dict) and value.keys() == set(keys)
    expect(right, f"a dictionary with the keys {', '.join(map(str, keys))} is asked for")
    still_open = ", ".join(str(key) for key, part in value.items() if is_stub(part))
    expect(not still_open, f"still open: {still_open}")
    return dict(value)


def expect_finite(answer: Callable[..., Any], *arguments: Any, words: str) -> float:
    """Inside a check: the number that an answer gives is finite; returned.

    Args:
        words: what is said if it is not, with {} for what came in its place: inf and NaN of an
            array, or the error that Python's own arithmetic raises instead (`math.exp(1000)`,
            `math.log(0)`).
    """
    try:
        number = expect_number(answer(*arguments))
    except WrongError as error:
        cause = error.__cause__
        if not isinstance(cause, ArithmeticError | ValueError):
            raise
        raise WrongError(words.format(f"{type(cause).__name__} ({cause})")) from error
    expect(math.isfinite(number), words.format(number))
    return number


def _numbers(value: Any) -> Any:
    """The array in an answer (number, list, array, tensor of any device); None: no numbers."""
    try:
        array = np.asarray(_plain(value))
    except ValueError:  # lists of unequal lengths
        return None
    return array if array.dtype.kind in "fiub" else None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if not hasattr(value, "detach"):
        return value
    return (value.double() if value.is_floating_point() else value).detach().cpu().numpy()


def _short(array: Any) -> str:
    shown = np.array2string(array.ravel()[:SHOWN], precision=4)
    return shown + (" ..." if array.size > SHOWN else "")


def is_stub(value: object) -> bool:
    """Whether an answer is a stub's: `...`, None, NotImplemented.

    A list or tuple is one if a part of it is, a dictionary if all of its values are.
    """
    if isinstance(value, dict):
        return all(map(is_stub, value.values()))
    if isinstance(value, tuple | list):
        return any(is_stub(part) for part in value)
    return value is None or value is Ellipsis or value is NotImplemented


def exercise(function: Callable[..., None]) -> Callable[..., Verdict]:
    """Makes a check out of a function `exercise_5_1(answer, ...)` that calls `expect`.

    The check returns a `Verdict` and never raises. Functions among the answers are watched: a stub
    is "not tried yet", what is raised or not returned is told in words, and the arrays and tensors
    they are given are copies, theirs to change.
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
            words = f"{type(error).__name__}: {error}"
            if "object is not callable" in words:
                words = f"hand in the function itself, without calling it ({words})"
            return Verdict(name, "not yet", words)
        return Verdict(name, "right")

    return checked


def _watched(answer: Any) -> Any:
    """A learner's function, which says so when it is still a stub; anything else as it is."""
    if not callable(answer) or isinstance(answer, type):
        return answer

    @functools.wraps(answer)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        try:
            value = answer(*map(_copied, arguments), **keywords)
        except NotImplementedError as error:
            if error.args:  # torch's own, of an operation that a type does not have
                raise WrongError(f"your function raised NotImplementedError: {error}") from error
            raise NotTriedError from error
        except Exception as error:
            if isinstance(error, TypeError | AttributeError) and "ellipsis" in str(error):
                raise NotTriedError from error
            raise WrongError(f"your function raised {type(error).__name__}: {error}") from error
        parts = value if isinstance(value, tuple | list) else (value,)
        if any(part is None for part in parts) and not _does_nothing(answer):
            why = "a `return` is missing" if value is None else "None is no answer"
            raise WrongError(f"your function returned {reprlib.repr(value)}: {why}")
        if is_stub(value):
            raise NotTriedError
        return value

    return watched


def _copied(value: Any) -> Any:
    """A check's own arrays and tensors stay as they are, whatever is done to them in place."""
    if isinstance(value, np.ndarray):
        return value.copy()
    is_data = getattr(value, "requires_grad", None) is False  # a tensor, and nothing trained
    return value.clone() if is_data else value


def _does_nothing(answer: Any) -> bool:
    """Whether a function's body is `...`, `pass` or a docstring: nothing was written yet."""
    while hasattr(answer, "func"):  # functools.partial
        answer = answer.func
    code = getattr(inspect.unwrap(answer), "__code__", None)
    idle = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}
    return code is not None and {step.opname for step in dis.get_instructions(code)} <= idle


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
