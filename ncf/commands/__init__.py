"""The commands `ncf …` and `train`; the only package that imports click."""
