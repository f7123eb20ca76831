"""The options that humanline adds to TRL's configs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from transformers.utils import is_torch_bf16_gpu_available, is_torch_xla_available

from humanline.method.perception import (
    Clipping,
    ExtremesRejection,
    Perceive,
    Rejection,
    Sampling,
    SecondMoment,
    identity,
)
from humanline.trainers.options.bounds import require_bounds, require_types

if TYPE_CHECKING:
    from transformers import TrainingArguments

    class _Config(TrainingArguments):
        """As `__post_init__` leaves it: a path is set, texts are parsed."""

        output_dir: str
        model_init_kwargs: dict[str, Any] | str | None
        trust_remote_code: bool
        gradient_checkpointing_kwargs: dict[str, Any] | None
        accelerator_config: Any

else:  # TRL's config follows in the order of classes, with defaults of its own
    _Config = object

# Options of every config of TRL's that change a loss, the reference or the policy alone.
_NEEDED_BY_ALL = {
    "label_smoothing_factor": (0.0, "it is not a loss over labels"),
    "sync_ref_model": (False, "humanline syncs the reference itself, before the update"),
    "use_liger_kernel": (
        False,
        "the Trainer gives Liger's layers to the policy alone, and a second model as the reference "
        "would differ from it untrained; TRL advises model_init_kwargs={'use_kernels': True}",
    ),
}


# The options that a perception has of its own, with their defaults.
_OF_PERCEPTION: dict[str, dict[str, float]] = {
    "clip": {},
    "sample": {"gamma_p": 10.0, "gamma_r": 10.0},
    "authors": {"gamma_p": 0.5, "gamma_r": 0.01},
    "second_moment": {"second_moment": 0.04},
}


@dataclass
class HumanlineOptions(_Config):
    """The options that humanline adds to a TRL config; a mixin before the config.

    Raises:
        ValueError: if an option is out of bounds, or has no humanline meaning.
    """

    # Options that must be above 0, besides those of `bounds`.
    positive: ClassVar[frozenset[str]] = frozenset()
    # TRL's options that must have a value with humanline, and why.
    needs: ClassVar[dict[str, tuple[Any, str]]] = {}
    # Whether the trainer that is being made is ours, which says so. No option: not annotated.
    is_in_our_hands = False

    humanline: bool = field(
        default=True,
        metadata={"help": "Train the humanline variant. False: the objective as TRL defines it."},
    )
    log_eps_p: float | None = field(
        default=-1.5,
        metadata={"help": "Lower bound of a token's log-ratio, in nats. None: no bound."},
    )
    log_eps_r: float | None = field(
        default=1.5,
        metadata={"help": "Upper bound of a token's log-ratio, in nats. None: no bound."},
    )
    sync_interval: int | None = field(
        default=1,
        metadata={
            "help": "k: the reference takes the policy's weights every k optimizer steps, before "
            "the update. None: never."
        },
    )
    reference: str = field(
        default="cached",
        metadata={
            "help": "How the reference is kept. cached: the policy scores the batches of the next "
            "k steps at the sync, and no second model is held. model: a second model. adapter: a "
            "second adapter, for PEFT. All give the same losses."
        },
    )
    perception: str = field(
        default="clip",
        metadata={
            "help": "clip: log-ratios are clipped to the bounds. sample: tokens beyond randomly "
            "drawn bounds pass no gradient (the paper's humanline sampling); the means of the "
            "bounds are log_eps_p and log_eps_r. authors: the same as in the authors' code, where "
            "the bounds depend on the most extreme tokens of the micro-batch, and not on "
            "log_eps_p and log_eps_r. second_moment: a rival, not humanline's; see second_moment.",
        },
    )
    gamma_p: float | None = field(
        default=None,
        metadata={
            "help": "Of perception='sample' and 'authors': a token is rejected if its ratio is "
            "below M_P times a draw of Beta(gamma_p, 1). sample: M_P makes exp(log_eps_p) the mean "
            "of that bound; large values come close to clipping. authors: M_P is the largest ratio "
            "of the micro-batch. None: 10 with sample, 0.5 with authors."
        },
    )
    gamma_r: float | None = field(
        default=None,
        metadata={
            "help": "As gamma_p, for the inverse ratio and exp(-log_eps_r). None: 10 with sample, "
            "0.01 with authors."
        },
    )
    second_moment: float | None = field(
        default=None,
        metadata={
            "help": "Of perception='second_moment': the tokens with the largest squared log-ratios "
            "pass no gradient, until the mean square of the others is at most this, in nats "
            "squared (arXiv 2510.01161). None: 0.04."
        },
    )
    sync_after_update: bool = field(
        default=False,
        metadata={
            "help": "Sync after the update instead of before it, as TR-DPO does (arXiv "
            "2404.09656): a baseline, not humanline."
        },
    )
    sync_alpha: float = field(
        default=1.0,
        metadata={
            "help": "A sync moves the reference to alpha policy + (1 - alpha) reference, TR-DPO's "
            "soft update. 1: a copy."
        },
    )

    def __post_init__(self):
        require_types(self)
        require_bounds(self, self.positive)
        if self.bf16 is None:
            # TRL's default is bfloat16 everywhere. Without a GPU that has it transformers refuses
            # it, and with use_cpu many processors compute it tens of times slower than float32.
            self.bf16 = not (self.fp16 or self.use_cpu) and _has_bf16()
        super().__post_init__()
        self._wait_for_no_device()
        require_bounds(self, self.positive)  # again: texts have become numbers
        k = self.sync_interval
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise ValueError(f"sync_interval must be an integer of at least 1, or None; got {k!r}")
        if not 0 < self.sync_alpha <= 1:
            raise ValueError(f"sync_alpha must be above 0 and at most 1; got {self.sync_alpha}")
        for name, choices in (
            ("reference", ("cached", "model", "adapter")),
            ("perception", tuple(_OF_PERCEPTION)),
        ):
            if getattr(self, name) not in choices:
                given = getattr(self, name)
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {given!r}")
        self._set_options_of_perception()
        self.make_perceive()  # refuses impossible bounds
        if self.sync_alpha != 1 and self.reference == "cached":
            raise ValueError(
                f"sync_alpha={self.sync_alpha} mixes old weights with new ones, but "
                "reference='cached' keeps no old ones; use reference='model' or 'adapter'"
            )
        if self.humanline:
            self._refuse_meaningless_options()
        elif weight := getattr(self, "sft_weight", 0):
            raise ValueError(
                f"sft_weight={weight} has no meaning with humanline=False: it is added to "
                "humanline's loss; set it to 0, or humanline=True"
            )

    @property
    def place_model_on_device(self) -> bool | None:
        """As in transformers, where every Trainer, and nobody else, reads it while it is made.

        Raises:
            ValueError: if the trainer is not ours, which would train without humanline in silence.
        """
        if self.humanline and not self.is_in_our_hands:
            own = type(self).__name__
            raise ValueError(
                f"args is a {own}, but this trainer is not humanline's and would train without "
                f"humanline; use {own.removesuffix('Config')}Trainer, or set humanline=False"
            )
        return super().place_model_on_device

    def _wait_for_no_device(self) -> None:
        """Choose what spares the Trainer from waiting for a GPU at every batch.

        Our trainers refuse a loss that is nan, so no filter has to look for it.
        """
        self.logging_nan_inf_filter = False
        if self.dataloader_pin_memory:
            self.accelerator_config.non_blocking = True

    def _set_options_of_perception(self) -> None:
        """Give each option that was left out the default of the perception."""
        own = _OF_PERCEPTION[self.perception]
        for name in ("gamma_p", "gamma_r", "second_moment"):
            given = getattr(self, name)
            if name not in own and given is not None:
                readers = [kind for kind, options in _OF_PERCEPTION.items() if name in options]
                raise ValueError(
                    f"{name}={given} has no meaning with perception={self.perception!r}; leave it "
                    f"out, or set perception to {' or '.join(readers)}"
                )
            setattr(self, name, own.get(name) if given is None else given)

    def make_perceive(self) -> Perceive | Sampling:
        """Make the perception that the options ask for; see `method.perception`."""
        if not self.humanline:
            return identity
        match self.perception:
            case "sample":
                return Rejection(self.log_eps_p, self.log_eps_r, *self._own_options())
            case "authors":
                return ExtremesRejection(*self._own_options())
            case "second_moment":
                return SecondMoment(*self._own_options())
        return Clipping(self.log_eps_p, self.log_eps_r)

    def _own_options(self) -> list[float]:
        return [getattr(self, name) for name in _OF_PERCEPTION[self.perception]]

    def refuse_other_losses(self, trainer: str) -> None:
        """Raise a ValueError if an option chooses another loss than the trainer's own."""

    def _refuse_meaningless_options(self):
        for name, (allowed, reason) in (_NEEDED_BY_ALL | self.needs).items():
            if getattr(self, name) != allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} has no humanline meaning: {reason}. "
                    f"Set {name}={allowed!r}, or humanline=False"
                )


def _has_bf16() -> bool:
    """Say whether transformers accepts bfloat16 on this machine's accelerator."""
    return is_torch_bf16_gpu_available() or is_torch_xla_available()


def require_config(args, config: type, model):
    """Return the config, or the default one as TRL makes it.

    Args:
        args: a config, or None.
        config: the class that it must have.
        model: a model or its path; it names the default output folder.

    Raises:
        ValueError: if `args` is TRL's own config, which lacks our options, or another objective's;
            or if `model` is neither a model nor its path.
    """
    if isinstance(model, str) and model.startswith(("/", ".")) and not Path(model).exists():
        raise ValueError(f"model: no such folder: {model!r}; mend the path")
    if not isinstance(model, str) and not hasattr(model, "config"):
        kind = type(model).__name__
        raise ValueError(f"model must be a model of transformers or its path; got {kind}")
    if args is None:
        name = model if isinstance(model, str) else model.config._name_or_path
        objective = config.__name__.removeprefix("Humanline").removesuffix("Config")
        return config(f"{name.split('/')[-1]}-Humanline-{objective}")
    if not isinstance(args, HumanlineOptions) or not isinstance(args, config):
        raise ValueError(f"args must be a {config.__name__}; got {type(args).__name__}")
    return args
