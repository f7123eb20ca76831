"""What humanline does to a token log-ratio before an objective sees it.

People do not perceive every surprisal at face value. Humanline (arXiv 2509.24207) keeps the
log-ratio log pi_theta(token) - log pi_ref(token) of a token within bounds; a token beyond them
still counts towards the loss, but passes no gradient.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Maps log-ratios to perceived log-ratios of the same shape, element by element. It must map zero to
# zero: objectives set padding to zero.
Perceive = Callable[[Tensor], Tensor]


def identity(log_ratio: Tensor) -> Tensor:
    """Perceive log-ratios as they are: the objective without humanline."""
    return log_ratio


def clip(log_ratio: Tensor, log_eps_p: float | None, log_eps_r: float | None) -> Tensor:
    """Clamp log-ratios to the closed interval [log_eps_p, log_eps_r].

    Args:
        log_ratio: any shape, in nats.
        log_eps_p: lower bound in nats; None leaves that side unbounded.
        log_eps_r: upper bound in nats; None leaves that side unbounded.

    Returns:
        A tensor of the same shape. Its gradient is one within the interval, bounds included, and
        zero outside.
    """
    low, high = _interval(log_eps_p, log_eps_r)
    return torch.clamp(log_ratio, low, high)


def unclipped_fraction(
    log_ratio: Tensor, mask: Tensor, log_eps_p: float | None, log_eps_r: float | None
) -> Tensor:
    """Compute the share of the masked tokens that `clip` leaves as they are.

    Args:
        log_ratio: any shape, in nats; values outside the mask are ignored, nan included.
        mask: same shape, non-zero on the tokens to count.
        log_eps_p, log_eps_r: the bounds of `clip`.

    Returns:
        A scalar in [0, 1], or nan if the mask is empty.
    """
    low, high = _interval(log_eps_p, log_eps_r)
    counted = mask.bool()
    return (counted & (log_ratio >= low) & (log_ratio <= high)).sum() / counted.sum()


@dataclass(frozen=True)
class Clipping:
    """Perceive log-ratios by `clip` with fixed bounds.

    Args:
        log_eps_p, log_eps_r: lower and upper bound in nats; None leaves that side unbounded.

    Raises:
        ValueError: if a bound is nan or infinite, if the interval is empty or a single point, or
            if it lacks zero: a token that policy and reference find equally likely carries no
            surprise, and must be perceived so.
    """

    log_eps_p: float | None
    log_eps_r: float | None

    def __post_init__(self) -> None:
        for name in ("log_eps_p", "log_eps_r"):
            bound = getattr(self, name)
            if bound is not None and not math.isfinite(bound):
                raise ValueError(f"{name} must be finite, or None for no bound; got {bound}")
        low, high = _interval(self.log_eps_p, self.log_eps_r)
        if low > 0:
            raise ValueError(f"log_eps_p must be at most 0; got {low}")
        if high < 0:
            raise ValueError(f"log_eps_r must be at least 0; got {high}")
        if low == high:
            raise ValueError(f"log_eps_p must be less than log_eps_r; both are {low}")

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return clip(log_ratio, self.log_eps_p, self.log_eps_r)


@dataclass(frozen=True)
class Rejection:
    """Perceive by humanline sampling: each token has random bounds (arXiv 2509.24207, section 4).

    A token is rejected if its ratio pi_theta / pi_ref is below M_P B_P, or the inverse ratio below
    M_R B_R, where B_P ~ Beta(gamma_p, 1) and B_R ~ Beta(gamma_r, 1). A rejected token keeps its
    value and passes no gradient. M_P and M_R are set so that the mean bounds are log_eps_p and
    log_eps_r. As the gammas grow, the draws approach their means, and the tokens that pass a
    gradient become those of `clip` (theorem 4.3).

    Args:
        log_eps_p, log_eps_r: mean bounds in nats; None leaves that side unbounded.
        gamma_p, gamma_r: concentration of the draws around their means.

    Raises:
        ValueError: if `Clipping` refuses a bound, or a gamma is not positive.
    """

    log_eps_p: float | None
    log_eps_r: float | None
    gamma_p: float
    gamma_r: float

    def __post_init__(self) -> None:
        Clipping(self.log_eps_p, self.log_eps_r)
        for name in ("gamma_p", "gamma_r"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")

    def drawn(self, seed: Sequence[int], device: torch.device | str = "cpu") -> Perceive:
        """Make a perception that draws its bounds from its own random generator.

        Args:
            seed: any integers; equal seeds draw equal bounds.
            device: the device of the log-ratios.
        """
        digest = hashlib.sha256(repr(tuple(seed)).encode()).digest()
        generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
        low, high = _interval(self.log_eps_p, self.log_eps_r)

        def perceive(log_ratio: Tensor) -> Tensor:
            below = log_ratio < low + _log_beta(log_ratio, self.gamma_p, generator)
            above = log_ratio > high - _log_beta(log_ratio, self.gamma_r, generator)
            return torch.where(below | above, log_ratio.detach(), log_ratio)

        return perceive


def _log_beta(like: Tensor, gamma: float, generator: torch.Generator) -> Tensor:
    """Draw from Beta(gamma, 1), divide by its mean, take logarithms; in the shape of `like`."""
    # u^(1 / gamma) has that distribution, with the mean gamma / (gamma + 1).
    # Apple's GPUs have single precision alone.
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)
    return (torch.log1p(-u) / gamma + math.log1p(1 / gamma)).to(like.dtype)


def _interval(log_eps_p: float | None, log_eps_r: float | None) -> tuple[float, float]:
    low = -math.inf if log_eps_p is None else log_eps_p
    high = math.inf if log_eps_r is None else log_eps_r
    return low, high
