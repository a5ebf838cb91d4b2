"""`python -m rheobase.training RECIPE.toml [FOLDER]`: train, or go on after a stop."""

from __future__ import annotations

import sys

from rheobase.training.config import read_config
from rheobase.training.run import train

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    result = train(read_config(sys.argv[1]), *sys.argv[2:])
    if result.first:
        sys.stdout.write(f"{result.config.name}: accuracy {result.accuracy:.4f} after {result.seconds:.0f} s\n")
