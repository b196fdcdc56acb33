"""Arrays and npz files as data for bytesandbrains, with partitioners."""

from bb_roles import ComponentSpec, hookimpl


@hookimpl
def bb_component() -> ComponentSpec:
    """Declare the component."""
    return ComponentSpec(
        role="data_source",
        name="arrays",
        cls="bb_datasource_arrays._arrays:Arrays",
        summary="Your own examples: two arrays, or an npz file that holds them.",
    )
