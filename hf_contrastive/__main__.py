"""`python -m hf_contrastive`: the command, where the shell does not find `hf-contrastive`."""

from hf_contrastive.command import main


if __name__ == "__main__":
    main()
