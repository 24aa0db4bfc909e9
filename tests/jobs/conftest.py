import pytest

from job import Workplace


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path)
