"""Where ranks' output goes."""

from swiftpy.runtime.output import redirect


def test_a_rank_whose_file_cannot_be_made_prints_where_the_launcher_takes_it(tmp_path, capsys):
    """One rank's traceback ended the job, after its EXP had been made."""
    path = tmp_path / "quota" / "out-001.txt"
    assert redirect(path) == 1
    text = f"{path}: No such file or directory: what this rank prints comes here instead\n"
    assert capsys.readouterr().err == text
