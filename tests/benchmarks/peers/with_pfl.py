"""Rounds of federated averaging with `pfl`, on one process and numpy.

A model of pfl trains in place: it is copied before, compared and set back after each client, as the
models do that come with pfl. There is none for numpy among them, so this one does the same.
"""

from __future__ import annotations

import numpy as np
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.common_types import Population
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.internal.ops import numpy_ops
from pfl.internal.ops.selector import set_framework_module
from pfl.metrics import Metrics, Weighted
from pfl.metrics import TrainMetricName as Name
from pfl.model.base import StatefulModel
from pfl.stats import MappedVectorStatistics
from round_clock import EXAMPLES, RoundClock


class Parameters(StatefulModel):
    """Two arrays."""

    def __init__(self, count: int) -> None:
        values = np.linspace(-1, 1, count, dtype=np.float32)
        self.arrays = {"w": values[10:].copy(), "b": values[:10].copy()}
        self._difference = {name: np.empty_like(array) for name, array in self.arrays.items()}

    def get_parameters(self, placeholders=None):
        if placeholders is None:
            return MappedVectorStatistics({k: v.copy() for k, v in self.arrays.items()})
        for name, array in self.arrays.items():
            placeholders[name][...] = array
        return placeholders

    def set_parameters(self, w):
        for name, array in self.arrays.items():
            array[...] = w[name]

    def get_model_difference(self, other_parameters, clone=False):
        into = {k: v.copy() for k, v in self._difference.items()} if clone else self._difference
        for name, array in self.arrays.items():
            np.subtract(array, other_parameters[name], out=into[name])
        return MappedVectorStatistics(dict(into))

    def apply_model_update(self, statistics):
        for name, array in self.arrays.items():
            np.add(array, statistics[name], out=array)
        return self, Metrics()

    def evaluate(self, dataset, name_formatting_fn, eval_params=None):
        return Metrics()

    def save(self, dir_path):
        raise NotImplementedError

    def load(self, dir_path):
        raise NotImplementedError


class NoTraining(FederatedAveraging):
    """Federated averaging whose clients leave their parameters as they are."""

    def train_one_user(self, initial_model_state, model, user_dataset, central_context):
        loss = Weighted(0.5 * len(user_dataset), len(user_dataset))
        metrics = Metrics([(Name("loss", Population.TRAIN, after_training=True), loss)])
        return model.get_model_difference(initial_model_state), metrics


class Clocked(TrainingProcessCallback):
    def __init__(self, clock: RoundClock) -> None:
        self._clock = clock

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        told = {str(name): value for name, value in aggregate_metrics.to_simple_dict().items()}
        clients = next(value for name, value in told.items() if "number of devices" in name)
        arrays = model.arrays
        going = self._clock.ended(int(clients), float(arrays["b"][0]), float(arrays["w"][-1]))
        return not going, Metrics()


def main() -> None:
    """Run rounds until the clock has enough of them."""
    clock = RoundClock("pfl", ["pfl", "numpy"])
    set_framework_module(numpy_ops)
    everybody = list(range(clock.clients))
    examples = (np.zeros((EXAMPLES, 1), np.float32),)
    data = FederatedDataset(
        lambda user: Dataset(examples, user_id=str(user)),
        get_user_sampler("minimize_reuse", everybody),
    )
    algorithm = NNAlgorithmParams(
        central_num_iterations=10**9,
        evaluation_frequency=10**9,
        train_cohort_size=clock.clients,
        val_cohort_size=None,
    )
    training = NNTrainHyperParams(
        local_batch_size=EXAMPLES, local_num_epochs=1, local_learning_rate=0.1
    )
    NoTraining().run(
        algorithm,
        SimulatedBackend(data, data, postprocessors=[WeightByDatapoints()]),
        Parameters(clock.count),
        training,
        callbacks=[Clocked(clock)],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
