"""What has another name, or is missing, in older releases of JAX."""

from typing import Any

import jax
import jax.experimental
import jax.sharding
from jax import lax

enable_x64: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
AxisType: Any = getattr(jax.sharding, "AxisType", None)


def varying(array: Any, axis: str) -> Any:
    """Mark an array as one that may differ between the devices of a mesh axis."""
    return lax.pcast(array, axis, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, axis)
