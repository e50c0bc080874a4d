"""The critic that is exact for Gaussians: a quadratic form in x and y."""

import torch
from torch import Tensor, nn

from localmi.errors import ConfigError
from localmi.mi.critics import Critic


class QuadraticCritic(Critic):
    """f(x, y) = x^T W y + x^T A x + y^T C y + a.x + b.y + c: all a Gaussian needs.

    It begins at 0; `of_gaussian` gives the oracle, the exact log-ratio of a joint Gaussian.

    Taught in 02_variational_bounds.
    """

    def __init__(self, dim_x: int, dim_y: int) -> None:
        super().__init__(dim_x, dim_y)
        dim = dim_x + dim_y
        self.weight = nn.Parameter(torch.zeros(dim, dim))  # of [x; y] on both sides
        self.linear = nn.Parameter(torch.zeros(dim))
        self.constant = nn.Parameter(torch.zeros(()))

    @classmethod
    def of_gaussian(
        cls, covariance: Tensor, dim_x: int, mean: Tensor | None = None
    ) -> "QuadraticCritic":
        """log p(x, y) / p(x)p(y) of N(mean, covariance), mean 0 by default: [D, D], [D], x first.

        Raises:
            ConfigError: dim_x leaves nothing to one side; not a positive definite matrix.
        """
        joint = covariance.double()
        critic = cls(dim_x, len(joint) - dim_x)
        if joint.shape != critic.weight.shape or torch.linalg.cholesky_ex(joint).info:
            raise ConfigError(
                "The covariance of x and y together must be a symmetric, positive definite matrix "
                f"[D, D] with D > dim_x, found {list(joint.shape)} and dim_x = {dim_x}. Add a "
                "little to its diagonal, or remove columns that others determine."
            )
        alone = torch.block_diag(joint[:dim_x, :dim_x], joint[dim_x:, dim_x:])
        gain = torch.linalg.inv(joint) - torch.linalg.inv(alone)
        centre = torch.zeros(len(joint)).double() if mean is None else mean.double()
        with torch.no_grad():
            critic.weight.copy_(-gain / 2)
            critic.linear.copy_(gain @ centre)
            information = (torch.logdet(alone) - torch.logdet(joint)) / 2
            critic.constant.copy_(information - centre @ gain @ centre / 2)
        return critic

    def _score_all(self, x: Tensor, y: Tensor) -> Tensor:
        of_x, of_y, cross = self._parts(x, y)
        return of_x[:, None] + of_y + x @ cross @ y.T

    def _score_paired(self, x: Tensor, y: Tensor) -> Tensor:
        of_x, of_y, cross = self._parts(x, y)
        return of_x + of_y + ((x @ cross) * y).sum(dim=-1)

    def _parts(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What depends on x alone, on y alone (with the constant), and W."""
        d = self.dim_x
        weight_x, weight_y = self.weight[:d, :d], self.weight[d:, d:]
        of_x = ((x @ weight_x + self.linear[:d]) * x).sum(dim=-1)
        of_y = ((y @ weight_y + self.linear[d:]) * y).sum(dim=-1) + self.constant
        return of_x, of_y, self.weight[:d, d:] + self.weight[d:, :d].T
