"""What a request may ask, and how it is refused; apart from the rest, which loads libraries for seconds."""

KNOWN = ("max_tokens", "temperature", "top_p", "stop", "seed")


class Refused(ValueError):
    """The caller, or who made the folder, has to change something."""


def number(name, value, kind, least, most):
    if isinstance(value, bool) or not isinstance(value, kind) or value != value or not (
        least <= value and (most is None or value <= most)
    ):  # fmt: skip
        what = "a whole number" if kind is int else "a number"
        upper = "" if most is None else f" and at most {most}"
        raise Refused(f"{name} is {value!r}; it must be {what} of at least {least}{upper}")
    return value
