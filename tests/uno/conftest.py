import pytest
from made_up_tables import tables, write_input


@pytest.fixture
def input_dir(tmp_path):
    write_input(tmp_path / "input", *tables())
    return tmp_path / "input"
