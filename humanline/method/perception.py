"""What humanline does to a token log-ratio before an objective sees it.

People do not perceive every surprisal at face value. Humanline (arXiv 2509.24207) keeps the
log-ratio log pi_theta(token) - log pi_ref(token) of a token within bounds; a token beyond them
still counts towards the loss, but passes no gradient.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Maps log-ratios to perceived log-ratios of the same shape. It must map zero to zero: objectives
# set padding to zero. It may look at the whole tensor, the tokens of a micro-batch; DPO and KTO
# perceive chosen and rejected completions apart.
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


def passing(log_ratio: Tensor, mask: Tensor, perceive: Perceive) -> Tensor:
    """Compute for each token the chance that it passes a gradient.

    Args:
        log_ratio: (B, T), in nats; values outside the mask are ignored, nan included.
        mask: (B, T), non-zero on the tokens to count.
        perceive: what the objective perceives by. Without a method `passing`, as `identity`, it
            lets all tokens pass.

    Returns:
        (B, T), from 0 to 1, and 0 off the mask. Without chance it is 1 or 0.
    """
    counted = mask.bool()
    chance_of = getattr(perceive, "passing", torch.ones_like)
    chances = chance_of(torch.where(counted, log_ratio.detach(), 0.0))
    return torch.where(counted, chances, 0.0)


def apart(perceive: Perceive, first: Tensor) -> Perceive:
    """Perceive two parts of a batch apart: for a perception that looks at the whole tensor.

    Args:
        perceive: perceives each part.
        first: (B,) boolean, true for the rows of the first part.

    Returns:
        A perception of (B, T) log-ratios.
    """
    if perceive is identity or isinstance(perceive, Clipping):
        return perceive  # token by token, so that parts make no difference
    parts = [rows.nonzero().squeeze(1) for rows in (first, ~first)]
    order = torch.cat(parts).argsort()

    def perceive_parts(log_ratio: Tensor) -> Tensor:
        return torch.cat([perceive(log_ratio[rows]) for rows in parts])[order]

    return perceive_parts


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

    def passing(self, log_ratio: Tensor) -> Tensor:
        """Say which tokens pass a gradient: 1 within the bounds, else 0; in the same shape."""
        low, high = _interval(self.log_eps_p, self.log_eps_r)
        return ((log_ratio >= low) & (log_ratio <= high)).to(log_ratio.dtype)


@dataclass(frozen=True)
class SecondMoment:
    """Perceive as a second-moment trust region does; a rival of humanline (arXiv 2510.01161).

    The tokens with the largest squared log-ratios pass no gradient: so many that the mean square of
    the others is at most `limit`. Tokens with equal ratios have equal rights. Zeros, padding among
    them, do not count.

    Args:
        limit: in nats squared.

    Raises:
        ValueError: if the limit is not positive.
    """

    limit: float

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ValueError(f"limit must be positive; got {self.limit}")

    def __call__(self, log_ratio: Tensor) -> Tensor:
        return torch.where(self.passing(log_ratio).bool(), log_ratio, log_ratio.detach())

    def passing(self, log_ratio: Tensor) -> Tensor:
        """Say which tokens pass a gradient: 1 or 0, in the same shape."""
        squares = log_ratio.detach().square()
        moved = squares[squares > 0].sort().values
        means = moved.cumsum(0) / torch.arange(1, len(moved) + 1, device=moved.device)
        too_many = moved[means > self.limit]  # the means rise with the number of tokens
        if not len(too_many):
            return torch.ones_like(log_ratio)
        return (squares < too_many[0]).to(log_ratio.dtype)


class Sampling(ABC):
    """Humanline sampling: each token has random bounds (arXiv 2509.24207, section 4).

    A token is rejected if its ratio pi_theta / pi_ref is below M_P B_P, or the inverse ratio below
    M_R B_R, where B_P ~ Beta(gamma_p, 1) and B_R ~ Beta(gamma_r, 1). A rejected token keeps its
    value and passes no gradient. Subclasses say what M_P and M_R are.
    """

    gamma_p: float
    gamma_r: float

    @abstractmethod
    def log_maxima(self, log_ratio: Tensor) -> tuple[float | Tensor, float | Tensor]:
        """Give log M_P and log M_R, in nats, for log-ratios of any shape."""

    def drawn(self, seed: Sequence[int], device: torch.device | str = "cpu") -> "Drawn":
        """Make a perception that draws its bounds from its own random generator.

        Args:
            seed: any integers; equal seeds draw equal bounds.
            device: the device of the log-ratios.
        """
        digest = hashlib.sha256(repr(tuple(seed)).encode()).digest()
        generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
        return Drawn(self, generator)

    def passing(self, log_ratio: Tensor) -> Tensor:
        """Compute the chance of each token to pass a gradient, in the shape of log_ratio.

        P(B < b) = b^gamma, so the chance is min(1, ratio / M_P)^gamma_p times
        min(1, (1 / ratio) / M_R)^gamma_r.
        """
        log_m_p, log_m_r = self.log_maxima(log_ratio)
        below, above = (log_ratio - log_m_p).clamp(max=0), (-log_ratio - log_m_r).clamp(max=0)
        return torch.exp(self.gamma_p * below + self.gamma_r * above)

    def _require_gammas(self) -> None:
        for name in ("gamma_p", "gamma_r"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")


@dataclass(frozen=True)
class Drawn:
    """A humanline sampling with its random generator: a perception. Every call draws anew."""

    sampling: Sampling
    generator: torch.Generator

    def __call__(self, log_ratio: Tensor) -> Tensor:
        values, sampling = log_ratio.detach(), self.sampling
        log_m_p, log_m_r = sampling.log_maxima(values)
        below = values < log_m_p + _log_beta(values, sampling.gamma_p, self.generator)
        above = -values < log_m_r + _log_beta(values, sampling.gamma_r, self.generator)
        return torch.where(below | above, values, log_ratio)

    def passing(self, log_ratio: Tensor) -> Tensor:
        """Compute the chance of each token to pass a gradient; see `Sampling.passing`."""
        return self.sampling.passing(log_ratio)


@dataclass(frozen=True)
class Rejection(Sampling):
    """Humanline sampling whose mean bounds are log_eps_p and log_eps_r.

    As the gammas grow, the draws approach their means, and the tokens that pass a gradient become
    those of `clip` (theorem 4.3).

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
        self._require_gammas()

    def log_maxima(self, log_ratio: Tensor) -> tuple[float, float]:
        """Give log M_P and log M_R: the mean of Beta(gamma, 1) is gamma / (gamma + 1)."""
        low, high = _interval(self.log_eps_p, self.log_eps_r)
        return low + math.log1p(1 / self.gamma_p), -high + math.log1p(1 / self.gamma_r)


@dataclass(frozen=True)
class ExtremesRejection(Sampling):
    """Humanline sampling as in the authors' code: M_P and M_R are the micro-batch's extremes.

    M_P is the largest ratio of the micro-batch, M_R the largest inverse ratio. Both are at least 1:
    the authors' maxima are over prompt and padding, too, where the ratio is 1. So the bounds move
    with the most extreme token, and a token that policy and reference find equally likely is
    rejected often if another token's ratio is large.

    Args:
        gamma_p, gamma_r: the authors' are 0.50 and 0.01.

    Raises:
        ValueError: if a gamma is not positive.
    """

    gamma_p: float
    gamma_r: float

    def __post_init__(self) -> None:
        self._require_gammas()

    def log_maxima(self, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
        """Give log M_P and log M_R of these log-ratios, scalars; 0 if there are none."""
        flat = log_ratio.detach().flatten()
        with_one = torch.cat([flat, flat.new_zeros(1)])
        return with_one.max(), (-with_one).max()


def _log_beta(like: Tensor, gamma: float, generator: torch.Generator) -> Tensor:
    """Draw from Beta(gamma, 1) in the shape of `like`; return logarithms: u^100 would underflow."""
    # u^(1 / gamma) has that distribution. Apple's GPUs have single precision alone.
    u = torch.rand(like.shape, generator=generator, device=like.device, dtype=torch.float32)
    return (torch.log1p(-u) / gamma).to(like.dtype)


def _interval(log_eps_p: float | None, log_eps_r: float | None) -> tuple[float, float]:
    low = -math.inf if log_eps_p is None else log_eps_p
    high = math.inf if log_eps_r is None else log_eps_r
    return low, high
