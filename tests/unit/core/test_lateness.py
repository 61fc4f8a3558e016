"""How late things are, and what is allowed for: one in a thousand may be later, and old days are forgotten."""

from __future__ import annotations

import numpy as np

from service.core.lateness import KEPT_S, LEAST_REMEMBERED, MOST_REMEMBERED, RARE, Lateness


def test_the_latest_counts_until_one_of_many_may_be_later() -> None:
    late = Lateness(1.0)
    assert late.allowance() == 0.0
    for number in range(RARE - 1):
        late.learn(0.5 if number == 100 else 0.001, now=0.0)
    assert late.allowance() == 0.5
    late.learn(0.002, now=0.0)
    assert late.allowance() == 0.002, "one in a thousand"
    late.learn(-3.0, now=0.0)
    late.learn(60.0, now=0.0)
    assert late.allowance() == 0.5, "no more than the bound, and nothing below 0"


def test_so_many_are_remembered_and_old_ones_forgotten_but_a_few() -> None:
    late = Lateness(1.0)
    for number in range(2 * MOST_REMEMBERED):
        late.learn(0.9 if number < MOST_REMEMBERED else 0.1, now=0.0)
    assert late.allowance() == 0.1
    late.learn(0.2, now=KEPT_S)
    late.learn(0.3, now=KEPT_S + 1)
    assert late.allowance() == 0.3
    for number in range(LEAST_REMEMBERED):
        late.learn(0.05, now=10 * KEPT_S + number * KEPT_S)
    assert late.allowance() == 0.05


def test_of_random_lateness_hardly_one_in_a_thousand_is_later_than_allowed_for() -> None:
    chance = np.random.default_rng(5)
    late, later = Lateness(1.0), 0
    for number, seconds in enumerate(chance.exponential(0.002, 21_000)):
        if number >= 1000:
            later += seconds > late.allowance()
        late.learn(float(seconds), now=number / 50)
    assert later <= 20 * 3, "with the maximum of sixteen it was one in seventeen: 1,170"
