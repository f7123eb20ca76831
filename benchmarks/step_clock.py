"""The time of a training's steps and of their parts, and what the GPU did meanwhile."""

import functools
import time
from collections import Counter, defaultdict

PARTS = ("policy forward", "reference", "backward", "update", "sync", "rest")
# Calls after which the program waits until the device has done all that is queued.
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class Clock:
    """Measures the seconds of each step and of its parts; nested parts count for the outer one.

    On a GPU it never waits: it leaves marks among the device's operations, and reads them at the
    end. Otherwise it would hide what a trainer gains by not waiting.

    Args:
        trainer: TRL's or ours, before its training.
        profiles: whether to profile the window after the last that is counted; on a GPU alone.
    """

    def __init__(self, trainer, profiles: bool = False):
        self._steps: list[list[tuple[str, object, object]]] = []  # part, beginning and end
        self._parts: list[tuple[str, object, object]] = []  # of the present step
        self._is_inside = False
        self._profiles, self._profile = profiles, None
        self.profile: dict[str, object] = {}
        self._time("policy forward", trainer.model, "forward")
        if trainer.ref_model is not None:
            self._time("reference", trainer.ref_model, "forward")
        if hasattr(trainer, "_scored"):  # our trainers
            self._time("reference", trainer, "_scored")
        self._time("backward", trainer.accelerator, "backward")
        for handler in trainer.callback_handler.callbacks:
            if type(handler).__name__ in ("FollowPolicy", "CopyEveryStep"):
                self._time("sync", handler, "on_pre_optimizer_step")

    def _time(self, part: str, owner, name: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args, **kwargs):
            if self._is_inside:
                return function(*args, **kwargs)
            self._is_inside, began = True, _mark()
            try:
                return function(*args, **kwargs)
            finally:
                self._is_inside = False
                self._parts.append((part, began, _mark()))

        setattr(owner, name, timed)

    def callback(self, end: int, k: int):
        """Make a callback that measures `end` steps, profiles k more, and ends the training."""
        from transformers import TrainerCallback

        clock, last = self, end + (k if self._profiles else 0)

        class Steps(TrainerCallback):
            def on_train_begin(self, *args, **kwargs):
                clock._began = _mark()

            def on_pre_optimizer_step(self, *args, **kwargs):
                clock._optimizer_began = _mark()

            def on_optimizer_step(self, *args, **kwargs):
                clock._parts.append(("update", clock._optimizer_began, _mark()))

            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step <= end:
                    clock._end_step()
                if state.global_step == end and last > end:
                    clock._begin_profile()
                if state.global_step == last:
                    control.should_training_stop = True
                    if last > end:
                        clock._end_profile(k)

        return Steps()

    def _end_step(self) -> None:
        now = _mark()
        self._steps.append([*self._parts, ("all", self._began, now)])
        self._began, self._parts = now, []

    def windows(self, first: int, k: int) -> list[tuple[float, dict[str, float]]]:
        """Average seconds per step, in all and by part, over windows of k steps from `first` on."""
        steps = []
        for marks in self._steps:
            parts: dict[str, float] = defaultdict(float)
            for part, began, ended in marks:
                parts[part] += _seconds(began, ended)
            whole = parts.pop("all")
            parts["rest"] = whole - sum(parts.values())
            steps.append(parts)
        means = [
            {part: sum(step[part] for step in steps[i : i + k]) / k for part in PARTS}
            for i in range(first, len(steps), k)
        ]
        return [(sum(parts.values()), parts) for parts in means]

    def _begin_profile(self) -> None:
        import torch

        torch.cuda.synchronize()
        kinds = torch.profiler.ProfilerActivity
        self._profile = torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA])
        self._profile.start()
        self._profile_began = time.perf_counter()

    def _end_profile(self, k: int) -> None:
        """Note, per step: milliseconds in all, those of the GPU's work, and waits."""
        import torch

        torch.cuda.synchronize()
        seconds = time.perf_counter() - self._profile_began
        self._profile.stop()
        kernels: Counter = Counter()
        calls: Counter = Counter()
        for event in self._profile.events():
            if event.is_user_annotation:
                continue
            if event.device_type == torch.autograd.DeviceType.CUDA:
                kernels[event.name] += event.time_range.elapsed_us() / 1000 / k
            else:
                calls[event.name] += 1 / k
        top = [f"{ms:.2f} {name[:100]}" for name, ms in kernels.most_common(14)]
        read = ("aten::item", "aten::nonzero", "aten::_local_scalar_dense", "cudaLaunchKernel")
        self.profile = {
            "ms": round(1000 * seconds / k, 1),
            "GPU works, ms": round(sum(kernels.values()), 1),
            "waits": round(sum(calls[name] for name in _WAITS), 1),
            **{name: round(calls[name], 1) for name in read},
            "GPU's work": top,
        }


def _mark():
    """Mark this moment: among the GPU's operations if there is one, else on the clock."""
    import torch

    if not torch.cuda.is_available():
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds(began, ended) -> float:
    if isinstance(began, float):
        return ended - began
    ended.synchronize()
    return began.elapsed_time(ended) / 1000
