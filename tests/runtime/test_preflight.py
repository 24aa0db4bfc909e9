from swiftpy.runtime.preflight import Found, complaints
from swiftpy.upf.preflight import look


def test_nothing_to_complain_about():
    assert complaints([Found("n1", rank, [], {"python": "3.11"}) for rank in range(4)]) == []


def test_problems_and_differences_by_node():
    good = {"python": "3.11", "tensorflow": "2.15.1"}
    bad = {"python": "3.11", "tensorflow": "2.14.0"}
    none = {"python": "3.11"}
    found = [
        *(Found("n1", rank, [], good) for rank in range(4)),
        *(Found("n2", rank, ["5 of 6 devices are there"], bad) for rank in (4, 5, 7)),
        Found("n3", 6, [], none),
    ]
    assert complaints(found) == [
        "n2 (rank 4-5, 7): 5 of 6 devices are there",
        "n2 (rank 4-5, 7): tensorflow is 2.14.0, but 2.15.1 on most ranks",
        "n3 (rank 6): tensorflow is nothing, but 2.15.1 on most ranks",
    ]


def test_a_rank_that_could_not_look_is_no_different_one():
    found = [*(Found("n1", rank, [], {"numpy": "2"}) for rank in range(2)), Found("n2", 2, ["it hangs"], {})]
    assert complaints(found) == ["n2 (rank 2): it hangs"]


def test_devices_are_counted(tmp_path):
    (tmp_path / "gpu0").touch()
    pattern = f"{tmp_path}/gpu*"
    assert look("json:dumps", [], (), (pattern, 1))[0] == []
    assert look("json:dumps", [], (), (pattern, 2))[0] == [f"1 of 2 devices are there ({pattern})"]


def test_models_are_looked_for(tmp_path, monkeypatch):
    (tmp_path / "runner_that_finds.py").write_text(
        "def run(params): ...\n"
        "def find(sets): return [(i, 'no b here') for i, params in enumerate(sets) if params['model_name'] == 'b']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sets = [{"model_name": "a"}, {"model_name": "b"}]
    assert look("runner_that_finds:run", sets, (), None)[0] == ["no b here"]
    assert look("runner_that_finds:walk", sets, (), None)[0][0].startswith("--task runner_that_finds:walk: ")
