"""How nbval compares the notebooks: not what goes to stderr (progress bars, warnings)."""

import os
from typing import Any

os.environ["LOCALMI_STILL"] = "1"  # nobody is there to move a slider: localmi.course.play


def pytest_collectstart(collector: Any) -> None:
    """A pytest hook: `collector.skip_compare` is nbval's list of outputs it does not compare."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr",)
