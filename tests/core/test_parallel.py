import os
import threading
from pathlib import Path

import pytest

from spectraderm.core.parallel import chunks, cores, in_chunks, in_order


@pytest.mark.parametrize(
    ("said", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 6), ("9999999 100000", 6), ("", 6)]
)
def test_no_more_cores_than_the_container_s_share(said: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(Path, "read_text", lambda _: said)
    assert cores() == expected


def test_results_come_in_order_and_few_are_begun_ahead() -> None:
    begun: list[int] = []
    first = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            first.wait()
        return number * number

    results = in_order(work, range(100), threads=2, ahead=3)
    threading.Timer(0.05, first.set).start()
    assert next(results) == (0, 0)
    assert len(begun) <= 7
    assert list(results) == [(number, number * number) for number in range(1, 100)]


def test_an_error_comes_in_its_place() -> None:
    results = in_order(lambda number: 1 // number, [2, 0, 1], threads=2)
    assert next(results) == (2, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_chunks_hold_all_and_their_results_come_one_by_one() -> None:
    sizes: list[int] = []

    def work(few: list[int]) -> list[int]:
        sizes.append(len(few))
        return [number * number for number in few]

    results = in_chunks(work, range(10), threads=2)
    assert list(results) == [(number, number * number) for number in range(10)]
    assert sorted(sizes) == [2, 4, 4]
    assert list(chunks([], 3)) == []
    assert list(chunks("abcd", 3)) == [["a", "b", "c"], ["d"]]
