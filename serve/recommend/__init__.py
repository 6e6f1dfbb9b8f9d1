"""From a request in raw ids to rows for a recommender's models in Triton, and from their outputs to an answer."""
