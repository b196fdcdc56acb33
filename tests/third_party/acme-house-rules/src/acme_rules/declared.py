"""Declares the stage `encoded_params`."""

from bb_roles import StageSpec, hookimpl


@hookimpl
def bb_stage() -> StageSpec:
    """Say what it is called and where it runs: where types are known and the program is whole."""
    return StageSpec(
        name="encoded_params",
        stage="acme_rules.encoding:encoded_params",
        after="solve_types",
        summary="Refuses programs that send parameters without a codec.",
    )
