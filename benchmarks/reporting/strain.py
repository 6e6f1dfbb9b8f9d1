"""The report's sections on overload, minutes of load, many models, search, settings and cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.reporting.tables import (
    NONE,
    Spread,
    at_once,
    figure,
    good,
    kinds,
    more,
    number,
    ratio,
    share,
    spread,
    table,
    text,
    where,
)
from benchmarks.rig.points import Point


def saturation(points: Sequence[Point]) -> str:
    mine = good(points)
    limits, parts, sentences, rows = kinds(mine, "max_in_flight"), [], [], []
    for limit in limits:
        here = where(mine, max_in_flight=limit)
        shares = [point for point in here if not isinstance(point.key.get("share"), str)]
        shares.sort(key=lambda point: float(point.key.get("share", 0)))
        names = ("offered_per_s", "accepted_per_s")
        after = ("p50_ms", "p99_ms", "refused_p99_ms", "lag_ms")
        rows += [
            [
                f"{limit}", f"{point.key.get('share', 0):g}", *(text([point], name) for name in names),
                percent(figure(point, "shed_share")), *(text([point], name) for name in after), mistakes(point),
            ]
            for point in shares
        ]  # fmt: skip
        sentences.append(saturation_sentence(limit, shares, where(here, share="recovery")))
    head = [
        "at most in flight", "offered, × capacity", "offered requests/s", "accepted requests/s", "refused", "p50 ms",
        "p99 ms", "p99 ms of the refused", "generator late, ms", "other errors",
    ]  # fmt: skip
    parts = [" ".join(each for each in sentences if each), table(head, rows) if rows else ""]
    return "\n\n".join(part for part in parts if part)


def percent(value: float | None) -> str:
    return NONE if value is None else f"{number(100 * value)} %"


def mistakes(point: Point) -> str:
    """Errors by code, without 503, with which requests above the limit are refused."""
    errors = {code: count for code, count in (point.figures.get("errors") or {}).items() if count and code != "503"}
    return ", ".join(f"{code} × {number(count)}" for code, count in errors.items()) or NONE


def saturation_sentence(limit: Any, points: Sequence[Point], recovery: Sequence[Point]) -> str:
    """A sentence on the accepted rate at the highest offered rate, and on the time until recovery."""
    if not points:
        return ""
    most = points[-1]
    best = max(figure(point, "accepted_per_s") or 0 for point in points)
    words = [
        f"With at most {limit} in flight and {most.key.get('share', 0):g} × the capacity offered, serve accepts "
        f"{text([most], 'accepted_per_s')} requests/s (at best {number(best)}), p99 {text([most], 'p99_ms')} ms"
    ]
    if figure(most, "refused_p99_ms") is not None:
        words.append(f"refuses the others within {text([most], 'refused_p99_ms')} ms (p99)")
    if recovery and figure(recovery[0], "recovery_s") is not None:
        words.append(f"and recovers within {text(recovery, 'recovery_s')} s after the overload")
    elif recovery and "recovery_s" in recovery[0].figures:
        words.append("and did not recover while it was measured")
    return ", ".join(words) + "."


def last_take(points: Sequence[Point]) -> list[Point]:
    """The points of the last take that ran to its end; of the last take if none did."""
    whole = [point.key.get("take", 0) for point in points if "summary" in point.key and not point.error]
    takes = whole or [point.key.get("take", 0) for point in points]
    return [point for point in points if point.key.get("take", 0) == max(takes)] if takes else []


def soak(points: Sequence[Point]) -> str:
    seconds = sorted((p for p in good(points) if "second" in p.key), key=lambda point: float(point.key["second"]))
    slopes = [point for point in good(points) if "summary" in point.key]
    parts = [] if slopes else ["This take did not run to its end, so it has no slope."]
    for point in slopes:
        found = slopes_of(point)
        parts.append(
            "The slope of memory over the second half, by least squares, and its standard error; consecutive samples "
            "are correlated, so the true error is larger."
        )
        rows = []
        for role, (slope, error) in found.items():
            held = spread(seconds, "memory_mb" if role == "all" else f"memory_mb.{role}")
            ends = [number(held.values[0]), number(held.values[-1])] if held else [NONE, NONE]
            rows.append([role, *ends, f"{number(slope)} ± {number(error)}"])
        parts.append(table(["", "memory MB, first", "last", "MB an hour ± standard error"], rows))
    if seconds:
        longest = max(float(point.key["second"]) for point in seconds) / 60
        rate, slow = text(seconds, "accepted_per_s"), text(seconds, "p99_ms")
        wrong = sum(figure(point, "unexpected") or 0 for point in seconds)
        parts.append(
            f"{longest:.3g} minutes: {rate} requests/s accepted, p99 {slow} ms; {number(int(wrong))} requests had "
            "a wrong answer."
        )
    return "\n\n".join(parts)


def slopes_of(point: Point) -> dict[str, tuple[float, float]]:
    """MB an hour and its standard error, by role; roles without both are left out."""
    found = {}
    for role, slope in (point.figures.get("mb_per_hour") or {}).items():
        value, error = slope.get("slope"), slope.get("standard_error")
        if value is not None and error is not None:
            found[role] = (value, error)
    return found


def models(points: Sequence[Point]) -> str:
    mine = good(points)
    counts = [count for count in kinds(mine, "models") if count]
    rows = [[str(n), *(found.text() if found else NONE for found in of_models(mine, n).values())] for n in counts]
    if not rows:
        return ""
    few, many = of_models(mine, counts[0]), of_models(mine, counts[-1])
    sentences = [
        f"{number(few[name].median)} {name} with {counts[0]} models, {number(many[name].median)} with {counts[-1]}"
        for name in ("MB", "requests/s over all")
        if few[name] and many[name] and len(counts) > 1
    ]
    parts = ["; ".join(sentences) + "." if sentences else "", table(["models", *of_models(mine, counts[0])], rows)]
    return "\n\n".join(part for part in parts if part)


def of_models(points: Sequence[Point], count: Any) -> dict[str, Spread]:
    """The figures of a number of models by their names in the table; memory at rest, if it was measured at rest."""
    here = where(points, models=count)
    return {
        "loading one of two at once, s": every(here, "load_s"),
        "unloading one of two at once, s": every(here, "unload_s"),
        "MB": spread(where(here, what="memory") or here, "memory_mb"),
        "MB a model": spread(here, "mb_a_model"),
        "requests/s over all": spread(here, "requests_per_s"),
        "requests/s to one": spread(here, "one_model_requests_per_s"), "p99 ms": spread(here, "p99_ms"),
    }  # fmt: skip


def every(points: Sequence[Point], name: str) -> Spread:
    """The values of a figure that is a list, of all points."""
    found = [point.figures[name] for point in points if point.figures.get(name)]
    return Spread(tuple(value for values in found for value in (values if isinstance(values, list) else [values])))


def search(points: Sequence[Point]) -> str:
    mine = good(points)
    names = ("requests_per_s", "p50_ms", "p99_ms", "alone_p50_ms", "alone_p99_ms")
    kept = [name for name in names if spread(mine, name)]
    settings = ("max_batch_size", "max_queue_delay_microseconds", "instances")
    parts = []
    for model in kinds(mine, "model") or [None]:
        here = where(mine, model=model) if model is not None else mine
        here = sorted(here, key=lambda point: -(figure(point, "requests_per_s") or 0))
        if not here:
            continue
        best = here[0]
        chosen = ", ".join(f"`{name}` {best.key[name]}" for name in settings if name in best.key)
        parts.append(f"**{model or 'all'}**: most requests/s, {text([best], 'requests_per_s')}, with {chosen}.")
        rows = [[*(str(p.key.get(name, NONE)) for name in settings), *(text([p], name) for name in kept)] for p in here]
        parts.append(table([*settings, *(heading(name) for name in kept)], rows))
    return "\n\n".join(parts)


def heading(name: str) -> str:
    return name.replace("_per_s", "/s").replace("_ms", " ms").replace("_", " ")


def settings(points: Sequence[Point]) -> str:
    mine = good(points)
    concurrencies, parts = kinds(mine, "concurrency"), []
    for ask in kinds(mine, "ask"):
        here, rows = where(mine, ask=ask), []
        for name, value in dict.fromkeys((point.key.get("setting"), point.key.get("value")) for point in here):
            groups = [where(here, setting=name, value=value, concurrency=c) for c in concurrencies]
            rows.append([f"{name}={value}", *(text(group, "requests_per_s") for group in groups)])
        parts.append(f"**{ask}**\n\n{table(['', *(f'requests/s, {at_once(c)}' for c in concurrencies)], rows)}")
    return "\n\n".join([*parts, more(mine, "ask", "setting", "value", "concurrency")] if parts else [])


def cores(points: Sequence[Point]) -> str:
    mine, rows = good(points), []
    for ask in kinds(mine, "ask"):
        here = where(mine, ask=ask)
        steps = kinds(here, "cores")
        for step in steps:
            group = where(here, cores=step)
            gain = share(ratio(group, where(here, cores=steps[0])))
            shared = "shares them" if group[0].figures.get("wrk_shares_cores") else "has others"
            rows.append([str(ask), str(step), text(group, "requests_per_s"), text(group, "p99_ms"), gain, shared])
    if not rows:
        return ""
    return table(["", "cores", "requests/s", "p99 ms", "of the fewest cores", "wrk"], rows)
