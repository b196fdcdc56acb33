"""Carries plans of data movements out on a CPU: threads, files, named arenas, a store of blobs."""

from bb_roles import ExecutorSpec, hookimpl


@hookimpl
def bb_executor() -> ExecutorSpec:
    """Declare the executor."""
    return ExecutorSpec(
        name="cpu",
        cls="bb_executor_cpu._executor:CpuExecutor",
        moves=(
            "H2D", "D2H", "P2P", "STORAGE2H", "H2STORAGE", "H2H", "NET2H", "STORAGE2STORAGE",
        ),
        summary="Threads, files, a store, and named arenas that stand for devices.",
    )  # fmt: skip
