from threading import Event, Thread

import pytest

from bb_plans.flip import Flip


def test_a_reader_keeps_what_it_took_and_the_last_one_frees_it():
    freed = []
    flip = Flip("old", free=freed.append)

    with flip.reading() as one:
        with flip.reading() as other:
            flip.flip("new")
            assert (one, other, flip.value) == ("old", "old", "new")
            assert flip.in_use() == ("old", "new")
        assert freed == []
        with flip.reading() as fresh:
            assert fresh == "new"
    assert freed == ["old"]
    assert flip.in_use() == ("new",)


def test_what_nobody_reads_is_freed_at_once():
    freed = []
    flip = Flip(free=freed.append)
    for value in ("a", "b", "c"):
        flip.flip(value)

    assert freed == ["a", "b"]


def test_a_reader_that_fails_lets_go():
    freed = []
    flip = Flip(1, free=freed.append)

    def read():
        with flip.reading():
            flip.flip(2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert freed == [1]


def test_there_is_nothing_to_read_at_first():
    flip = Flip()
    assert flip.value is None
    assert flip.in_use() == ()
    with pytest.raises(LookupError, match="nothing is current"), flip.reading():
        pass


def test_threads_see_whole_values_and_all_of_them_are_freed_but_the_last():
    freed, mixed, stop = [], [], Event()
    flip = Flip((0, 0), free=freed.append)

    def read():
        while not stop.is_set():
            with flip.reading() as (one, other):
                if one != other or (one, other) in freed:
                    mixed.append((one, other))

    readers = [Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1, 300):
        flip.flip((number, number))
    stop.set()
    for reader in readers:
        reader.join()

    assert mixed == []
    assert sorted(freed) == [(number, number) for number in range(299)]
