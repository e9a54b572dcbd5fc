"""The only place that knows array libraries.

The rest of the core asks here for the namespace of an array (the `Python array API standard`_) and for the few things
that the standard lacks: sums of magnitudes, static shapes, sparse gradients, and the way from an array to Python
numbers. No array library is imported here: an array that reaches this package comes from a library that is loaded
already.

.. _Python array API standard: https://data-apis.org/array-api/latest/
"""

from neuroactivity.arrays.libraries import (
    Array,
    Arrays,
    accumulation_dtype,
    asarray_like,
    cache_outside_compile,
    check_array,
    check_like,
    dtype_name,
    is_finite,
    lowest_entries,
    map_batched,
    namespace,
    no_autograph,
    private_copy,
    shape_of,
    to_dense,
    to_list,
    writable,
)
from neuroactivity.arrays.magnitudes import magnitude_sum
from neuroactivity.arrays.shards import is_sharded, part_of, put_together, sum_shards

__all__ = [
    "Array",
    "Arrays",
    "accumulation_dtype",
    "asarray_like",
    "cache_outside_compile",
    "check_array",
    "check_like",
    "dtype_name",
    "is_finite",
    "is_sharded",
    "lowest_entries",
    "magnitude_sum",
    "map_batched",
    "namespace",
    "no_autograph",
    "part_of",
    "private_copy",
    "put_together",
    "shape_of",
    "sum_shards",
    "to_dense",
    "to_list",
    "writable",
]
