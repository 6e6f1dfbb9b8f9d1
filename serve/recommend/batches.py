"""Joins the rows of many requests into as few calls to Triton as the models' batch sizes allow; no I/O of its own."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from serve.recommend.asks import Answer
from serve.recommend.plan import Plan
from serve.recommend.recommender import Part
from serve.triton.tensors import join_rows, split_rows

# Asks a part for some rows of a shape; the columns are its inputs by name, flat.
Infer = Callable[[Part, tuple[int, ...], int, Mapping[str, "array[int]"]], Awaitable[Mapping[str, "array[Any]"]]]


async def answer_plans(plans: Sequence[Plan], infer: Infer) -> list[Answer]:
    """The answers to plans for one recommender, in order. Raises what `infer` raises."""
    if len(plans) == 1 and 0 < plans[0].rows <= plans[0].part.max_batch_size:  # most requests
        only = plans[0]
        return [only.finish(await infer(only.part, only.shape, only.rows, only.columns))]
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for place, each in enumerate(plans):
        groups.setdefault((each.part.model_name, each.shape), []).append(place)
    answers: list[Answer] = [{} for _ in plans]
    await asyncio.gather(
        *(_answer_group([(place, plans[place]) for place in places], infer, answers) for places in groups.values())
    )
    return answers


async def _answer_group(group: Sequence[tuple[int, Plan]], infer: Infer, answers: list[Answer]) -> None:
    """Answer plans for one part whose rows have one shape: join the rows, cut them into calls of the part's batch size,
    and give each plan the outputs of its own rows."""
    part, shape = group[0][1].part, group[0][1].shape
    rows, columns = join_rows([(each.rows, each.columns) for _, each in group])
    outputs: dict[str, array[Any]] = {}
    if rows:
        calls = []
        for start in range(0, rows, part.max_batch_size):
            size = min(part.max_batch_size, rows - start)
            width = {name: len(values) // rows for name, values in columns.items()}
            cut = {name: values[start * width[name] : (start + size) * width[name]] for name, values in columns.items()}
            calls.append(infer(part, shape, size, cut))
        for answered in await asyncio.gather(*calls):
            for name, values in answered.items():
                outputs.setdefault(name, array(values.typecode)).extend(values)
    for (place, each), its in zip(group, split_rows(outputs, [each.rows for _, each in group]), strict=True):
        answers[place] = each.finish(its if each.rows else {"score": array("f")})
