"""Plans carried out: manifests, differences of weights, a crash-safe store, executions, commits.

Plans themselves, as data, are `bb_ir.plan`; planners and executors are plugins, whose contracts are
in `bb_roles`. What both kinds of plugins, the command line and federations need is here.
"""
