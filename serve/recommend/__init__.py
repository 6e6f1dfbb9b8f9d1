"""From a recommender's request in raw ids to rows for Triton, and back to an answer."""
