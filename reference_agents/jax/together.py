"""Former name of ``reference_agents.jax.vmap_seeds``, kept for existing commands."""

import sys

from reference_agents.jax.vmap_seeds import main

if __name__ == "__main__":
    sys.exit(main())
