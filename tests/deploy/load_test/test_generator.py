"""The processes that send, against nobody."""

from __future__ import annotations

import pytest

from deploy.errors import WorldError
from deploy.load_test.generator import Aim, Generator
from tests.deploy.load_test.test_figures import LIMITS
from tests.support.serving import free_port


def test_all_processes_together_send_a_step_and_one_that_has_died_ends_the_test() -> None:
    with Generator(Aim(f"http://127.0.0.1:{free_port()}"), [b"{}"], LIMITS) as generator:
        step = generator.step(50, 0.2)
        assert (step.requests + step.unsent, step.answered_per_s) == (10, 0)
        assert step.errors == {"connection": step.requests}
        assert "is `serve` running?" in step.reasons["connection"]
        generator._processes[0].kill()
        generator._processes[0].join()
        with pytest.raises(WorldError, match="a process of the load generator has ended"):
            generator.step(50, 0.2)
    assert not any(process.is_alive() for process in generator._processes)
