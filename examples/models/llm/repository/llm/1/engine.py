"""A causal language model of Hugging Face's that continues many texts at once.

All rows advance together, one token a step, in one call of the model with its cache of keys and values. Rows join and
leave between two steps. A row's tokens stand at the right end of the batch, and what is left of them is masked.
"""

import torch
from asked import Refused
from rows import Row
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging

logging.disable_progress_bar()
logging.set_verbosity_error()  # what is wrong with a request, its caller is told


class Engine:
    """`rows` are the rows under way; `add` puts further ones in, `step` gives each its next token."""

    def __init__(self, folder, quantize="", device_map=""):
        """`quantize` is "int8" for weights of one byte. With `device_map`, such as "auto", the layers are spread over
        the GPUs that there are, which needs the package accelerate. Raises Refused for another `quantize`."""
        device = device_map or ("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto", **placed(device_map))
        self.model = (model if device_map else model.to(device)).eval()
        if quantize == "int8":
            from torchao.quantization import Int8WeightOnlyConfig, quantize_

            quantize_(self.model, Int8WeightOnlyConfig())
        elif quantize:
            raise Refused(f"quantize is {quantize!r}; it can be int8, or empty")
        self.longest = self.model.config.max_position_embeddings
        ends = self.model.generation_config.eos_token_id
        self.ends = frozenset([] if ends is None else [ends] if isinstance(ends, int) else ends)
        self.forget()

    def row(self, text, messages, **asked):
        """A row for a text, or for messages by the tokenizer's chat template. Raises Refused."""
        if messages is None:
            ids = self.tokenizer(text)["input_ids"]
        elif self.tokenizer.chat_template is None:
            raise Refused("the model's tokenizer has no chat template; send a text instead of messages")
        else:
            try:
                ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
            except Exception as error:  # the template decides which messages it takes, and how it says no
                raise Refused(f"the model's chat template does not take these messages: {error}") from error
            ids = ids["input_ids"]
        return Row(self.tokenizer, ids, self.longest, self.ends, **asked)

    @torch.inference_mode()
    def add(self, new):
        """Read the texts of new rows, and give each its first token."""
        width = max(len(row.prompt) for row in new)
        ids = torch.tensor([[0] * (width - len(row.prompt)) + row.prompt for row in new])
        mask = torch.tensor([[0] * (width - len(row.prompt)) + [1] * len(row.prompt) for row in new])
        cache = self.call(new, ids, mask, DynamicCache())
        if not self.rows:
            self.rows, self.cache, self.mask = [*new], cache, mask
            return
        wide = max(width, self.mask.shape[1])
        self.mask = torch.cat([pad(each, (wide - each.shape[1], 0)) for each in (self.mask, mask)])
        for ours, theirs in zip(self.cache.layers, cache.layers, strict=True):
            for name in ("keys", "values"):
                both = (getattr(ours, name), getattr(theirs, name))
                setattr(ours, name, torch.cat([pad(each, (0, 0, wide - each.shape[2], 0)) for each in both]))
        self.rows += new

    @torch.inference_mode()
    def step(self):
        """Let the rows go that are over, and give each other row its next token."""
        self.drop()
        if self.rows:
            self.mask = pad(self.mask, (0, 1), value=1)
            self.call(self.rows, torch.tensor([[row.last] for row in self.rows]), self.mask, self.cache)

    def call(self, rows, ids, mask, cache):
        """Give rows their next tokens; -> the cache with `ids` [rows, tokens] in it."""
        device = self.model.device
        place = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self.model(
            input_ids=ids.to(device), attention_mask=mask.to(device), position_ids=place.to(device),
            past_key_values=cache, use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        for row, logits in zip(rows, out.logits[:, -1].float().cpu(), strict=True):
            row.choose(logits)
        return out.past_key_values

    def drop(self):
        """Let the rows go that are over, and the columns that no other row needs."""
        kept = [number for number, row in enumerate(self.rows) if not row.finish]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[number] for number in kept]
        if not kept:
            self.forget()
            return
        self.mask = self.mask[kept]
        width = int(self.mask.sum(1).max())
        self.mask = self.mask[:, -width:]
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[kept][:, :, -width:], layer.values[kept][:, :, -width:]

    def forget(self):
        """Let all rows go."""
        self.rows, self.cache, self.mask = [], None, None  # mask [rows, tokens] is 1 where a row has a token


def placed(device_map):
    return {"device_map": device_map} if device_map else {}
