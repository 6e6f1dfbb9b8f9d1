"""`python -m ncf` is the `ncf` command; so torchrun can start it: `torchrun -m ncf train …`."""

from ncf.commands.main import main

if __name__ == "__main__":
    main()
