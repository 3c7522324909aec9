"""What is asked to stop stops when it is ready to."""

from __future__ import annotations

import signal

import pytest

from runplan.submit.signals import noted_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_stop_is_noted_and_its_handler_comes_back(number):
    before = signal.getsignal(number)
    with noted_signals() as noted:
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert noted == [number, number]
    assert signal.getsignal(number) is before


def test_a_second_one_may_be_obeyed():
    with noted_signals(obey_second=True) as noted:
        signal.raise_signal(signal.SIGTERM)
        assert noted == [signal.SIGTERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
