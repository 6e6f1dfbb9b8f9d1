"""One text that is continued: how its tokens are chosen, what it has said, and when it ends."""

import torch
from asked import Refused, number
from tokenizers.decoders import DecodeStream

DEFAULT_TOKENS = 16  # vLLM's and OpenAI's


class Row:
    """`prompt` are the tokens of the text; `finish` is why it ended ("stop" or "length"), "" while it goes on."""

    def __init__(self, tokenizer, prompt, longest, ends, *, max_tokens=DEFAULT_TOKENS, temperature=1.0, top_p=1.0,
                 stop=(), seed=None):  # fmt: skip
        """`max_tokens` None is as many as the model has room for. Raises Refused."""
        if not prompt:
            raise Refused("the text is empty; send words")
        room = longest - len(prompt)
        if room < 1:
            raise Refused(
                f"the text has {len(prompt):,} tokens, and the model has room for {longest:,} with the answer"
            )
        max_tokens = room if max_tokens is None else max_tokens
        number("max_tokens", max_tokens, int, 1, None)
        if max_tokens > room:
            raise Refused(
                f"max_tokens is {max_tokens:,}, and the text has {len(prompt):,} tokens; the model has room for "
                f"{longest:,}, so at most {room:,} can be asked for"
            )
        self.temperature = number("temperature", temperature, (int, float), 0, None)
        self.top_p = number("top_p", top_p, (int, float), 0, 1)
        self.stop = [stop] if isinstance(stop, str) else list(stop or ())
        if not all(isinstance(word, str) and word for word in self.stop):
            raise Refused("stop is not a text or a list of texts, none of them empty")
        self.generator = torch.Generator()
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(number("seed", seed, int, -(2**63), 2**63 - 1))
        self.tokenizer, self.prompt, self.left, self.ends = tokenizer, prompt, max_tokens, ends
        # It knows the text, because what a token says can depend on the one before it.
        self.decoded = DecodeStream(ids=prompt, skip_special_tokens=True)
        self.last = -1
        self.count = 0  # tokens since the last `take`
        self.ready = ""  # text since then
        self.held = ""  # text that may turn out to be the beginning of a stop word
        self.finish = ""

    def choose(self, logits):
        """The next token, from logits float32 [V]."""
        if self.temperature == 0:
            self.add(int(logits.argmax()))
            return
        share = torch.softmax(logits / self.temperature, 0)
        if self.top_p < 1:
            best, order = share.sort(descending=True)
            best[best.cumsum(0) - best >= self.top_p] = 0  # the first one always stays
            share = torch.zeros_like(share).scatter(0, order, best)
        self.add(int(torch.multinomial(share, 1, generator=self.generator)))

    def add(self, token):
        self.last = token
        self.count += 1
        self.left -= 1
        if token in self.ends:
            self.finish = "stop"
        else:
            self.held += self.decoded.step(self.tokenizer.backend_tokenizer, token) or ""
        found = [at for word in self.stop if (at := self.held.find(word)) >= 0]
        if found:
            self.held, self.finish = self.held[: min(found)], "stop"
        elif not self.left and not self.finish:
            self.finish = "length"
        sure = len(self.held) if self.finish else len(self.held) - self.begun()
        self.ready, self.held = self.ready + self.held[:sure], self.held[sure:]

    def begun(self):
        """How many characters at the end may be the beginning of a stop word."""
        sizes = (size for word in self.stop for size in range(1, len(word)) if self.held.endswith(word[:size]))
        return max(sizes, default=0)

    def take(self):
        """The text and the number of tokens since the last call."""
        taken = self.ready, self.count
        self.ready, self.count = "", 0
        return taken
