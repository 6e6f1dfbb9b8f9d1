"""Write `llm`, a causal language model, into a Triton model repository: text or messages in, their continuation out.

MODEL is a folder of Hugging Face's (config.json, weights, tokenizer.json, tokenizer_config.json). Without one a tiny
model learns the beginning of this project's README by heart, which takes seconds.
"""

import re
import shutil
import sys
from pathlib import Path

import click

HERE = Path(__file__).parent
README = HERE.parents[2] / "README.md"


@click.command(help=__doc__)
@click.option("--repository", default="model_repository", show_default=True, type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--backend", default="python", show_default=True, type=click.Choice(["python", "vllm"]))
@click.option("--quantize", type=click.Choice(["int8"]), help="Weights of one byte each, by torchao (python).")
@click.option("--device-map", default="", help="Such as auto: spread the layers over the GPUs that there are (python).")
def build(repository: Path, model: Path | None, backend: str, quantize: str | None, device_map: str) -> None:
    target = repository / "llm"
    source = HERE / "repository" / "llm" if backend == "python" else HERE / "vllm" / "llm"
    shutil.copytree(source, target, dirs_exist_ok=True)
    if model:
        shutil.copytree(model, target / "1", dirs_exist_ok=True)
        click.echo(f"wrote {target} of {model}")
    else:
        sys.path.insert(0, str(HERE))
        from tiny import learn

        loss = learn(README.read_text("utf-8"), target / "1")
        click.echo(f"wrote {target}, which has learned the beginning of {README.name} up to a loss of {loss:.2f}")
    if backend == "vllm":  # its settings are in model.json
        return
    config = (target / "config.pbtxt").read_text()
    for key, value in (("quantize", quantize or ""), ("device_map", device_map)):
        config = re.sub(rf'(key: "{key}" value: {{ string_value: )""', rf'\1"{value}"', config)
    (target / "config.pbtxt").write_text(config)


if __name__ == "__main__":
    build()
