"""`ncf-deploy …` on the command line; the only room with click."""
