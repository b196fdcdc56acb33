"""Executors that plugins add: found by name, and each way to be broken."""

import subprocess
import sys

import pytest

from bb_ir.plan import PlanFormatError
from bb_roles import Executor, OpReport, OpState, Report, Wave
from bb_roles.errors import BadWave, PlanFailed, PluginError, UnknownPluginError
from bb_roles.registry import executor_class, executor_spec, kinds, load, plugin_spec

SOURCE = """
from bb_roles import Executor, ExecutorSpec, hookimpl

class Mover(Executor):
    def submit(self, plan, *, resume=None): ...
    def close(self): ...

class Half(Executor):
    pass

@hookimpl
def bb_executor():
    return ExecutorSpec({name!r}, __name__ + ":{cls}", {moves}{more})
"""


def executor(name="mover", cls="Mover", moves='("H2H",)', more=""):
    return SOURCE.format(name=name, cls=cls, moves=moves, more=more)


def refused(call, *texts, kind=PluginError):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_a_executor_is_found(bb_install):
    module = bb_install("executor.mover", executor(more=', summary="Mover."'))

    spec = executor_spec("mover")

    assert "executor" in kinds()
    assert (spec.point, spec.moves, spec.summary) == ("executor.mover", ("H2H",), "Mover.")
    assert executor_class(spec) is load(plugin_spec("executor.mover")) is sys.modules[module].Mover


@pytest.mark.parametrize("moves", ["()", "'H2H'", "['H2H']", "('h2h',)", "(3,)", "None"])
def test_moves_that_there_are_none_of(bb_install, moves):
    bb_install("executor.mover", executor(moves=moves))

    refused(
        lambda: executor_spec("mover"), "plugin executor.mover declares moves=", "a tuple of H2D"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (executor("other"), "declares itself as executor.other"),
        (executor(more=", api=(2, 0)"), "written for contract 2.0"),
        ("1/0", "ZeroDivisionError"),
        ("", "no hook bb_executor"),
    ],
)
def test_broken_declaration(bb_install, source, text):
    bb_install("executor.mover", source)

    refused(lambda: executor_spec("mover"), "plugin executor.mover", text)


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        ("Half", "lacks close, submit"),
        ("hookimpl", "is not a Executor"),
        ("Gone", "cannot be imported"),
    ],
)
def test_class_that_is_no_executor(bb_install, cls, text):
    bb_install("executor.mover", executor(cls=cls))

    refused(lambda: executor_class(executor_spec("mover")), "executor.mover", text)


def test_unknown_executor_says_what_there_is(bb_install):
    bb_install("executor.mover", executor())

    refused(lambda: executor_spec("move"), "did you mean 'mover'?", kind=UnknownPluginError)


def test_contract_needs_neither_plans_nor_protobuf():
    code = (
        "import sys, bb_roles; bb_roles.Executor, bb_roles.Report; "
        "assert not {'bb_ir.plan', 'google.protobuf', 'numpy'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


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
def test_what_is_no_report_is_refused(text):
    refused(lambda: Report.from_json(text), "is no report", kind=PlanFormatError)


def test_executors_without_waves_say_so():
    class Still(Executor):
        def submit(self, plan, *, resume=None): ...

        def close(self):
            self.closed = True

    with Still(None, None) as executor:
        refused(lambda: executor.submit_wave(Wave(1, 1, 1), [[1]]), "Still has no", kind=BadWave)
        refused(lambda: executor.set_weights([[1]], token=0), "Still has no", kind=BadWave)
    assert executor.closed
