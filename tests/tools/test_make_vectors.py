from pathlib import Path

import pytest

from petiole_tools import make_vectors

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


@pytest.mark.parametrize("name", sorted(make_vectors.FILES))
def test_generating_again_gives_the_same_file(name: str) -> None:
    expected = (VECTORS / name).read_text(encoding="utf-8")
    assert make_vectors.render(make_vectors.FILES[name]()) == expected, "run `make vectors`"


def test_the_command_writes_every_file(tmp_path: Path) -> None:
    assert make_vectors.main([str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(make_vectors.FILES)
    assert make_vectors.main([]) == 2
