"""Throughput and latency of `spectraderm serve` against a plain FastAPI handler that predicts one by one.

    python benchmarks/serving.py [--rounds 5] [--seconds 10]

Same model, same painted photos (640x480 JPEG, seeds 0 to 15), same clients; the two sides take turns, one server
running at a time. Prints the median of the rounds with its range, and the ratio of the sides round by round.
"""

import argparse
import asyncio
import statistics

from clients import OURS, PLAIN, Told, crowd, photos, running

SIDES = {"plain": (PLAIN, ()), "ours": (OURS, ("--no-page",))}


def main() -> None:
    """Take turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    given, bodies = parser.parse_args(), photos(16)
    told: dict[tuple[str, int], list[Told]] = {}
    for turn in range(given.rounds):
        for side, (program, options) in SIDES.items():
            with running(program, 8200 + turn, *options):
                url = f"http://127.0.0.1:{8200 + turn}"
                asyncio.run(crowd(url, bodies, 2, 1))  # warm
                for clients in given.clients:
                    told.setdefault((side, clients), []).append(asyncio.run(crowd(url, bodies, clients, given.seconds)))
    for clients in given.clients:
        show(clients, told["plain", clients], told["ours", clients])


def show(clients: int, plain: list[Told], ours: list[Told]) -> None:
    """One number of clients: both sides, and their ratio."""
    print(f"{clients} clients")
    for name, side in (("plain", plain), ("ours", ours)):
        print(
            f"  {name:6} {spread([one.rate for one in side])} photos/s, "
            f"p50 {spread([one.quantile(0.5) for one in side])} s, "
            f"p99 {spread([one.quantile(0.99) for one in side])} s, {sum(map(refused, side))} not answered"
        )
    ratios = [b.rate / a.rate for a, b in zip(plain, ours, strict=True)]
    faster = [a.quantile(0.99) / b.quantile(0.99) for a, b in zip(plain, ours, strict=True)]
    print(f"  ours / plain: throughput {spread(ratios)}, p99 better by {spread(faster)}")


def refused(told: Told) -> int:
    """Requests without a prediction."""
    return sum(count for status, count in told.counts.items() if status != 200)


def spread(values: list[float]) -> str:
    """Median, lowest and highest."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main()
