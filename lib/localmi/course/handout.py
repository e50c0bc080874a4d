"""For handouts, from which solutions are taken out: what later cells need of them, packed.

`make student` puts in the place of such a solution

    from localmi.course import until_solved

    until_solved("my_step", check.exercise_7_2, "...", globals())
"""

import base64
import zlib
from collections.abc import Callable
from typing import Any

from localmi.course.check import Verdict


def pack(source: str) -> str:
    """A solution's source, so that nobody reads it by accident."""
    return base64.b85encode(zlib.compress(source.encode(), 9)).decode()


def until_solved(
    name: str, check: Callable[..., Verdict], packed: str, space: dict[str, Any]
) -> None:
    """Leaves the learner's answer where it stands if it is right; else puts the course's there.

    Args:
        name: of the answer, in `space`.
        packed: as `pack` gives it.
        space: the notebook's names, `globals()`.
    """
    if check(space.get(name)).passed:
        return
    exec(zlib.decompress(base64.b85decode(packed)).decode(), space)
    print(f"Until your {name} is right, the cells below use the course's own.")
