"""How nbval compares the notebooks: not what goes to stderr (progress bars, warnings)."""

from typing import Any


def pytest_collectstart(collector: Any) -> None:
    """A pytest hook: `collector.skip_compare` is nbval's list of outputs it does not compare."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
