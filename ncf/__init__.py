"""Neural Collaborative Filtering: from a file of interactions to a Triton model repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncf.recommender import Recommender

__all__ = ["Recommender"]


def __getattr__(name: str) -> Any:
    """`Recommender` is imported when it is asked for, so that `ncf --help` loads no data frames."""
    if name == "Recommender":
        from ncf.recommender import Recommender

        return Recommender
    raise AttributeError(f"module 'ncf' has no attribute '{name}'")
