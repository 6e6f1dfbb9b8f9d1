"""Show the progress of a training: a bar and a line for each epoch on standard error, and files for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ncf.errors import InputError
from ncf.training.loop import Epoch

ALWAYS_PRINTED = 3  # first epochs; later ones at most once a second, metrics.jsonl has them all
SECONDS_BETWEEN = 1.0


class TrainingProgress:
    """Context manager with the callbacks of a training; it writes to standard error, unless it is `quiet`.

    `stage_epochs` are the most epochs of each stage; a stage that ends early counts as all of its epochs.
    """

    def __init__(self, stage_epochs: Sequence[int], quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.epochs = stage_epochs
        self.begun = 0  # stages
        self.printed = 0.0
        self.bar = Progress(
            TextColumn("{task.fields[stage]}epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} samples/s"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=sum(stage_epochs), epoch=1, loss=float("nan"), rate=0.0, stage="")

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def more(self, stage_epochs: Sequence[int]) -> None:
        """Further stages after those that were begun."""
        self.epochs = [*self.epochs[: self.begun], *stage_epochs]
        self.bar.update(self.task, total=sum(self.epochs))

    def on_stage(self, stage: str) -> None:
        self.begun += 1
        self.bar.update(self.task, stage=f"{stage}, " if stage else "")

    def on_step(self, epoch: int, step: int, steps: int, loss: float, rate: float) -> None:
        done = sum(self.epochs[: self.begun - 1]) + epoch - 1 + step / steps
        self.bar.update(self.task, completed=done, epoch=epoch, loss=loss, rate=rate)

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    def on_epoch(self, epoch: Epoch) -> None:
        self._print(epoch, metrics(epoch.loss, epoch.hit_rate_at_10, epoch.ndcg_at_10))

    def on_refit_epoch(self, epoch: Epoch) -> None:
        """Print the loss in a form that no regular expression of a training job matches: metrics are the hold-out's."""
        self._print(epoch, f"loss {epoch.loss:.4f}")

    def _print(self, epoch: Epoch, figures: str) -> None:
        stage = f"{epoch.stage}, " if epoch.stage else ""
        now = time.monotonic()
        if epoch.epoch > ALWAYS_PRINTED and now - self.printed < SECONDS_BETWEEN:
            return
        self.printed = now
        self.console.print(
            f"{stage}epoch {epoch.epoch:>{len(str(max(self.epochs)))}}  {figures}  "
            f"{epoch.samples_per_second:,.0f} samples/s  {epoch.seconds:.1f} s",
            soft_wrap=True,
        )


class EventFiles:
    """Context manager that writes the figures of each epoch into a folder; with None it does nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.writer = None
        if folder is None:
            return
        from tensorboardX import SummaryWriter  # imported only if it is used, because it imports protobuf

        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.writer = SummaryWriter(str(folder))
        except OSError as error:
            raise InputError(f"cannot write into {folder}: {error.strerror}; choose another --tensorboard") from error

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()

    def on_epoch(self, epoch: Epoch) -> None:
        if self.writer is None:
            return
        stage = f"{epoch.stage}/" if epoch.stage else ""
        figures = {
            "loss": epoch.loss, "samples_per_second": epoch.samples_per_second,
            "hold-out/hit_rate_at_10": epoch.hit_rate_at_10, "hold-out/ndcg_at_10": epoch.ndcg_at_10,
        }  # fmt: skip
        for name, value in figures.items():
            if value is not None:
                self.writer.add_scalar(stage + name, value, epoch.epoch)
        self.writer.flush()


def metrics(loss: float | None, hit_rate: float | None, ndcg: float | None) -> str:
    """Figures in the form that the regular expressions of a training job match; those that are None are left out."""
    named = {"Loss": loss, "HR": hit_rate, "NDCG": ndcg}
    return " ".join(f"{name}={value:.4f};" for name, value in named.items() if value is not None)
