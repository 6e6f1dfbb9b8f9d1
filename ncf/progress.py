"""What a person sees while a model trains: a bar on a terminal, and one line an epoch everywhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ncf.trainer import Epoch


class TrainingProgress:
    """Context manager that gives `train` its two callbacks; writes to standard error."""

    def __init__(self, epochs: int) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.epochs = epochs
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  loss {task.fields[loss]:.4f}  {task.fields[rate]:,.0f} samples/s"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("train", total=epochs, epoch=1, loss=float("nan"), rate=0.0)

    def __enter__(self) -> TrainingProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_step(self, epoch: int, step: int, steps: int, loss: float, rate: float) -> None:
        self.bar.update(self.task, completed=epoch - 1 + step / steps, epoch=epoch, loss=loss, rate=rate)

    def on_epoch(self, epoch: Epoch) -> None:
        self.console.print(
            f"epoch {epoch.epoch:>{len(str(self.epochs))}}/{self.epochs}  loss {epoch.loss:.4f}  "
            f"{epoch.samples_per_second:,.0f} samples/s  hold-out HR@10 {epoch.hit_rate_at_10:.4f}  "
            f"NDCG@10 {epoch.ndcg_at_10:.4f}  {epoch.seconds:.1f} s",
            soft_wrap=True,
        )
