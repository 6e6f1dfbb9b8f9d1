"""`python -m ncf` is the `ncf` command."""

from ncf.cli import main

if __name__ == "__main__":
    main()
