"""The house rules hold: class names that mean one thing, sizes, and measures that see what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import house

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def sources() -> list[house.SourceModule]:
    return house.modules(ROOT, "service", "model")


def test_a_class_name_belongs_to_one_module(sources: list[house.SourceModule]) -> None:
    assert house.shared_classes(sources) == {}


def test_variables_are_named_after_what_they_hold(sources: list[house.SourceModule]) -> None:
    names, participles = house.local_names(sources)
    assert len(participles) / names < 0.01, participles


def test_docstrings_open_with_a_verb(sources: list[house.SourceModule]) -> None:
    count, verbs, riddles = house.docstrings(sources)
    assert verbs / count >= 0.9
    assert riddles == []


def test_every_function_fits_a_screen(sources: list[house.SourceModule]) -> None:
    assert house.longer(house.function_lines(sources), house.FUNCTION_LINES) == {}


def test_every_file_is_one_idea(sources: list[house.SourceModule]) -> None:
    assert house.longer(house.file_lines(sources), house.FILE_LINES) == {}


def test_a_request_is_handed_on_by_few_files() -> None:
    calls = house.files_of_a_prediction()
    assert len(house.handing_on(calls)) <= house.HANDING_ON, house.handing_on(calls)
    assert len(calls) <= house.FILES_RUN, sorted(calls)


def test_a_request_passes_the_event_loop_in_few_calls() -> None:
    # Now and then is enough: a few coroutines are resumed once more where a thread is done only after it was asked.
    assert any(house.calls_of_a_prediction() <= house.LOOP_CALLS for _ in range(40))


def test_the_measures_see_what_they_are_for(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "one.py").write_text("class Same:\n    pass\n\n\ndef f(given):\n    '''What it is.'''\n")
    (tmp_path / "room" / "two.py").write_text("class Same:\n    pass\n\n\ndef g(frame):\n    '''Reads it.'''\n")
    parsed = house.modules(tmp_path, "room")
    assert house.shared_classes(parsed) == {"Same": ["room.one", "room.two"]}
    assert house.local_names(parsed)[1] == ["room/one.py:5 given"]
    assert house.docstrings(parsed)[:2] == (2, 1)
    assert house.function_lines(parsed) == {"room/one.py:5 f": 2, "room/two.py:5 g": 2}
    assert house.file_lines(parsed) == {"room/one.py": 6, "room/two.py": 6}
    way = {"edge.py": {"engine.py", "service/core/types.py"}, "engine.py": {"service/core/types.py"}}
    assert house.handing_on(way | {"service/core/types.py": {"service/core/bucket.py"}}) == ["edge.py"]
    assert house.longer({"a": 2, "b": 3, "c": 5}, 2) == {"c": 5, "b": 3}
