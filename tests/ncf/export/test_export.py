from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ncf.errors import InputError
from ncf.export import export as export_module
from ncf.export.export import ExportedModel, export
from ncf.export.model_configs import query_config, score_config, topk_config
from ncf.export.modules import TopK, TotalScorer
from ncf.export.query import Query
from ncf.export.serving_settings import PartSettings, read_serving
from ncf.models.neural import build_model
from ncf.models.seen import SeenItems
from ncf.training.config import MODEL_NAMES
from ncf.training.run_directory import Run

OUTSIDE = torch.tensor([[-1], [-(2**63)], [2**63 - 1], [10**6]])


def folders(exported: ExportedModel) -> tuple[Path, Path, Path]:
    """The models of a version with `topk`: score, topk, query."""
    assert exported.topk is not None
    return exported.score, exported.topk, exported.query


def pbtxt(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.core
def test_config_is_what_triton_reads(food_run: Run, tmp_path: Path) -> None:
    exported = export(food_run, tmp_path, "m", device="cpu", with_topk=True)
    score, topk, query = (pbtxt(path / "config.pbtxt") for path in folders(exported))
    for config in (score, topk, query):
        assert config.platform == "pytorch_libtorch"
        assert config.name == ""  # the directory's name counts
        assert list(config.dynamic_batching.preferred_batch_size)
        assert max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
        assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_CPU]
        for warmup in config.model_warmup:
            assert set(warmup.inputs) == {tensor.name for tensor in config.input}
    assert [config.dynamic_batching.max_queue_delay_microseconds for config in (score, topk, query)] == [0, 0, 0]
    assert [(t.name, list(t.dims)) for t in score.output] == [("score", [1])]
    assert [(t.name, list(t.dims)) for t in topk.output] == [("item_index", [100]), ("score", [100])]
    assert topk.output[0].data_type == model_config_pb2.TYPE_INT64
    assert list(query.output) == list(topk.output)
    assert [(t.name, list(t.dims)) for t in query.input] == [("query", [-1, 2])]
    for warmup in query.model_warmup:
        wanted = warmup.inputs["query"]
        assert (exported.query / "warmup" / wanted.input_data_file).stat().st_size == 8 * math.prod(wanted.dims)


def test_a_file_decides_batches_delay_and_instances_by_part(food_run: Run, tmp_path: Path) -> None:
    file = tmp_path / "preset.json"
    score = {"max_batch_size": 256, "max_queue_delay_microseconds": 90, "instances": 2}
    file.write_text(json.dumps({"score": score, "topk": {"max_batch_size": 4}}))
    exported = export(food_run, tmp_path / "r", "m", device="cpu", serving=read_serving(file), with_topk=True)
    changed, topk, query = (pbtxt(path / "config.pbtxt") for path in folders(exported))
    assert (changed.max_batch_size, changed.instance_group[0].count) == (256, 2)
    assert changed.dynamic_batching.max_queue_delay_microseconds == 90
    assert list(changed.dynamic_batching.preferred_batch_size) == [64, 256]  # 1024 is cut to what fits
    assert [warmup.batch_size for warmup in changed.model_warmup] == [1, 64]
    assert (topk.max_batch_size, topk.instance_group[0].count) == (4, 0)
    assert list(topk.dynamic_batching.preferred_batch_size) == [4]
    assert [warmup.batch_size for warmup in topk.model_warmup] == [1]
    assert query == text_format.Parse(query_config(100, "cpu").to_pbtxt(), model_config_pb2.ModelConfig())
    with pytest.raises(InputError, match="a new version keeps it"):
        export(food_run, tmp_path / "r", "m", device="cpu", serving={"score": PartSettings(instances=2)})
    with pytest.raises(InputError, match="--serving has settings of topk, which is not exported"):
        export(food_run, tmp_path / "r", "n", serving={"topk": PartSettings(instances=2)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no object"),
        ('{"scores": {}}', "names the part 'scores'; there are score, topk, query"),
        ('{"score": 3}', "score in .* is 3; give it an object of max_batch_size"),
        ('{"topk": {"batch": 3}}', "topk in .* has the field 'batch'; there are max_batch_size"),
        ('{"topk": {"instances": 0}}', "topk.instances in .* is 0; give a whole number from 1 to 64"),
        ('{"query": {"instances": true}}', "query.instances in .* is true; give a whole"),
        ('{"score": {"max_batch_size": "9"}}', 'max_batch_size in .* is "9"; give a whole'),
        ('{"score": {"max_queue_delay_microseconds": -1}}', "is -1; give a whole number from 0 to 1,000,000"),
    ],
)
def test_a_serving_file_that_cannot_be_is_refused_by_field_and_value(
    tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "preset.json"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_serving(file)
    with pytest.raises(InputError, match=r"cannot read .*; choose another --serving"):
        read_serving(tmp_path / "none.json")


@pytest.mark.parametrize(("device", "kind"), [("cpu", "KIND_CPU"), ("gpu", "KIND_GPU"), ("auto", "KIND_AUTO")])
def test_device_decides_the_instance_group(device: str, kind: str) -> None:
    for config in (score_config(device), topk_config(5, device), query_config(5, device)):
        parsed = text_format.Parse(config.to_pbtxt(), model_config_pb2.ModelConfig())
        assert model_config_pb2.ModelInstanceGroup.Kind.Name(parsed.instance_group[0].kind) == kind


def test_inputs_are_the_arguments_of_forward_and_no_device_is_baked_in(food_run: Run, tmp_path: Path) -> None:
    exported = export(food_run, tmp_path, "m", with_topk=True)
    for folder in folders(exported):
        module = torch.jit.load(str(folder / "1" / "model.pt"))
        arguments = [argument.name for argument in module.forward.schema.arguments][1:]
        assert arguments == [tensor.name for tensor in pbtxt(folder / "config.pbtxt").input]
        graph = str(module.inlined_graph)
        assert "Device = prim::Constant" not in graph
        assert 'value="cpu"' not in graph
        assert 'value="cuda' not in graph


@pytest.mark.parametrize("name", MODEL_NAMES)
@pytest.mark.core
def test_exported_modules_are_total_and_equal_eager(name: str) -> None:
    torch.manual_seed(1)
    num_users, num_items, k = 9, 30, 12
    model = build_model(name, num_users, num_items, 8).eval()
    seen = SeenItems.of(torch.tensor([0, 0, 0, 4, *[8] * 25]), torch.tensor([3, 1, 29, 7, *range(25)]), 9, num_items)
    scorer = torch.jit.script(TotalScorer(model, num_users, num_items).eval())
    topk = torch.jit.script(TopK(model.catalogue(), seen, num_users, k).eval())
    with torch.inference_mode():
        user, item = torch.randint(num_users, (200, 1)), torch.randint(num_items, (200, 1))
        torch.testing.assert_close(scorer(user, item), model(user, item), rtol=1e-5, atol=1e-5)
        assert torch.isfinite(scorer(OUTSIDE, OUTSIDE)).all()

        users = torch.tensor([[4], [-7], [0], [8]])
        index, score = topk(users)
        every = model(torch.tensor([[4], [0], [0], [8]]), torch.arange(num_items))
        for row, user_index in ((0, 4), (2, 0), (3, 8)):
            every[row, seen.items[seen.indptr[user_index] : seen.indptr[user_index + 1]]] = float("-inf")
            best = every[row].topk(k)
            found = torch.isfinite(best.values)
            assert index[row][found].tolist() == best.indices[found].tolist()
            torch.testing.assert_close(score[row][found], best.values[found], rtol=1e-5, atol=1e-5)
            assert (index[row][~found] == -1).all()
        assert index[3].tolist().count(-1) == k - 5  # user 8 has 5 unseen items
        popularity = torch.bincount(seen.items, minlength=num_items).float()
        assert score[1].tolist() == popularity.topk(k).values.tolist()  # unknown: the most popular, nothing left out
        assert torch.equal(topk(OUTSIDE)[0], index[1].expand(4, -1))


def test_users_are_worked_through_in_blocks(food_run: Run) -> None:
    module = TopK(food_run.model.catalogue(), food_run.known, len(food_run.users), 10).eval()
    users = torch.arange(40).unsqueeze(1)
    with torch.inference_mode():
        whole = module(users)
        module.rows_at_once = 7
        parts = module(users)
    assert torch.equal(whole[0], parts[0])
    torch.testing.assert_close(whole[1], parts[1], rtol=1e-5, atol=1e-5)


def test_k_stays_where_the_catalogue_is_smaller(tiny_run: Run, tmp_path: Path) -> None:
    """So that the next version, with more items, has the same outputs."""
    exported = export(tiny_run, tmp_path, "m", k=100, with_topk=True)
    assert exported.k == 100
    firsts = {"m_topk": torch.tensor([[0]]), "m_query": torch.tensor([[[Query.USER, 0]]])}
    for name, first in firsts.items():
        module = torch.jit.load(str(tmp_path / name / "1" / "model.pt"))
        item_index, score = module(first)
        assert item_index.shape == score.shape == (1, 100)
        assert (item_index[0, len(tiny_run.items) :] == -1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "no/slash"}, "is no model name"),
        ({"name": ".hidden"}, "is no model name"),
        ({"name": "m_topk"}, "ends in _topk"),
        ({"name": "m_query"}, "ends in _query"),
        ({"version": 0}, "version is 0"),
        ({"version": 10**19}, "version is 10000000000000000000"),
        ({"version": 1}, "has or had a version 1; the next free is 2"),
        ({"k": 0}, "k is 0"),
        ({"k": 7}, "export with the same k or under a new --name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    food_run: Run, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    export(food_run, tmp_path, "m")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError) as caught:
        export(food_run, tmp_path, **{"name": "m", **arguments})
    assert message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_large_scores_are_compared_in_proportion(food_run: Run, tmp_path: Path) -> None:
    model = copy.deepcopy(food_run.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10)
    assert export(replace(food_run, model=model), tmp_path, "m").version == 1


def test_a_module_that_differs_from_eager_is_not_written(
    food_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(TotalScorer):
        def forward(self, user_index: torch.Tensor, item_index: torch.Tensor) -> torch.Tensor:
            return torch.zeros(user_index.shape)

    monkeypatch.setattr(export_module, "TotalScorer", Wrong)
    with pytest.raises(RuntimeError, match="differ by"):
        export(food_run, tmp_path, "m")
    assert list(tmp_path.iterdir()) == []


def test_a_topk_model_that_differs_from_the_query_model_is_not_written(
    food_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(TopK):
        def forward(self, user_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            item_index, score = self.rank_users(user_index.reshape(-1))
            return item_index, score + 1e-3

    monkeypatch.setattr(export_module, "TopK", Wrong)
    with pytest.raises(RuntimeError, match="answers otherwise than the query model"):
        export(food_run, tmp_path, "m", with_topk=True)
    assert list(tmp_path.iterdir()) == []
