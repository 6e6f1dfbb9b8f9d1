"""The example `llm`: a tiny language model, built by its command, served on a multi-model endpoint, and asked by the
unmodified openai client. What it should say is what transformers' own `generate` says."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from tests.conftest import made_once
from tests.examples.test_models import MODELS, run
from tests.support.eventually import eventually
from tests.support.serving import Answer, Server

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]  # transformers' own

LLM = MODELS / "llm"
ASK = "Two commands"  # a heading of the README
README = (LLM.parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "llm", lambda folder: run(LLM / "build.py", "build", "--repository", folder))


@pytest.fixture(scope="module")
def root(built: Path, one_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives: `llm`, the same with weights of one byte, the same without its tokenizer, and a recommender."""
    root, weights = tmp_path_factory.mktemp("endpoint"), built / "llm" / "1"
    for name in ("llm", "no_tokenizer"):
        shutil.copytree(built / "llm", root / name / "model" / "llm")
    (root / "no_tokenizer" / "model" / "llm" / "1" / "tokenizer.json").unlink()
    quantized = ("--repository", root / "llm_int8" / "model", "--model", weights, "--quantize", "int8")
    run(LLM / "build.py", "build", *quantized)
    shutil.copytree(one_model, root / "tiny" / "model")
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    """A multi-model endpoint with all of them loaded but the one without its tokenizer. A path that names a model takes
    Triton's own form."""
    more = {"SAGEMAKER_MULTI_MODEL": "true", "SERVE_MULTI_MODEL_ROOT": str(root), "SAGEMAKER_TRITON_LOG_INFO": "true"}
    with Server(root, SERVE_WORKERS="1", SAGEMAKER_TRITON_INFERENCE_TYPE="generate_stream", **more) as running:
        running.wait_until_ready()
        with ThreadPoolExecutor() as threads:
            for answer in threads.map(lambda name: load(running, root, name), ("llm", "llm_int8", "tiny")):
                assert answer.status == 200, answer.body
        yield running


def load(server: Server, root: Path, name: str) -> Answer:
    body = json.dumps({"model_name": name, "url": str(root / name / "model")}).encode()
    return server.request("POST", "/models", body, seconds=300)


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def generate(built: Path) -> Any:
    """transformers' own greedy continuation of a text or of a chat: the number of tokens told, and the text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = built / "llm" / "1"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)

    def continued(asked: str | list[dict[str, str]], tokens: int) -> tuple[int, str]:
        if isinstance(asked, str):
            inputs = tokenizer(asked, return_tensors="pt")
        else:
            inputs = tokenizer.apply_chat_template(
                asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
        found = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        # A character whose last bytes were not made is no text.
        return inputs["input_ids"].shape[1], tokenizer.decode(found, skip_special_tokens=True).rstrip("\ufffd")

    return continued


def says(*texts: str) -> list[Any]:
    return [{"role": "user" if number % 2 == 0 else "assistant", "content": text} for number, text in enumerate(texts)]


def test_a_chat_is_what_the_model_itself_generates(client: openai.OpenAI, generate: Any) -> None:
    told, text = generate(says(ASK), 120)
    answer = client.chat.completions.create(model="llm", messages=says(ASK), temperature=0)
    assert answer.choices[0].message.content == text
    assert f"{ASK} {text[:40]}" in " ".join(README.split())  # it has learned the page by heart
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == told
    assert answer.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(
        model="llm", messages=says(ASK), temperature=0, max_completion_tokens=120, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece or "" for piece in pieces) == text
    assert len(pieces) > 20
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == answer.usage


def test_many_clients_at_once_get_what_each_gets_alone(client: openai.OpenAI, generate: Any) -> None:
    """Texts of different lengths, so that rows come and go while others are under way; two of them are sampled."""
    words = README.split()
    prompts = [" ".join(words[at : at + 2 + at % 23]) for at in range(0, 480, 40)]

    def ask(number: int) -> str:
        sampled = {"temperature": 1.2, "seed": 5} if number < 2 else {"temperature": 0}
        answer = client.completions.create(model="llm", prompt=prompts[number], max_tokens=5 + 7 * number, **sampled)
        return answer.choices[0].text

    alone = [ask(0), ask(1), *(generate(prompt, 5 + 7 * at)[1] for at, prompt in enumerate(prompts) if at > 1)]
    with ThreadPoolExecutor(len(prompts)) as threads:
        for _ in range(2):
            assert list(threads.map(ask, range(len(prompts)))) == alone


@pytest.mark.parametrize("family", ["GPT2", "Mistral"])
def test_rows_that_come_and_go_change_no_other(
    family: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with a table of places, and one that looks back 16 tokens; random, so every mistake would show. They
    compute in doubles, because rounding differs between a row alone and a batch."""
    import transformers

    sizes = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "eos_token_id": 1}
    more = {"n_positions": 256}
    if family == "Mistral":
        more = {"max_position_embeddings": 256, "sliding_window": 16, "num_key_value_heads": 2, "intermediate_size": 64}
    config = getattr(transformers, f"{family}Config")(**sizes, **more, pad_token_id=0, initializer_range=0.3)
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(built / "llm" / "1" / name, tmp_path)
    monkeypatch.syspath_prepend(built / "llm" / "1")
    engine = importlib.import_module("engine").Engine(tmp_path)
    words = README.split()
    asked = [(" ".join(words[at : at + 1 + at % 11]), 1 + at % 37) for at in range(0, 140, 7)]
    rows = [engine.row(text, None, max_tokens=tokens, temperature=0) for text, tokens in asked]
    for at in range(0, len(rows), 3):
        engine.add(rows[at : at + 3])
        for _ in range(at % 5):
            engine.step()
    while engine.rows:
        engine.step()
    for (text, tokens), row in zip(asked, rows, strict=True):
        inputs = engine.tokenizer(text, return_tensors="pt")
        found = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        assert engine.tokenizer.decode(found, skip_special_tokens=True).startswith(row.ready)
        assert row.count == len(found)


def test_a_stop_word_ends_the_text_before_it(client: openai.OpenAI, generate: Any) -> None:
    _, text = generate(ASK, 60)
    at = len(text) // 2
    stop = text[at : at + 5]
    asked = {"model": "llm", "prompt": ASK, "temperature": 0, "max_tokens": 60}
    whole = client.completions.create(**asked, stop=["no such word", stop])
    wanted = text[: text.index(stop)]
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == (wanted, "stop")
    pieces = [chunk.choices[0] for chunk in client.completions.create(**asked, stop=stop, stream=True)]
    assert ("".join(piece.text for piece in pieces), pieces[-1].finish_reason) == (wanted, "stop")
    never = client.completions.create(**asked, stop="no such word")
    assert (never.choices[0].text, never.choices[0].finish_reason) == (text, "length")


def test_a_seed_says_what_is_drawn(client: openai.OpenAI) -> None:
    def ask(seed: int, top_p: float = 1) -> str:
        asked = {"model": "llm", "prompt": "a", "temperature": 2, "max_tokens": 30, "seed": seed, "top_p": top_p}
        return client.completions.create(**asked).choices[0].text

    assert ask(1) == ask(1) != ask(2)
    greedy = client.completions.create(model="llm", prompt="a", temperature=0, max_tokens=30).choices[0].text
    assert ask(1, 0.0001) == greedy  # only the likeliest token is left


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"model": "llama"}, openai.NotFoundError, "llama"),
        ({"model": "tiny"}, openai.BadRequestError, "tiny is no language model"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens is 0"),
        ({"max_tokens": 1000}, openai.BadRequestError, "the model has room for 512"),
        ({"messages": says("word " * 100_000)}, openai.BadRequestError, "tokens, and the model has room for 512"),
        ({"messages": [{"role": "robot", "content": "x"}]}, openai.BadRequestError, "there is no role robot"),
        ({"n": 2}, openai.BadRequestError, "n is 2"),
    ],
)
def test_a_request_that_cannot_be_answered(
    client: openai.OpenAI, asked: dict[str, Any], error: type[openai.APIStatusError], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        client.chat.completions.create(**{"model": "llm", "messages": says(ASK), **asked})
    assert raised.value.type == "invalid_request_error"


def test_a_client_that_leaves_ends_its_text(server: Server, client: openai.OpenAI) -> None:
    stream = client.completions.create(model="llm", prompt="the model", max_tokens=500, temperature=0, stream=True)
    next(iter(stream))
    stream.close()

    def not_made() -> list[str]:
        return re.findall(r"a client left, and (\d+) tokens are not made", server.log.read_text())

    (left,) = eventually(not_made, about=server.log.read_text)
    assert 0 < int(left) < 500


def test_the_body_says_that_it_is_openai_s(server: Server, client: openai.OpenAI, generate: Any) -> None:
    body = {"messages": says(ASK), "temperature": 0, "max_tokens": 20}
    text = generate(says(ASK), 20)[1]
    answer = server.invoke({**body, "model": "llm"})
    assert answer.json["choices"][0]["message"]["content"] == text
    streamed = server.invoke({**body, "model": "llm", "stream": True})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert {model.id for model in client.models.list()} == {"llm", "llm_int8"}
    recommended = server.invoke({"model": "tiny", "user_id": "all", "prompt": "x"})
    assert (recommended.status, recommended.json["code"]) == (400, "bad_request")


def test_the_page_s_client(server: Server, generate: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (LLM / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(compile(block.replace(":8080", f":{server.port}"), "README.md", "exec"), {})
    assert capsys.readouterr().out == generate("ncf-triton trains", 16)[1].partition("\n")[0]


def test_triton_s_own_form_of_the_page(server: Server, generate: Any) -> None:
    (line,) = re.findall(r'^    (\{"text_input".*)$', (LLM / "README.md").read_text(), re.MULTILINE)
    asked = json.loads(line)

    def ask(**more: Any) -> Answer:
        return server.request("POST", "/models/llm/invoke", json.dumps({**asked, **more}).encode())

    events = [json.loads(part.removeprefix("data: ")) for part in ask().body.decode().split("\n\n")[:-1]]
    assert "".join(event["text_output"] for event in events) == generate(asked["text_input"], 20)[1]
    assert len(events) > 5
    for more, words in (
        ({"text_input": ""}, "the text is empty"),
        ({"sampling_parameters": '{"max_tokens": 0}'}, "max_tokens is 0"),
        ({"sampling_parameters": '{"beams": 4}'}, "beams is unknown"),
        ({"messages": "[]"}, "either text_input or messages"),
    ):
        refused = ask(**more)
        assert (refused.status, words in refused.json["error"]) == (400, True), refused.json


def test_weights_of_one_byte_say_nearly_the_same(server: Server, client: openai.OpenAI, generate: Any) -> None:
    answer = client.chat.completions.create(model="llm_int8", messages=says(ASK), temperature=0, max_tokens=20)
    assert answer.choices[0].message.content == generate(says(ASK), 20)[1]


def test_a_model_without_its_tokenizer_is_refused_and_others_answer_on(
    server: Server, root: Path, client: openai.OpenAI
) -> None:
    refused = load(server, root, "no_tokenizer")
    assert (refused.status, "tokenizer.json is missing" in refused.json["error"]) == (400, True), refused.json
    assert client.completions.create(model="llm", prompt=ASK, max_tokens=1).usage


def test_vllm_gets_the_same_requests() -> None:
    ours, vllm = (
        text_format.Parse((folder / "llm" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
        for folder in (LLM / "repository", LLM / "vllm")
    )
    names = [[each.name for each in model.input] for model in (ours, vllm)]
    assert {*names[0]} - {*names[1]} == {"messages"}
    assert (list(ours.output), vllm.backend) == (list(vllm.output), "vllm")
    assert vllm.model_transaction_policy.decoupled
    engine = json.loads((LLM / "vllm" / "llm" / "1" / "model.json").read_text())
    assert (engine["tensor_parallel_size"], engine["quantization"]) == (2, "fp8")
