"""Numbers that everybody can make again, in any library."""

import torch
from torch import Tensor


def waves(rows: int, columns: int, pace: float) -> Tensor:
    """sin(pace * n + 1), row by row: [rows, columns] float64."""
    numbers = torch.arange(rows * columns, dtype=torch.float64)
    return torch.sin(pace * numbers + 1).reshape(rows, columns)
