"""Which of several processes this is, by what torchrun has put into its environment, and how many
cores they share.

For whatever does not wait for torch; what they compute together is in `processes`.
"""

import os
import sys

STEP_SECONDS = "LOCALMI_STEP_SECONDS"  # in the environment: how long they wait for each other
PATIENCE = 25  # seconds, by default
LAUNCHER = "LOCALMI_LAUNCHER"  # in the environment: number of the process that started torchrun


def one_of_several() -> bool:
    """Whether torchrun has started this process."""
    return "RANK" in os.environ


def rank() -> int:
    """Of this process; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def rank_here() -> int:
    """Of this process among those of its machine; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def cores() -> int:
    """Those that this process may use: of a job or a container not all of the machine's."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
