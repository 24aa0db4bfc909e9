"""What else programs do with an executor that has a job of its own."""

import queue

import pytest
from test_executor import ALONE, passes, script

from swiftpy.own_job import _Link
from swiftpy.runtime.server import BATCH


@pytest.mark.mpi_job
def test_workers_find_what_the_program_finds(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "found.py").write_text("def twice(x):\n    return 2 * x\n")
    program = """
    if __name__ == "__main__":
        sys.path.append("lib")
        import found
        with swiftpy.Executor(1) as executor:
            assert executor.submit(found.twice, 2).result() == 4
    """
    passes([*ALONE, script(tmp_path, program)], tmp_path)


@pytest.mark.mpi_job
def test_what_lies_in_the_current_directory_is_not_what_lies_beside_the_program(tmp_path):
    """Workers, and processes beside them, called the function of the former in the place of that of the latter."""
    (tmp_path / "scripts").mkdir()
    for directory in (tmp_path, tmp_path / "scripts"):
        (directory / "helpers.py").write_text(f"def where():\n    return {str(directory)!r}\n")
    program = """
    import helpers
    def beside():
        return swiftpy.task(helpers.where, isolated=True)().result()
    if __name__ == "__main__":
        with swiftpy.Executor(1) as executor:
            assert executor.submit(helpers.where).result() == executor.submit(beside).result() == helpers.where()
    """
    passes([*ALONE, script(tmp_path / "scripts", program)], tmp_path)


@pytest.mark.mpi_job
def test_a_program_that_goes_on_after_ctrl_c_has_its_workers_still(tmp_path):
    """A terminal sends it to all of its process group."""
    program = """
    if __name__ == "__main__":
        os.setpgrp()
        executor = swiftpy.Executor(1)
        executor.submit(abs, 1).result()
        with contextlib.suppress(KeyboardInterrupt):
            os.killpg(0, signal.SIGINT)
            time.sleep(600)
        time.sleep(0.5)
        assert executor.submit(abs, -2).result() == 2
        executor.shutdown()
    """
    passes([*ALONE, script(tmp_path, program)], tmp_path)


@pytest.mark.mpi_job
def test_a_callback_may_shut_its_executor_down(tmp_path):
    program = """
    if __name__ == "__main__":
        executor, ended = swiftpy.Executor(1), threading.Event()
        def end(future):
            executor.shutdown()
            ended.set()
        executor.submit(abs, 1).add_done_callback(end)
        assert ended.wait(120)
    """
    passes([*ALONE, script(tmp_path, program)], tmp_path)


def test_the_server_comes_to_its_work_however_fast_calls_come_in():
    inbox = queue.SimpleQueue()
    for number in range(2 * BATCH):
        inbox.put(number)
    link = _Link(None, inbox)
    assert [link.recv(0.0) for _ in range(BATCH + 1)] == [*range(BATCH), None]
    assert [link.recv(1.0), link.recv(0.0)] == [BATCH, BATCH + 1]
