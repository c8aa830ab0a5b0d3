"""Made-up scored photos for the tests of evaluation."""

import numpy as np

from spectraderm.evaluation.bootstrap import Scored


def some(seed: int, classes: int = 0, photos: int = 0) -> Scored:
    """Random photos of 2 to 6 classes, some never true; with an odd seed probabilities are eighths, and tie."""
    draw = np.random.default_rng(seed)
    classes, photos = classes or int(draw.integers(2, 7)), photos or int(draw.integers(1, 60))
    true = draw.choice(classes, int(draw.integers(1, classes + 1)), replace=False)
    labels = draw.choice(true, photos)
    likely = draw.dirichlet(np.ones(classes), photos) + np.eye(classes)[labels] * draw.random()
    probabilities = likely / likely.sum(1, keepdims=True)
    if seed % 2:
        probabilities = draw.multinomial(8, probabilities) / 8
    return Scored(labels, draw.integers(5, 5 + photos, photos), probabilities)


def in_groups(seed: int, groups: int, sizes: tuple[int, ...], right: float) -> Scored:
    """Photos of two classes in groups of random sizes, which are guessed alike: right or wrong."""
    draw = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), draw.choice(sizes, groups))
    labels, good = draw.integers(0, 2, groups), draw.random(groups) < right
    sure = draw.uniform(0.5, 1, groups)
    likely = np.where(good, sure, 1 - sure)
    probabilities = np.where(np.arange(2) == labels[:, None], likely[:, None], 1 - likely[:, None])
    return Scored(labels[group], group, probabilities[group])


def calibrated(seed: int, photos: int, classes: int = 4, tempered: float = 1) -> Scored:
    """Photos, each its own group, whose probabilities come true exactly as they say, then tempered."""
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(photos, classes))
    claims = [np.exp(scale * logits) for scale in (1, tempered)]
    truth, probabilities = (claim / claim.sum(1, keepdims=True) for claim in claims)
    labels = np.minimum((truth.cumsum(1) < draw.random((photos, 1))).sum(1), classes - 1)
    return Scored(labels, np.arange(photos), probabilities)
