"""The suites of indexes and codecs fail where a component is broken.

Each suite runs over good components and many that are broken in one way each. The good ones pass;
a broken one fails the test that is named beside it; and every test is named at least once.
"""

import pytest

from bb_testing.codec import CodecSuite
from bb_testing.index import IndexSuite

pytest_plugins = ["pytester"]

INDEX = '''
import numpy as np

from bb_roles import Component, Index, State
from bb_testing.context import environment
from bb_testing.index import IndexSuite

class Good(Index):
    """A dictionary of vectors."""

    def __init__(self):
        super().__init__(None, environment())
        self.stored = {}
        self.next = 0

    def check(self, vectors):
        if vectors.dtype.kind not in "fiu" or vectors.ndim != 2 or vectors.shape[1] != 8:
            raise ValueError("these are no vectors of length 8")
        with np.errstate(invalid="ignore"):
            if not np.isfinite(vectors.astype(np.float64)).all():
                raise ValueError("these are not finite")

    def add(self, ctx, vectors):
        self.check(vectors)
        ids = np.arange(self.next, self.next + len(vectors))
        self.next += len(vectors)
        self.stored.update(zip(ids.tolist(), vectors.copy()))
        return ids

    def search(self, ctx, queries, *, k=10):
        self.check(queries)
        if k < 1:
            raise ValueError("k is less than 1")
        ids = np.full((len(queries), k), -1)
        distances = np.full((len(queries), k), np.inf, np.float32)
        for at, query in enumerate(queries):
            found = [(float(((query - v) ** 2).sum()), i) for i, v in self.stored.items()]
            for place, (distance, i) in enumerate(sorted(found)[:k]):
                ids[at, place], distances[at, place] = i, distance
        return ids, distances

    def remove(self, ctx, ids):
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise ValueError("these are no ids")
        if not set(ids.tolist()) <= set(self.stored):
            raise ValueError("unknown id")
        for i in ids.tolist():
            del self.stored[i]

    def save(self):
        vectors = np.array(list(self.stored.values()), np.float32).reshape(-1, 8)
        ids = np.array(list(self.stored), np.int64)
        return State({"vectors": vectors, "ids": ids}, {"next": self.next})

    def load(self, state):
        ids = state.tensors["ids"].tolist()
        self.stored = dict(zip(ids, state.tensors["vectors"].copy()))
        self.next = state.data["next"]

class Suite(IndexSuite):
    pass
'''

BROKEN_INDEXES = {
    "test_what_is_no_vector_of_ids_is_refused": """
        class Broken(Good):
            def remove(self, ctx, ids):
                super().remove(ctx, ids.ravel())
        """,
    "test_what_is_no_vector_of_ids_is_refused ": """
        class Broken(Good):
            def remove(self, ctx, ids):
                super().remove(ctx, ids.astype(np.int64) if ids.dtype.kind == "f" else ids)
        """,
    "test_real_numbers_of_any_dtype_are_vectors": """
        class Broken(Good):
            def check(self, vectors):
                super().check(vectors)
                if vectors.dtype.kind != "f":
                    raise ValueError("not floats")
        """,
    "test_ids_of_an_empty_index_are_unknown": """
        class Broken(Good):
            def remove(self, ctx, ids):
                if self.stored:
                    super().remove(ctx, ids)
        """,
    "test_bad_vectors_are_refused_whole    ": """
        class Broken(Good):
            def check(self, vectors):
                if vectors.ndim != 2 or vectors.shape[1] != 8 or vectors.dtype.kind not in "fiu":
                    raise ValueError("these are no vectors of length 8")
                if not np.isfinite(vectors.astype(np.float64)).all():  # warns of some NaN
                    raise ValueError("these are not finite")
        """,
    "test_loaded_index_keeps_nothing_of_the_state": """
        class Broken(Good):
            def load(self, state):
                super().load(state)
                self.stored = dict(zip(self.stored, state.tensors["vectors"]))
        """,
    "test_is_an_index": """
        class Broken(Component):
            pass
        """,
    "test_every_vector_gets_an_id": """
        class Broken(Good):
            def add(self, ctx, vectors):
                return super().add(ctx, vectors).astype(np.int32)
        """,
    "test_every_vector_gets_an_id ": """
        class Broken(Good):
            def add(self, ctx, vectors):
                self.next = 0
                return super().add(ctx, vectors)
        """,
    "test_ids_are_never_given_again": """
        class Broken(Good):
            def remove(self, ctx, ids):
                super().remove(ctx, ids)
                self.next = max(self.stored, default=-1) + 1
        """,
    "test_vectors_are_copied": """
        class Broken(Good):
            def add(self, ctx, vectors):
                ids = super().add(ctx, vectors)
                self.stored.update(zip(ids.tolist(), vectors))
                return ids
        """,
    "test_equal_vectors_are_all_kept": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                everything = self.stored
                self.stored = {v.tobytes(): (i, v) for i, v in everything.items()}
                self.stored = dict(self.stored.values())
                found = super().search(ctx, queries, k=k)
                self.stored = everything
                return found
        """,
    "test_search_has_the_shape_asked_for": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                ids, distances = super().search(ctx, queries, k=k)
                return ids.astype(np.int32), distances
        """,
    "test_search_has_the_shape_asked_for ": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                ids, distances = super().search(ctx, queries, k=k)
                return ids, -distances
        """,
    "test_missing_neighbours_are_marked": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                ids, distances = super().search(ctx, queries, k=k)
                return ids, np.where(np.isinf(distances), 0, distances)
        """,
    "test_missing_neighbours_are_marked ": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                return super().search(ctx, queries, k=min(k, max(1, len(self.stored))))
        """,
    "test_stored_vectors_find_themselves": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                return super().search(ctx, -queries, k=k)
        """,
    "test_nearest_are_found": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                everything = self.stored
                self.stored = {i: v for i, v in everything.items() if i < 60}
                found = super().search(ctx, queries, k=k)
                self.stored = everything
                return found
        """,
    "test_queries_are_independent": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                return super().search(ctx, queries - 0.5 * queries[1:2].sum(axis=0), k=k)
        """,
    "test_search_changes_nothing": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                self.next += 1
                return super().search(ctx, queries, k=k)
        """,
    "test_search_changes_nothing ": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                found = super().search(ctx, queries, k=k)
                queries *= 2
                return found
        """,
    "test_same_calls_give_the_same_bits": """
        class Broken(Good):
            def __init__(self):
                super().__init__()
                self.next = int(np.random.randint(1 << 40))
        """,
    "test_results_stay_as_they_were": """
        class Broken(Good):
            buffer = np.empty((6, 4), np.int64)
            def search(self, ctx, queries, *, k=10):
                ids, distances = super().search(ctx, queries, k=k)
                if ids.shape != self.buffer.shape:
                    return ids, distances
                self.buffer[:] = ids
                return self.buffer, distances
        """,
    "test_removed_vectors_are_not_found": """
        class Broken(Good):
            def remove(self, ctx, ids):
                super().remove(ctx, ids[:1])
        """,
    "test_removed_vectors_are_not_found ": """
        class Broken(Good):
            def remove(self, ctx, ids):
                super().remove(ctx, ids)
                self.stored = dict(zip(range(len(self.stored)), self.stored.values()))
        """,
    "test_unknown_id_removes_nothing": """
        class Broken(Good):
            def remove(self, ctx, ids):
                for i in ids.tolist():
                    super().remove(ctx, np.array([i]))
        """,
    "test_bad_vectors_are_refused_whole": """
        class Broken(Good):
            def add(self, ctx, vectors):
                return np.concatenate([super(Broken, self).add(ctx, v[None]) for v in vectors])
        """,
    "test_bad_vectors_are_refused_whole ": """
        class Broken(Good):
            def check(self, vectors):
                if vectors.ndim != 2 or vectors.shape[1] != 8:
                    raise ValueError("these are no vectors of length 8")
        """,
    "test_search_for_nothing_is_refused": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                return super().search(ctx, queries, k=max(1, k))
        """,
    "test_empty_batches_are_fine": """
        class Broken(Good):
            def check(self, vectors):
                vectors[0]
                super().check(vectors)
        """,
    "test_an_empty_index_finds_nothing": """
        class Broken(Good):
            def search(self, ctx, queries, *, k=10):
                min(self.stored)
                return super().search(ctx, queries, k=k)
        """,
    "test_training_stores_nothing": """
        class Broken(Good):
            def train(self, ctx, samples):
                self.add(ctx, samples)
        """,
    "test_state_goes_on_elsewhere": """
        class Broken(Good):
            def load(self, state):
                super().load(state)
                self.next = len(self.stored)
        """,
    "test_state_goes_on_elsewhere ": """
        class Broken(Good):
            def save(self):
                self.kept = super().save()
                return self.kept
            def remove(self, ctx, ids):
                super().remove(ctx, ids)
                if hasattr(self, "kept"):
                    self.kept.tensors["vectors"][:] = 0
        """,
}

CODEC = '''
import ctypes

import numpy as np

from bb_ir.params import ParameterSet
from bb_ir.types import record, scalar, tensor
from bb_roles import Codec, Component, State
from bb_testing.codec import CodecSuite
from bb_testing.context import environment

class Good(Codec):
    """Half the bytes of an array of float32, scaled by its largest magnitude."""

    def __init__(self):
        super().__init__(None, environment())
        self.trained = 0

    @classmethod
    def infer_types(cls, config, op, inputs):
        if op == "Encode":
            half = tensor("float16", inputs[0].shape)
            return {"encoded": record({"half": half, "scale": scalar("float64")})}

    def encode(self, ctx, value):
        if not isinstance(value, np.ndarray) or not np.isfinite(value).all():
            raise ValueError("not a finite array")
        scale = np.abs(value).max(initial=0)
        half = np.asarray(value / (scale or 1), np.float16)  # an array, also of one number
        return {"half": half, "scale": float(scale)}

    def decode(self, ctx, encoded):
        if not isinstance(encoded, dict) or set(encoded) != {"half", "scale"}:
            raise ValueError("not encoded here")
        return np.asarray(encoded["half"].astype("f4") * np.float32(encoded["scale"]))

    def train(self, ctx, samples):
        self.trained += len(samples)

    def save(self):
        return State(data={"trained": self.trained})

    def load(self, state):
        self.trained = state.data["trained"]

class Suite(CodecSuite):
    tolerance = 2.0**-11
    def sample(self, rng):
        return rng.standard_normal((30, 4)).astype(np.float32)

class Same(Codec):
    """Parameter sets as they are."""

    def __init__(self):
        super().__init__(None, environment())

    def encode(self, ctx, value):
        return value

    def decode(self, ctx, encoded):
        return encoded

class TestSame(CodecSuite):
    exact = True
    def make(self): return Same()
    def sample(self, rng):
        return ParameterSet.from_tensors({
            "w": rng.standard_normal((3, 4)).astype(np.float32),
            "n": rng.integers(0, 9, 5),
            "flag": np.array([True]),
        })

class TestNested(CodecSuite):
    exact = True
    def make(self): return Same()
    def sample(self, rng):
        return {"a": [rng.standard_normal(3), "text"], "b": b"bytes", "c": (1.5, None)}
'''

BROKEN_CODECS = {
    "test_is_a_codec": """
        class Broken(Component):
            pass
        """,
    "test_decoded_value_looks_like_the_original": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                return super().decode(ctx, encoded).ravel()
        """,
    "test_decoded_value_looks_like_the_original ": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                return super().decode(ctx, encoded).astype(np.float64)
        """,
    "test_values_are_of_the_types_that_it_tells": """
        class Broken(Good):
            @classmethod
            def infer_types(cls, config, op, inputs):
                # What is decoded is an array of float32 again.
                return {"value": tensor("float16")} if op == "Decode" else None
        """,
    "test_values_are_of_the_types_that_it_tells ": """
        class Broken(Good):
            @classmethod
            def infer_types(cls, config, op, inputs):
                known = super().infer_types(config, op, inputs)
                return known and {"codes": known["encoded"]}
        """,
    "test_values_are_of_the_types_that_it_tells  ": """
        class Broken(Good):
            @classmethod
            def infer_types(cls, config, op, inputs):
                # One name would stand for two lengths.
                return {"value": tensor("float32", ("n", "n"))} if op == "Decode" else None
        """,
    "test_error_is_within_the_tolerance": """
        class Broken(Good):
            def encode(self, ctx, value):
                encoded = super().encode(ctx, value)
                return {**encoded, "half": np.round(encoded["half"], 2)}
        """,
    "test_error_is_within_the_tolerance ": """
        class Broken(Good):
            def encode(self, ctx, value):
                super().encode(ctx, value)
                return {"half": value.astype(np.float16), "scale": 1.0}
        """,
    "test_constants_come_back": """
        class Broken(Good):
            def encode(self, ctx, value):
                scale = np.abs(value).max(initial=0)
                with np.errstate(all="ignore"):
                    half = (value / scale).astype(np.float16)
                return {"half": half, "scale": float(scale)}
        """,
    "test_small_values_come_back": """
        class Broken(Good):
            def encode(self, ctx, value):
                if isinstance(value, np.ndarray):
                    value.ravel()[0]
                return super().encode(ctx, value)
        """,
    "test_small_values_come_back ": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                return np.atleast_1d(super().decode(ctx, encoded))
        """,
    "test_strange_numbers_are_not_hidden": """
        class Broken(Good):
            def encode(self, ctx, value):
                if isinstance(value, np.ndarray):
                    value = np.nan_to_num(value, posinf=1, neginf=-1)
                return super().encode(ctx, value)
        """,
    "test_encoded_value_can_be_sent": """
        class Broken(Good):
            def encode(self, ctx, value):
                self.shape = value.shape if isinstance(value, np.ndarray) else None
                encoded = super().encode(ctx, value)
                return {**encoded, "half": encoded["half"].ravel()}
            def decode(self, ctx, encoded):
                return super().decode(ctx, encoded).reshape(self.shape)
        """,
    "test_encoded_value_can_be_sent ": """
        class Broken(Good):
            def encode(self, ctx, value):
                encoded = super().encode(ctx, value)
                return {**encoded, "scale": np.float32(encoded["scale"])}
        """,
    "test_state_goes_on_elsewhere": """
        class Broken(Good):
            def encode(self, ctx, value):
                encoded = super().encode(ctx, value)
                return {**encoded, "scale": encoded["scale"] * (1 + self.trained * 1e-12)}
            def load(self, state):
                pass
        """,
    "test_same_call_gives_the_same_bits": """
        class Broken(Good):
            def encode(self, ctx, value):
                encoded = super().encode(ctx, value)
                return {**encoded, "scale": encoded["scale"] * (1 + np.random.random() * 1e-9)}
        """,
    "test_coding_changes_no_state": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                self.trained += 1
                return super().decode(ctx, encoded)
        """,
    "test_values_are_let_go": """
        class Broken(Good):
            def encode(self, ctx, value):
                self.last = value
                return super().encode(ctx, value)
        """,
    "test_given_values_are_not_changed": """
        class Broken(Good):
            def encode(self, ctx, value):
                encoded = super().encode(ctx, value)
                value += 1
                return encoded
        """,
    "test_given_values_are_not_changed ": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                decoded = super().decode(ctx, encoded)
                encoded["half"] = None
                return decoded
        """,
    "test_results_stay_as_they_were": """
        class Broken(Good):
            buffer = np.empty((30, 4), np.float32)
            def decode(self, ctx, encoded):
                decoded = super().decode(ctx, encoded)
                if decoded.shape != self.buffer.shape:
                    return decoded
                self.buffer[:] = decoded
                return self.buffer
        """,
    "test_foreign_values_fail_with_value_error": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                encoded["scale"]
                return super().decode(ctx, encoded)
        """,
    "test_damaged_values_fail_with_value_error": """
        class Broken(Good):
            def decode(self, ctx, encoded):
                if isinstance(encoded, dict) and encoded:
                    encoded["scale"]
                return super().decode(ctx, encoded)
        """,
    "test_damaged_values_fail_with_value_error ": """
        class Broken(Good):
            def encode(self, ctx, value):
                encoded = super().encode(ctx, value)
                return ParameterSet.from_tensors({name: encoded[name] for name in encoded})
            def decode(self, ctx, encoded):
                if not isinstance(encoded, ParameterSet) or "half" not in encoded:
                    raise ValueError("not encoded here")
                return encoded["half"].astype(np.float32) * encoded["scale"].astype(np.float32)
        """,
}

SUITES = {
    "index": (IndexSuite, INDEX, BROKEN_INDEXES),
    "codec": (CodecSuite, CODEC, BROKEN_CODECS),
}

KINDS = pytest.mark.parametrize("kind", SUITES)


@KINDS
def test_every_test_bites(kind, tests_of):
    suite, _, broken = SUITES[kind]

    assert {name.strip() for name in broken} == tests_of(suite)


@KINDS
def test_suite_fails_on_broken_components_and_on_no_other(kind, bites_components):
    _, good, broken = SUITES[kind]

    bites_components(good, broken)


GRID = '''
import numpy as np

from bb_ir.params import ParameterSet
from bb_roles import Codec
from bb_testing import CodecSuite, environment

STEP = 2.0**-8


class Good(Codec):
    """float32 as int16 multiples of a step that is the same for all numbers."""

    def __init__(self):
        super().__init__(None, environment())

    def encode(self, ctx, value):
        if not isinstance(value, ParameterSet):
            raise ValueError("no parameters")
        return ParameterSet.from_tensors({k: self.rounded(v) for k, v in value.items()})

    def rounded(self, floats):
        if floats.dtype != np.float32 or not (np.abs(floats) <= 100).all():
            raise ValueError("no float32 between -100 and 100")
        return np.rint(floats / np.float32(STEP)).astype(np.int16)

    def decode(self, ctx, encoded):
        if not isinstance(encoded, ParameterSet) or any(
            v.dtype != np.int16 for _, v in encoded.items()
        ):
            raise ValueError("no encoded parameters")
        back = {k: v.astype(np.float32) * np.float32(STEP) for k, v in encoded.items()}
        return ParameterSet.from_tensors(back)


class Suite(CodecSuite):
    tolerance = 0.0
    absolute = STEP / 2
    most = 100.0

    def sample(self, rng):
        return ParameterSet.from_tensors({"w": rng.standard_normal((9, 9)).astype(np.float32)})
'''

#: What breaks a grid, and how it is said.
OFF_THE_GRID = {
    "test_error_is_within_the_tolerance": """
        class Broken(Good):
            def rounded(self, floats):
                return super().rounded(floats) // 2 * 2
        """,
    "test_error_is_within_the_tolerance ": """
        class Broken(Good):
            def rounded(self, floats):
                return super().rounded(np.clip(floats, -100, 100))
        """,
    "test_error_is_within_the_tolerance  ": """
        class Broken(Good):
            def rounded(self, floats):
                if not (np.abs(floats) <= 100).all():
                    raise OverflowError("too large")
                return super().rounded(floats)
        """,
    "test_constants_come_back": """
        class Broken(Good):
            def rounded(self, floats):
                if (floats == -3.0).all():
                    raise ValueError("no reason")
                return super().rounded(floats)
        """,
}


def test_a_codec_with_a_grid_of_its_own_says_how_far_it_reaches(bites_components):
    bites_components(GRID, OFF_THE_GRID)
