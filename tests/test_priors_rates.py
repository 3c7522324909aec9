"""Tokens a second as torchtune's logger says them, by what its numbers are."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.rates import token_fields


def lines(rates):
    return "".join(f"Step {n} | loss:1.0 tokens_per_second_per_gpu:{rate}\n" for n, rate in enumerate(rates)).encode()


def single(number):
    return struct.unpack("f", struct.pack("f", number))[0]


@given(rates=st.lists(st.floats(1.0, 1e6), min_size=11, max_size=30))
def test_numbers_of_a_tensor_count_no_padding(rates):
    tensors = [single(rate) for rate in rates]
    fields = token_fields(b"", lines(tensors), 4)
    assert fields == {"trained_tokens_per_s": pytest.approx(sum(tensors[5:]) / len(tensors[5:]))}


@given(rates=st.lists(st.floats(1.0, 1e6).filter(lambda x: single(x) != x), min_size=11, max_size=30))
def test_numbers_of_python_count_padding(rates):
    mean = pytest.approx(sum(rates[5:]) / len(rates[5:]))
    assert token_fields(b"", lines(rates), 1) == {"tokens_per_s": mean}
    assert token_fields(b"INFO:torchtune.utils._logging:x", lines(rates), None) == {"tokens_per_s": None}


def test_few_steps_or_none_tell_nothing():
    assert token_fields(b"", lines([900.5] * 10), 1) == {}
    assert token_fields(b"", b"loss: 1.0", 1) == {}


@pytest.mark.parametrize("strange", ["9" * 60, "1e300", "9" * 400])
def test_numbers_beyond_single_precision_raise_nothing(strange):
    assert set(token_fields(b"", lines([strange] * 12), 1)) == {"tokens_per_s"}
