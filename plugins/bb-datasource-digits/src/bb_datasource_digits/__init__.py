"""scikit-learn's bundled handwritten digits as data for bytesandbrains."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="data_source",
        name="digits",
        cls="bb_datasource_digits._digits:Digits",
        summary="1,797 handwritten digits of 8x8 pixels, bundled with scikit-learn.",
        types={
            "NextBatch.batch": "tensor(float32)[batch,64]",
            "NextBatch.labels": "tensor(int64)[batch]",
            "Batches.batches": "local(batches,inputs:tensor(float32)[batch,64],"
            "targets:tensor(int64)[batch])",
        },
    )
