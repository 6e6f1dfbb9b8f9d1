"""Write the model `hello` into a Triton model repository: y = tanh(linear(x) + h)."""

import shutil
from pathlib import Path

import click
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


class Hello(nn.Module):
    """x and h float32 [B, 4] -> float32 [B, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        with torch.no_grad():  # y[j] is tanh(0.1 · sum(x) + h[j])
            self.linear.weight.fill_(0.1)
            self.linear.bias.zero_()

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.linear(x) + h)


@click.command(help=__doc__)
@click.option("--repository", default="model_repository", show_default=True, type=click.Path(path_type=Path))
def build(repository: Path) -> None:
    shutil.copytree(HERE / "repository", repository, dirs_exist_ok=True)
    version = repository / "hello" / "1"
    version.mkdir(exist_ok=True)
    torch.jit.script(Hello().eval()).save(version / "model.pt")
    click.echo(f"wrote {repository / 'hello'}")


if __name__ == "__main__":
    build()
