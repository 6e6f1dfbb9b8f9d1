"""How files of interactions are to be read: what the user said about columns, form and rows."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from ncf.errors import InputError

DAYS = {"h": 1 / 24, "d": 1, "w": 7, "y": 365.25}
SEPARATOR_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}


@dataclass(frozen=True)
class Columns:
    """The names of columns that the user gave; None: the usual names are looked for (ncf/files/columns.py)."""

    user_id: str | None = None
    item_id: str | None = None
    weight: str | None = None
    timestamp: str | None = None
    event: str | None = None

    @property
    def item_name(self) -> str:
        """The column of ids in a file of items."""
        return self.item_id or "item_id"


@dataclass(frozen=True)
class Reading:
    """What is known of the files beside the names of columns. Raises InputError for an invalid value.

    `names` are the columns of files without a header, comma-separated. `separator`, `encoding`: empty for the one that
    the file seems to have. `min_weight`: rows below it are left out. `event_weights`: the weight of each event, such as
    `view=1,cart=3`; rows of other events are left out. `half_life`: the age, such as 90d, that halves a weight.
    """

    no_header: bool = False
    names: str = ""
    separator: str = ""
    encoding: str = ""
    skip_bad_rows: bool = False
    min_weight: float = 0.0
    event_weights: str = ""
    sum_repeats: bool = False
    half_life: str = ""

    def __post_init__(self) -> None:
        if self.encoding:
            try:
                b"ab".decode(self.encoding)  # codecs.lookup finds codecs that are none of text as well
            except UnicodeError:
                pass
            except (LookupError, ValueError):
                raise InputError(
                    f"encoding is '{self.encoding}', which is unknown; give one such as latin-1, cp1252 or utf-16"
                ) from None
        if not 0 <= self.min_weight < math.inf:
            raise InputError(f"min_weight is {self.min_weight}; it must be at least 0 and finite")
        if self.no_header != bool(self.names):
            raise InputError(
                "a file without a header needs both --no-header and --columns with the names of its columns in their "
                "order, such as --no-header --columns user_id,item_id,weight,timestamp"
            )
        self.events  # noqa: B018 (raises)
        self.half_life_days  # noqa: B018 (raises)

    @property
    def sign(self) -> str:
        """The separator; empty if it is not given."""
        return SEPARATOR_NAMES.get(self.separator, self.separator)

    @property
    def events(self) -> dict[str, float]:
        """The weight of each event. Raises InputError."""
        found = {}
        for part in filter(None, self.event_weights.split(",")):
            name, _, weight = part.rpartition("=")
            try:
                found[name.strip()] = float(weight)
            except ValueError:
                found[name.strip()] = 0
            if not name.strip() or not 0 < found[name.strip()] < math.inf:
                raise InputError(
                    f"event_weights has '{part}'; give each event a weight above 0, such as view=1,cart=3,buy=10"
                )
        return found

    @property
    def half_life_days(self) -> float:
        """The half-life in days; 0 if weights do not age. Raises InputError."""
        if not self.half_life:
            return 0
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([hdwy])", self.half_life.strip())
        if not match or float(match[1]) == 0:
            raise InputError(f"half_life is '{self.half_life}'; give a number with h, d, w or y, such as 90d")
        return float(match[1]) * DAYS[match[2]]

    @property
    def wants_weights(self) -> bool:
        """Whether a column of ratings is to be used as weights without being named."""
        return self.min_weight > 0 or (self.sum_repeats and not self.event_weights)

    def to_dict(self) -> dict[str, Any]:
        """The values that differ from the defaults."""
        usual = asdict(Reading())
        return {name: value for name, value in asdict(self).items() if value != usual[name]}
