"""Show the progress of a search on standard error: a bar over all trials, and a line for each that ended."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ncf.training.progress import metrics
from ncf.tuning.results import DONE, PRUNED, Results, Row, best_of


class SearchProgress:
    """Context manager with the callbacks of a search; `epochs` are the most epochs of a trial."""

    def __init__(self, trials: int, epochs: int, results: Results) -> None:
        self.trials, self.epochs, self.results = trials, epochs, results
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("trial {task.fields[trial]} of {task.total:.0f}, epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("best {task.fields[best]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("tune", total=trials, trial=1, epoch=1, best="-")

    def __enter__(self) -> SearchProgress:
        self.bar.start()
        rows = self.results.rows()
        if rows:
            best = best_of(rows)
            so_far = f", the best {metrics(None, None, best.ndcg_at_10)}" if best else ""
            self.say(f"continuing after {len(rows)} trials{so_far}")
        self._show(rows)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_step(self, epoch: int, step: int, steps: int, loss: float, rate: float) -> None:
        self.bar.update(self.task, epoch=epoch, completed=self.ended + (epoch - 1 + step / steps) / self.epochs)

    def on_end(self) -> None:
        """Print the trial that ended last."""
        rows = self.results.rows()
        row, best = rows[-1], best_of(rows)
        self.say(f"{line_of(row, len(str(self.trials)))}{'  the best so far' * (row is best)}")
        self._show(rows)

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def _show(self, rows: list[Row]) -> None:
        self.ended, best = len(rows), best_of(rows)
        figure = metrics(None, None, best.ndcg_at_10) if best else "-"
        self.bar.update(self.task, completed=self.ended, trial=self.ended + 1, best=figure)


def line_of(row: Row, width: int) -> str:
    """A trial in a line: how it ended, and with which settings."""
    ends = {DONE: f"epoch {row.best_epoch} of {row.epochs}", PRUNED: f"pruned after epoch {row.epochs}"}
    end = ends.get(row.state, f"failed: {row.reason}")
    figures = metrics(None, row.hit_rate_at_10, row.ndcg_at_10)
    return f"trial {row.trial:>{width}}  {figures}{'  ' * bool(figures)}{end}  {row.seconds:.1f} s  {row.words}"
