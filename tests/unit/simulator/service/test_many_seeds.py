"""Many seeds: a run that broke off goes on from its file, with what this code and no other has shown."""

from __future__ import annotations

from pathlib import Path

from simulator.history import Guarantee, Verdict
from simulator.service.many_seeds import SeedResult, fingerprint, play_all, sums
from simulator.service.run import Outcome, Plan


class Player:
    """Ends each seed at once, the odd ones with a broken promise, and remembers which it was asked for."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, seed: int) -> Outcome:
        self.seeds.append(seed)
        verdict = Verdict()
        if seed % 2:
            verdict.broke(Guarantee.LOST, f"job {seed} is missing")
        return Outcome(Plan.draw(seed), verdict, virtual_s=30.0, commands=600)


def test_a_run_that_broke_off_plays_only_what_its_file_lacks(tmp_path: Path) -> None:
    path, first, again = tmp_path / "seeds", Player(), Player()
    play_all(range(4), first, path, "this code")
    path.write_text(path.read_text()[:-10])  # it broke off in the middle of seed 3's line
    results = play_all(range(6), again, path, "this code")
    assert (first.seeds, again.seeds) == ([0, 1, 2, 3], [3, 4, 5])
    assert [result.seed for result in results] == [0, 1, 2, 3, 4, 5]
    assert results[1].breaches == ("lost: job 1 is missing",)
    assert play_all(range(6), again, path, "this code") == results


def test_what_other_code_has_shown_is_played_again(tmp_path: Path) -> None:
    path, player = tmp_path / "seeds", Player()
    play_all(range(2), player, path, "that code")
    play_all(range(2), player, path, "this code")
    assert player.seeds == [0, 1, 0, 1]
    assert fingerprint() == fingerprint() != ""


def test_the_sum_names_the_broken_seeds_the_speed_and_the_density() -> None:
    results = [SeedResult(7, "", 20.0, 0.5, 400, ("lost: job 1 is missing",)), SeedResult(8, "", 40.0, 0.5, 800, ())]
    assert sums(results) == (
        "2 seeds, 1 broke a promise: 7; 60 simulated seconds in 1 s of one core: 60 a second, with 20 commands in each"
    )
