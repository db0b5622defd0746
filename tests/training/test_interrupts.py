"""Ctrl-C while a run goes on."""

import os
import signal
import threading

import pytest

from lorakit.training.interrupts import Interrupts


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_waits_for_the_check() -> None:
    with Interrupts() as interrupts:
        interrupt()
        finished = True  # the step it fell into
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()  # told once
    assert finished


def test_a_second_interrupt_does_not_wait() -> None:
    with Interrupts():
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_a_patient_one_hears_what_a_launcher_sends_twice_as_one() -> None:
    with Interrupts(patient=True) as interrupts:
        interrupt()
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        interrupts.check()


def test_afterwards_interrupts_are_what_they_were() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_it_does_no_harm() -> None:
    done = []

    def work() -> None:
        with Interrupts() as interrupts:
            interrupts.check()
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
