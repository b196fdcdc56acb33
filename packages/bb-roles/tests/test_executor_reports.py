"""What executors report, and those that carry out plans but no waves."""

import pytest

from bb_ir.plan import PlanFormatError
from bb_roles import Executor, OpReport, OpState, Report, Wave
from bb_roles.errors import BadWave, PlanFailed


def test_a_report_tells_what_is_done_and_can_be_written_and_read():
    ops = (
        OpReport(0, state=OpState.DONE, nbytes=5),
        OpReport(1, "two", OpState.FAILED, error="PlaceFailed: gone"),
        OpReport(2, state=OpState.BLOCKED, error="it waits for ops[1]"),
    )
    report = Report("sha256:00", ops, 1, 9, "failed")

    assert (report.ok, report.nbytes, report.done) == (False, 5, {0})
    assert Report.from_json(report.to_json()) == report
    with pytest.raises(PlanFailed, match=r"2 of 3 ops .* ops\[1\] is failed, PlaceFailed: gone"):
        report.check()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"plan": 3}', '{"plan": "", "ops": [{}]}', "\ud800"]
)
def test_what_is_no_report_is_refused(refused, text):
    refused(lambda: Report.from_json(text), "is no report", kind=PlanFormatError)


def test_executors_without_waves_say_so(refused):
    class Still(Executor):
        def submit(self, plan, *, resume=None): ...

        def close(self):
            self.closed = True

    with Still(None, None) as executor:
        refused(lambda: executor.submit_wave(Wave(1, 1, 1), [[1]]), "Still has no", kind=BadWave)
        refused(lambda: executor.set_weights([[1]], token=0), "Still has no", kind=BadWave)
    assert executor.closed
