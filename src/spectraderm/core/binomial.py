"""What may be said of a share of exactly all or none: there all resamples are alike, and bound nothing."""


def least_share(count: int) -> float:
    """The low end of the 95 % interval of a share that was 1 among `count` (Clopper & Pearson 1934).

    One minus it is the high end of a share that was 0.
    """
    least: float = 0.025 ** (1 / max(count, 1))
    return least
