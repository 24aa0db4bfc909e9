import os
import random
import resource

import pytest

from swiftpy.flow.memo import Memo
from swiftpy.flow.records import Records

KEYS = [bytes([n]) * 16 for n in range(50)]


def data_of(key):
    return key * (key[0] % 7)


def fill(directory, keys):
    records = Records(directory)
    for key in keys:
        records.add(key, data_of(key))
    records.save()
    return records


def test_saved_records_are_there_also_for_the_next_process(tmp_path):
    records = fill(tmp_path, KEYS)
    assert [records.get(key) for key in KEYS] == [data_of(key) for key in KEYS]
    assert [Records(tmp_path).get(key) for key in KEYS] == [data_of(key) for key in KEYS]
    assert records.get(b"?" * 16) is None


def test_a_record_that_was_added_is_in_before_and_after_it_is_saved(tmp_path):
    """Or a result that several calls of one moment have is on disk for each of them."""
    records = Records(tmp_path)
    records.add(KEYS[1], b"1")
    assert KEYS[1] in records and KEYS[2] not in records and len(records) == 0
    records.save()
    assert KEYS[1] in records and KEYS[2] not in records and len(records) == 1


def test_what_is_saved_is_on_disk_and_so_is_the_name_of_its_file(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        found = os.fstat(descriptor)
        synced.append("names" if os.path.samestat(found, tmp_path.stat()) else found.st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    records = fill(tmp_path, KEYS[:1])
    records.add(KEYS[1], b"12345")
    records.save()
    assert synced == ["names", 36, 36 + 36 + 5]


def test_a_torn_end_costs_what_is_torn_and_nothing_that_comes_later(tmp_path):
    fill(tmp_path, KEYS[:30])
    (file,) = tmp_path.glob("*.records")
    whole = file.read_bytes()
    for size in (0, *random.Random(1).sample(range(len(whole)), 40)):
        file.write_bytes(whole[:size])
        records = Records(tmp_path)
        found = [key for key in KEYS[:30] if records.get(key) == data_of(key)]
        assert found == KEYS[: len(found)] and len(found) == len(records)
        assert sum(36 + len(data_of(key)) for key in found) <= size
    file.write_bytes(whole[:-1])
    fill(tmp_path, KEYS[30:])
    assert len(Records(tmp_path)) == 49


def test_a_record_that_the_disk_has_changed_is_not_there(tmp_path):
    fill(tmp_path, [KEYS[5], KEYS[6]])
    (file,) = tmp_path.glob("*.records")
    content = bytearray(file.read_bytes())
    content[36 + 2] ^= 1  # in the data of the first
    file.write_bytes(content)
    records = Records(tmp_path)
    assert records.get(KEYS[5]) is None
    assert records.get(KEYS[6]) == data_of(KEYS[6])


def test_a_record_whose_key_the_disk_has_changed_is_no_result_of_another_call(tmp_path):
    fill(tmp_path, [KEYS[4]])
    (file,) = tmp_path.glob("*.records")
    content = file.read_bytes()
    file.write_bytes(content.replace(KEYS[4], KEYS[5]))
    assert len(Records(tmp_path)) == 0


def test_a_record_that_was_replaced_by_another_is_no_result_of_that_one(tmp_path):
    """So a job may see it that looked while another's disk was full: what that takes back makes room for the next."""
    records = fill(tmp_path, [KEYS[4]])
    (file,) = tmp_path.glob("*.records")
    fill(tmp_path / "other", [KEYS[11]])
    next(tmp_path.glob("other/*.records")).replace(file)
    assert records.get(KEYS[4]) is None


class Gone:
    def __reduce__(self):
        return Gone.make, ()

    def make():
        raise AttributeError("it is gone")


@pytest.mark.parametrize("damaged", [True, False], ids=["changed on disk", "of a class that is gone"])
def test_what_cannot_be_read_is_made_again_and_kept(tmp_path, damaged):
    memo = Memo(tmp_path)
    memo.keep(KEYS[1], "old" if damaged else Gone())
    memo.save()
    (file,) = tmp_path.glob("*.records")
    if damaged:
        file.write_bytes(file.read_bytes().replace(b"old", b"odd"))
    file.rename(tmp_path / "0.records")  # of a job before
    memo = Memo(tmp_path)
    assert memo.find(KEYS[1]) == (None, False) and len(memo) == 0
    for value in ("new", "newer"):
        memo.keep(KEYS[1], value)
    memo.save()
    assert memo.find(KEYS[1]) == Memo(tmp_path).find(KEYS[1]) == ("new", True)


def test_any_result_is_kept_that_can_be_pickled_and_others_cost_themselves(tmp_path, capfd):
    memo, number = Memo(tmp_path), 5
    deep = []
    for _ in range(100_000):  # it came as a pickle, for which its task had raised the recursion limit
        deep = [deep]
    for key, value in zip(KEYS[1:], (deep, lambda: number, deep), strict=False):
        memo.keep(key, value)
    memo.save()
    assert len(memo) == 1 and Memo(tmp_path).find(KEYS[2])[0]() == 5
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"swiftpy: some results were not kept in {tmp_path}: ") and "recursion" in line


def test_a_job_that_finds_all_results_leaves_no_file(tmp_path):
    fill(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_two_of_a_process(tmp_path):
    """Two modules of a script may each make a memo."""
    first, second = Records(tmp_path), Records(tmp_path)
    for records, key in ((first, KEYS[1]), (second, KEYS[2])):
        records.add(key, data_of(key))
        records.save()
    assert len(Records(tmp_path)) == 2


def test_a_script_that_goes_to_another_directory(tmp_path, monkeypatch):
    fill(tmp_path / "results", KEYS[:1])
    monkeypatch.chdir(tmp_path)
    memo = Memo("results")
    monkeypatch.chdir("/")
    assert memo.records.get(KEYS[0]) == data_of(KEYS[0])


def test_many_jobs_leave_many_files(tmp_path):
    """More than a process may have open; and some may be removed."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for key in KEYS:
        os.close(fill(tmp_path, [key])._own[1])
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 10, before[1]))
    try:
        records = Records(tmp_path)
        found = [records.get(key) for key in KEYS]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found == [data_of(key) for key in KEYS]
    next(tmp_path.glob("*.records")).unlink()
    assert [records.get(key) for key in KEYS].count(None) == 1 and len(records) == len(KEYS) - 1


def test_a_full_disk_costs_the_records_of_that_moment(tmp_path, monkeypatch):
    records = fill(tmp_path, KEYS[:2])
    write = os.write

    def full(file, data):
        if len(data) > 10:
            return write(file, data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        records.add(KEYS[2], b"lost" * 10)
        with pytest.raises(OSError, match="No space"):
            records.save()
    monkeypatch.undo()
    records.add(KEYS[3], b"kept")
    records.save()
    for again in (records, Records(tmp_path)):
        assert again.get(KEYS[2]) is None
        assert again.get(KEYS[3]) == b"kept"
        assert again.get(KEYS[1]) == data_of(KEYS[1])
    assert len(list(tmp_path.iterdir())) == 1, "a disk that stays full costs one descriptor, not thousands"


def test_a_disk_on_which_no_file_can_be_made_for_a_moment(tmp_path, monkeypatch):
    records = Records(tmp_path)
    records.add(KEYS[1], b"lost")
    with monkeypatch.context() as full:
        full.setattr(Records, "_new_file", lambda self: os.open("/dev/null/x", os.O_WRONLY))
        with pytest.raises(NotADirectoryError):
            records.save()
    records.add(KEYS[2], b"kept")
    records.save()
    for again in (records, Records(tmp_path)):
        assert again.get(KEYS[1]) is None and again.get(KEYS[2]) == b"kept"
