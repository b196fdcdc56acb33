"""A plan that Python writes is read in C++, by the header and the example that ship with bb-ir."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bb_ir._proto import plan_pb2
from bb_ir.plan import (
    CachePlan,
    Digest,
    DigestAlgorithm,
    SwapPlan,
    TransferKind,
    TransferOp,
    proto_path,
    sealed,
    to_bytes,
)

EXAMPLE = Path(__file__).parents[1] / "cpp" / "example"
OPS = (
    TransferOp(TransferKind.STORAGE2H, "file://w/ä", "mem://b/0", 2**63, 4, 2**64 - 1,
               digest=Digest(DigestAlgorithm.BLAKE3, bytes(range(32)))),
    TransferOp(TransferKind.NET2H, "net://p/x", "mem://b/1", 5),
)  # fmt: skip


def missing():
    """What building the example needs and is not here; empty when all is."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    for name, found in (("cmake", shutil.which("cmake")), ("protoc", shutil.which("protoc")),
                        ("a C++ compiler", compiler)):  # fmt: skip
        if not found:
            return f"{name} is not installed"
    headers = subprocess.run(
        [compiler, "-E", "-x", "c++", "-"], input="#include <google/protobuf/message.h>\n",
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "" if headers.returncode == 0 else "the headers of protobuf are not installed"


@pytest.fixture(scope="module")
def print_plan(tmp_path_factory):
    """The example, built as its reader would build it."""
    why = missing()
    if why:
        pytest.skip(f"{why} (Debian: cmake g++ libprotobuf-dev protobuf-compiler)")
    build = tmp_path_factory.mktemp("build")
    for command in (
        ["cmake", "-S", EXAMPLE, "-B", build, f"-DPython3_EXECUTABLE={sys.executable}",
         "-DCMAKE_CXX_FLAGS=-Wall -Wextra"],
        ["cmake", "--build", build],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning: " not in done.stderr

    def run(data):
        file = build / "plan.pb"
        file.write_bytes(data)
        return subprocess.run(
            [build / "print_plan", file], capture_output=True, text=True, check=False
        )

    return run


def test_schema_and_header_lie_beside_each_other():
    assert proto_path().is_file()
    assert f"package {plan_pb2.DESCRIPTOR.package};" in proto_path().read_text()
    assert (proto_path().parent / "bb_plan.hpp").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("cls", [CachePlan, SwapPlan])
def test_plans_are_printed(print_plan, cls):
    plan = sealed(cls("p", ops=OPS), producer="test 1", created_ns=1)

    done = print_plan(to_bytes(plan))

    assert done.returncode == 0, done.stderr
    first = "STORAGE2H 9223372036854775808 bytes: file://w/ä +4 -> mem://b/0 +18446744073709551615"
    assert done.stdout.splitlines() == [
        f"{'swap' if cls is SwapPlan else 'cache'} {plan.plan_id}",
        f"{first} blake3:{bytes(range(32)).hex()}",
        "NET2H 5 bytes: net://p/x +0 -> mem://b/1 +0",
        "2 ops, 9223372036854775813 bytes",
    ]


WHOLE = plan_pb2.Plan(schema_version=1, cache=plan_pb2.CachePlan(ops=[plan_pb2.TransferOp(kind=1)]))


def changed(**fields):
    plan = plan_pb2.Plan()
    plan.CopyFrom(WHOLE)
    for name, value in fields.items():
        setattr(plan, name, value)
    return plan.SerializeToString()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (changed()[:-1], "are no bb.plan.v1.Plan"),
        (changed(schema_version=2), "has schema version 2, and this reads version 1"),
        (changed() + b"\xf8\x01\x05", "the plan has fields that the schema lacks"),
        (b"\x08\x01\x3a\x05\x12\x03\xf8\x01\x05", "cache.ops[0] has fields that the schema lacks"),
        (b"\x08\x01\x3a\x04\x12\x02\x08\x63", "cache.ops[0].kind is 99"),
        (changed(label="x" * 20_000), "label has 20000 bytes"),
        (b"\x08\x01", "holds neither"),
        (b"", "has schema version 0"),
    ],
    ids=["cut", "version", "unknown", "unknown below", "kind", "text", "empty", "nothing"],
)
def test_what_is_no_plan_is_refused(print_plan, data, told):
    done = print_plan(data)

    assert done.returncode == 1
    assert told in done.stderr
