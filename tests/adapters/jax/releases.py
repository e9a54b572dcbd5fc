"""What has another name, or is missing, in older releases of JAX."""

from typing import Any

import jax
import jax.experimental
import jax.sharding

enable_x64: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
AxisType: Any = getattr(jax.sharding, "AxisType", None)
