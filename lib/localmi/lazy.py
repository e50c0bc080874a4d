"""Short imports that cost nothing until they are used.

    from localmi.data import Cache, SplitData

A package lists what readers and notebooks import, by module; the modules are imported when one of
their names is first asked for. So Tab completes, and no command waits for torch.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def exports(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its `__name__`.
        modules: module below the package -> the names that come from it, parted by spaces; "" is
            a module that is itself exported.
    """
    home = {name: module for module, names in modules.items() for name in names.split()}
    home |= {module: "" for module, names in modules.items() if not names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = importlib.import_module(f"{package}.{home[name] or name}")
        return getattr(module, name) if home[name] else module

    return get, lambda: sorted(home), sorted(home)
