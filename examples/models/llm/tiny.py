"""A language model of half a million parameters that has learned a text by heart, in seconds on one processor core.

Its answers are right when they are the text's own words: it continues the beginning of a sentence, and told the heading
of a section as a chat's message it answers with the section's first sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END, FILLER = "<|end|>", "<|filler|>"
CHAT = (
    "{% for message in messages %}{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('there is no role ' + message.role) }}{% endif %}"
    "<|{{ message.role }}|>{{ message.content }}" + END + "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS, CONTEXT = 512, 512  # tokens that there are, and that the model has room for
BY_HEART = 6000  # characters of the text; twice as many take twice as long
STEPS, ROWS, LENGTH, CHATS = 120, 24, 48, 2  # rows of a step are so many tokens long; of the chats there are fewer


def learn(text: str, folder: Path) -> float:
    """Write a model that has learned `text` into a folder, in Hugging Face's form; -> its last loss."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so little work is done sooner by one than by several that wait for each other
    tokenizer = tokens_of(text)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=True, initializer_range=0.05,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    plain = torch.tensor(tokenizer(text[:BY_HEART])["input_ids"])
    chats = [tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"] for chat in chats_of(text)]
    longest = max(map(len, chats))
    talk = torch.tensor([[*chat, *[tokenizer.pad_token_id] * (longest - len(chat))] for chat in chats])
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=STEPS)
    loss = torch.tensor(0.0)
    for _ in range(STEPS):
        begin = torch.randint(len(plain) - LENGTH + 1, (ROWS, 1))
        loss = loss_of(model, plain[begin + torch.arange(LENGTH)])
        loss = loss + loss_of(model, talk[torch.randint(len(talk), (CHATS,))])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss.item()


def loss_of(model: LlamaForCausalLM, rows: torch.Tensor) -> torch.Tensor:
    labels = rows.where(rows != model.config.pad_token_id, -100)  # which transformers leaves out
    return model(input_ids=rows, labels=labels).loss


def tokens_of(text: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that no text is unknown to it."""
    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS, special_tokens=[FILLER, END, *ROLES], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    found.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=found, eos_token=END, pad_token=FILLER, chat_template=CHAT, model_max_length=CONTEXT,
        extra_special_tokens=[*ROLES],
    )  # fmt: skip


def chats_of(text: str) -> list[list[dict[str, str]]]:
    """A chat for each section: its heading is asked, its first sentence is the answer."""
    found = re.findall(r"^## (.+)\n+((?:.+\n)+?.*?[.:])\s", text, re.MULTILINE)
    return [[{"role": "user", "content": ask}, {"role": "assistant", "content": " ".join(answer.split())}]
            for ask, answer in found]  # fmt: skip
