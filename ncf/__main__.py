"""`python -m ncf` is the `ncf` command."""

from ncf.commands.main import main

if __name__ == "__main__":
    main()
