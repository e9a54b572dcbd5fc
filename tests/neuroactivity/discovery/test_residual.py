"""Streams of one width are told apart by their readers."""

import itertools

import pytest

from neuroactivity.discovery.residual import residual_streams

FIRST, SECOND, THIRD = ("w", 0), ("v", 0), ("u", 0)
LEFT, RIGHT = ("w", 0), ("w", 8)  # of a concatenation


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")))
def test_groups_that_a_chain_of_readers_connects_are_one_stream_in_any_order(order):
    readers = {"a": {FIRST}, "b": {FIRST, SECOND}, "c": {SECOND}, "d": {THIRD}}
    streams = residual_streams({name: readers[name] for name in order})
    assert len(streams) == 2
    assert ([name for name in order if name != "d"], {FIRST, SECOND}) in streams
    assert (["d"], {THIRD}) in streams


def test_what_a_parameter_reads_side_by_side_is_apart():
    streams = residual_streams({"a": {LEFT}, "b": {RIGHT}, "c": {LEFT}, "d": {RIGHT}})
    assert streams == [(["a", "c"], {LEFT}), (["b", "d"], {RIGHT})]


def test_a_group_that_nothing_reads_is_in_no_stream():
    assert residual_streams({"a": set(), "b": set()}) == []
