"""``python -m rheobase`` is the command ``rheobase``, also for `torchrun`."""

from rheobase.cli import main

if __name__ == "__main__":
    main()
