"""Parquet files as streamed training data for bytesandbrains."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="data_source",
        name="parquet",
        cls="bb_datasource_parquet._parquet:Parquet",
        summary="Columns of a parquet file, streamed row group by row group.",
    )
