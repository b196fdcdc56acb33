"""Only `nox -s equal-flwr` has Flower; elsewhere there is nothing to compare with."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("flwr") else ["test_*.py"]
