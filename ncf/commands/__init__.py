"""The commands `ncf …` and `train`; the only room that imports click."""
