"""Event files for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from ncf.errors import InputError
from ncf.training.loop import Epoch


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
