"""Work done ahead by threads: in order, not too much of it, and none left over."""

import pytest

from lorakit.ahead import ahead


def test_ten_thousand_items_are_loaded_in_order_with_few_ahead():
    started = []
    loaded = ahead(lambda i: started.append(i) or i, range(10_000))
    assert next(loaded) == 0 and len(started) < 50
    assert list(loaded) == list(range(1, 10_000))


def test_as_many_wait_as_asked_for():
    started = []
    loaded = ahead(lambda i: started.append(i) or i, range(10), workers=1, waiting=2)
    assert next(loaded) == 0
    assert list(loaded) == list(range(1, 10)) and started == list(range(10))


def test_what_goes_wrong_in_a_thread_is_raised_where_its_result_is_asked_for():
    def load(i):
        if i == 2:
            raise ValueError("two")
        return i

    loaded = ahead(load, range(5), workers=1, waiting=1)
    assert [next(loaded), next(loaded)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(loaded)
