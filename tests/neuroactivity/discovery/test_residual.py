"""Streams of one width are told apart by their readers."""

import itertools

import pytest

from neuroactivity.discovery.residual import residual_streams


@pytest.mark.parametrize("order", list(itertools.permutations("abcd")))
def test_groups_that_a_chain_of_readers_connects_are_one_stream_in_any_order(order):
    readers = {"a": {"first"}, "b": {"first", "second"}, "c": {"second"}, "d": {"third"}}
    streams = residual_streams({name: readers[name] for name in order})
    assert len(streams) == 2
    assert ([name for name in order if name != "d"], {"first", "second"}) in streams
    assert (["d"], {"third"}) in streams


def test_streams_without_a_reader_in_common_are_apart():
    streams = residual_streams({"a": {"left"}, "b": {"right"}, "c": {"left"}, "d": {"right"}})
    assert streams == [(["a", "c"], {"left"}), (["b", "d"], {"right"})]


def test_a_group_that_nothing_reads_is_in_no_stream():
    assert residual_streams({"a": set(), "b": set()}) == []
