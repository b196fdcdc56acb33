"""The contract of the index role, as tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from bb_roles import Index, State
from bb_testing._base import check_state, refusal
from bb_testing._stories import RoleSuite
from bb_testing.context import FakeContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensor = NDArray[Any]
    Found = tuple[Tensor, Tensor]

__all__ = ["IndexSuite"]


class IndexSuite(RoleSuite):
    """Inherit it in a class named `Test...`, write `make`, and say `dim` if it is not 8.

    The kit's vectors have length one, so that squared Euclidean distance, inner product and cosine
    agree on which is nearest. An index is trained before it is filled, whether it needs it or not.
    """

    #: Length of the vectors that `make` expects, at least 2.
    dim: ClassVar[int] = 8
    #: Least share of the true nearest neighbours that a search finds; less for approximate ones.
    recall: ClassVar[float] = 1.0

    def make(self) -> Index:
        """Return a fresh, empty index of vectors of length `dim`."""
        raise NotImplementedError(f"{type(self).__qualname__} needs `def make(self)`")

    def test_is_an_index(self) -> None:
        """The component fills the role."""
        made = self.make()
        assert isinstance(made, Index), (
            f"make() returned a {type(made).__name__}, which does not inherit bb_roles.Index"
        )

    # Adding.

    def test_every_vector_gets_an_id(self) -> None:
        """Ids are int64, one per vector in their order, and all different."""
        index = self._trained()
        batches = [index.add(FakeContext(), self._vectors(n, seed=n)) for n in (5, 1, 7)]
        for ids, n in zip(batches, (5, 1, 7), strict=True):
            _check_ids(ids, (n,), "add()")
            assert (ids >= 0).all(), f"add() gave the ids {ids.tolist()}; -1 stands for no vector"
        given = [int(one) for ids in batches for one in ids]
        assert len(set(given)) == len(given), f"add() gave an id twice: {given}"

    def test_ids_are_never_given_again(self) -> None:
        """Who still holds the id of a removed vector must not reach another one by it."""
        index, _, ids = self._filled(6)
        index.remove(FakeContext(), ids)
        later = index.add(FakeContext(), self._vectors(6, seed=9))
        again = set(ids.tolist()) & set(later.tolist())
        assert not again, f"ids {sorted(again)} belonged to vectors that were removed"

    def test_vectors_are_copied(self) -> None:
        """The memory of what was added is used again for something else."""
        index, vectors = self._trained(), self._vectors(12)
        given = vectors.copy()
        ids = index.add(FakeContext(), given)
        given[:] = self._vectors(12, seed=5)
        _check_own(index, vectors, ids, "the memory of the added vectors was written to: copy it")

    def test_equal_vectors_are_all_kept(self) -> None:
        """Equal vectors are different entries, each with its id."""
        index, vectors, _ = self._filled(8)
        ids = index.add(FakeContext(), vectors[[3, 3, 3]])
        found, _ = index.search(FakeContext(), vectors[3:4], k=4)
        missing = set(ids.tolist()) - set(found[0].tolist())
        assert not missing, (
            f"a vector was stored four times and a search for 4 returned {found[0].tolist()} "
            f"without {sorted(missing)}"
        )

    # Searching.

    @pytest.mark.parametrize("k", [1, 3, 20])
    def test_search_has_the_shape_asked_for(self, k: int) -> None:
        """Ids int64 and distances, both (m, k): numbers, the nearest first, no id twice."""
        import numpy as np

        index, _, given = self._filled(20)
        ids, distances = index.search(FakeContext(), self._vectors(4, seed=7), k=k)
        _check_ids(ids, (4, k), f"search(k={k})")
        assert distances.shape == (4, k), f"search(k={k}) returned distances {distances.shape}"
        assert distances.dtype.kind == "f", f"search() returned distances of {distances.dtype}"
        assert not np.isnan(distances).any(), "search() returned a distance that is not a number"
        assert (distances[:, 1:] >= distances[:, :-1]).all(), (
            f"search() returned the distances {distances.tolist()}: the nearest comes first"
        )
        for line in ids.tolist():
            stored = [one for one in line if one != -1]
            assert set(stored) <= set(given.tolist()), f"search() returned unknown ids: {line}"
            assert len(set(stored)) == len(stored), f"search() returned an id twice: {line}"

    def test_missing_neighbours_are_marked(self) -> None:
        """Where fewer than k are stored, the rest has id -1 and an infinite distance."""
        import numpy as np

        index, _, given = self._filled(3)
        ids, distances = index.search(FakeContext(), self._vectors(2, seed=7), k=5)
        _check_ids(ids, (2, 5), "search(k=5)")
        assert (ids[:, 3:] == -1).all(), f"of 3 vectors search(k=5) returned {ids.tolist()}"
        assert (distances[:, 3:] == np.inf).all(), (
            f"where no vector is left, the distances are {distances[:, 3:].tolist()}, not +inf"
        )
        for line in ids[:, :3].tolist():
            assert sorted(line) == given.tolist(), (
                f"search(k=5) found {line} of the 3 vectors {given.tolist()}"
            )

    def test_stored_vectors_find_themselves(self) -> None:
        """Nothing is nearer to a vector than it is itself."""
        index, vectors, ids = self._filled(40)
        _check_own(index, vectors, ids, "search with the vectors that are stored")

    def test_nearest_are_found(self) -> None:
        """A search finds the true neighbours, or the share of them that the index promises."""
        index, vectors, ids = self._filled(200)
        queries = self._vectors(25, seed=7)
        found, _ = index.search(FakeContext(), queries, k=5)
        true = ids[(-queries @ vectors.T).argsort(axis=1)[:, :5]]
        hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), true.tolist(), strict=True))
        assert hits >= self.recall * true.size, (
            f"search() found {hits} of {true.size} nearest neighbours, recall = {self.recall} was "
            "promised"
        )

    def test_queries_are_independent(self) -> None:
        """What a query finds does not depend on the others in its batch."""
        index, _, _ = self._filled(50)
        queries = self._vectors(9, seed=7)
        together, _ = index.search(FakeContext(), queries, k=4)
        for at in range(len(queries)):
            alone, _ = index.search(FakeContext(), queries[at : at + 1], k=4)
            assert alone[0].tolist() == together[at].tolist(), (
                f"query {at} found {together[at].tolist()} in a batch and {alone[0].tolist()} alone"
            )

    def test_search_changes_nothing(self) -> None:
        """Searching is a read: the same again gives the same bits, and the state stays."""
        index, _, _ = self._filled(30)
        queries = self._vectors(6, seed=7)
        given, before = queries.copy(), _frozen(index)
        first = _bits(index.search(FakeContext(seed=1), queries, k=4))
        index.search(FakeContext(seed=2), self._vectors(6, seed=8), k=9)
        assert _bits(index.search(FakeContext(seed=1), queries, k=4)) == first, (
            "the same search gave another result"
        )
        assert (queries == given).all(), "search() wrote to its queries"
        assert _frozen(index) == before, "search() changed what save() returns"

    def test_same_calls_give_the_same_bits(self) -> None:
        """Two indexes that are called alike stay alike."""
        results: list[object] = []
        for _ in range(2):
            index, _, ids = self._filled(30)
            index.remove(FakeContext(), ids[::4])
            results.append((ids.tolist(), _bits(self._search(index))))
        assert results[0] == results[1], (
            "two indexes that were called alike differ: draw from ctx.rng() and env.rng() only"
        )

    def test_results_stay_as_they_were(self) -> None:
        """What a search or an add returned is a value; later calls do not write into it."""
        index, _, ids = self._filled(30)
        found = self._search(index)
        kept, before = ids.tolist(), _bits(found)
        index.add(FakeContext(), self._vectors(30, seed=3))
        index.remove(FakeContext(), ids[:20])
        self._search(index, seed=8)
        assert _bits(found) == before, "the result of a search changed by later calls"
        assert ids.tolist() == kept, "the ids that add() returned changed by later calls"

    # Removing.

    def test_removed_vectors_are_not_found(self) -> None:
        """What is removed is gone, and all else is still found."""
        index, vectors, ids = self._filled(40)
        index.remove(FakeContext(), ids[::3])
        found, _ = index.search(FakeContext(), vectors, k=5)
        left = set(found.ravel().tolist()) & set(ids[::3].tolist())
        assert not left, f"search() found the ids {sorted(left)}, which were removed"
        kept = [at for at in range(40) if at % 3]
        _check_own(index, vectors[kept], ids[kept], "others were removed")

    @pytest.mark.parametrize("what", ["one id", "a table", "floats", "texts"])
    def test_what_is_no_vector_of_ids_is_refused(self, what: str) -> None:
        """Ids come as integers (n,), as `add` gave them."""
        index, vectors, ids = self._filled(10)
        with refusal(f"remove() of {what}"):
            index.remove(FakeContext(), _NO_IDS[what](ids))
        _check_own(index, vectors, ids, f"remove() refused {what}")

    @pytest.mark.parametrize("unknown", ["never given", "negative", "removed", "too large"])
    def test_unknown_id_removes_nothing(self, unknown: str) -> None:
        """Ids are removed all together or not at all."""
        import numpy as np

        index, vectors, ids = self._filled(10)
        index.remove(FakeContext(), ids[9:])
        others = {"never given": 1 << 40, "negative": -1, "too large": (1 << 63) + 1}
        wrong = others.get(unknown, int(ids[9]))
        dtype = np.uint64 if unknown == "too large" else np.int64
        asked = np.array([int(ids[0]), int(ids[1]), wrong], dtype)
        with refusal(f"remove() of an id that is unknown, {unknown},"):
            index.remove(FakeContext(), asked)
        _check_own(index, vectors[:9], ids[:9], f"remove() refused an id that was {unknown}")

    # What does not fit.

    @pytest.mark.parametrize(
        "fault",
        [
            "longer", "shorter", "one vector", "a stack", "no width", "nan", "infinity",
            "signalling nan", "complex", "texts",
        ],
    )  # fmt: skip
    def test_bad_vectors_are_refused_whole(self, fault: str) -> None:
        """A batch with one bad vector is refused whole, by `add` and by `search`."""
        index, vectors, ids = self._filled(10)
        wrong = _FAULTS[fault](self._vectors(4, seed=3))
        for method in (index.add, index.search):
            with refusal(f"{method.__name__}() of vectors with a fault, {fault},"):
                method(FakeContext(), wrong)
        _check_own(index, vectors, ids, f"add() refused vectors with a fault: {fault}")
        found, _ = index.search(FakeContext(), vectors[:1], k=20)
        stored = sorted(one for one in found[0].tolist() if one != -1)
        assert stored == ids.tolist(), (
            f"after a refused add() the index holds {stored} instead of {ids.tolist()}: check all "
            "vectors before storing any"
        )

    @pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", ">f4"])
    def test_real_numbers_of_any_dtype_are_vectors(self, dtype: str) -> None:
        """What a program has need not be float32, nor lie in one piece."""
        import numpy as np

        index = self._trained()
        vectors = np.zeros((min(8, self.dim), self.dim), dtype, order="F")
        np.fill_diagonal(vectors, 1)
        ids = index.add(FakeContext(), vectors)
        _check_own(index, vectors, ids, f"they are vectors of {dtype}")

    def test_ids_of_an_empty_index_are_unknown(self) -> None:
        """What was never given cannot be removed, also before anything is stored."""
        import numpy as np

        with refusal("remove() of an id that was never given"):
            self._trained().remove(FakeContext(), np.array([0]))

    @pytest.mark.parametrize("k", [0, -1])
    def test_search_for_nothing_is_refused(self, k: int) -> None:
        """K is at least 1."""
        index, vectors, _ = self._filled(5)
        with refusal(f"search(k={k})"):
            index.search(FakeContext(), vectors, k=k)

    def test_empty_batches_are_fine(self) -> None:
        """No vectors, no queries and no ids are batches, too, also before anything is stored."""
        import numpy as np

        nothing = np.empty((0, self.dim), np.float32)
        for index in (self._trained(), self._filled(10)[0]):
            before = _bits(self._search(index))
            _check_ids(index.add(FakeContext(), nothing), (0,), "add() of no vectors")
            index.remove(FakeContext(), np.empty(0, np.int64))
            ids, distances = index.search(FakeContext(), nothing, k=3)
            _check_ids(ids, (0, 3), "search() without queries")
            assert distances.shape == (0, 3), f"it returned distances {distances.shape}"
            assert _bits(self._search(index)) == before, "empty batches changed the index"

    def test_an_empty_index_finds_nothing(self) -> None:
        """A search before anything is stored, or after all is removed, is no error."""
        emptied, _, ids = self._filled(5)
        emptied.remove(FakeContext(), ids)
        for index in (self._trained(), emptied):
            found, distances = index.search(FakeContext(), self._vectors(2), k=3)
            _check_ids(found, (2, 3), "search() in an empty index")
            assert (found == -1).all(), f"an empty index found {found.tolist()}"
            assert (distances > 0).all(), "in an empty index distances are +inf"
            assert distances.shape == (2, 3), f"an empty index gave distances {distances.shape}"

    # Training and state.

    def test_training_stores_nothing(self) -> None:
        """Samples are learnt from, not stored; an index that need not learn accepts them, too."""
        index = self._trained()
        found, _ = index.search(FakeContext(), self._vectors(2), k=3)
        assert (found == -1).all(), f"after train() alone a search found {found.tolist()}"

    def test_state_goes_on_elsewhere(self) -> None:
        """An index that was saved and loaded finds, removes and numbers as before."""
        first, vectors, ids = self._filled(20)
        first.remove(FakeContext(), ids[15:])
        state = first.save()
        check_state(state)
        kept = {name: tensor.tobytes() for name, tensor in state.tensors.items()}
        second = self.make()
        second.load(state)
        results: list[object] = []
        for index in (first, second):
            found = _bits(self._search(index))
            later = index.add(FakeContext(), self._vectors(3, seed=4))
            index.remove(FakeContext(), ids[:5])
            results.append((found, later.tolist(), _bits(self._search(index))))
        assert results[0] == results[1], (
            "searches or new ids differ after save() and load(): vectors, ids and the next id are "
            "part of the state"
        )
        now = {name: tensor.tobytes() for name, tensor in state.tensors.items()}
        assert now == kept, "the saved state changed as the index went on: save() returns copies"
        _check_own(second, vectors[5:15], ids[5:15], "the index was saved and loaded")

    def test_loaded_index_keeps_nothing_of_the_state(self) -> None:
        """The memory that a state came in is used again for something else."""
        first, vectors, ids = self._filled(20)
        state = first.save()
        tensors = {name: tensor.copy() for name, tensor in state.tensors.items()}
        second = self.make()
        second.load(State(tensors, state.data))
        for tensor in tensors.values():
            tensor[...] = 0
        _check_own(second, vectors, ids, "the arrays of a loaded state were written to: copy them")

    # What the tests are made of.

    def _life(self, component: Index, seed: int) -> Iterator[object]:
        vectors = self._vectors(24, seed=seed)
        ids = component.add(FakeContext(), vectors[:16])
        yield ids
        yield self._search(component, seed=seed)
        more = component.add(FakeContext(), vectors[16:])
        yield component.remove(FakeContext(), ids)
        yield self._search(component, seed=seed)
        yield component.remove(FakeContext(), more)

    def _new(self) -> Index:
        return self._trained()

    def _vectors(self, count: int, seed: int = 0) -> NDArray[np.float32]:
        """Return different vectors of length one."""
        import numpy as np

        drawn = FakeContext(seed=seed, op="vectors").rng().standard_normal((count, self.dim))
        lengths = np.sqrt((drawn * drawn).sum(axis=1, keepdims=True))
        vectors: NDArray[np.float32] = (drawn / lengths).astype(np.float32)
        return vectors

    def _trained(self) -> Index:
        index = self.make()
        index.train(FakeContext(), self._vectors(256, seed=6))
        return index

    def _filled(self, count: int) -> tuple[Index, Tensor, Tensor]:
        index, vectors = self._trained(), self._vectors(count)
        return index, vectors, index.add(FakeContext(), vectors.copy())

    def _search(self, index: Index, seed: int = 7) -> Found:
        return index.search(FakeContext(), self._vectors(6, seed=seed), k=4)


def _with_last(value: float) -> Callable[[Tensor], Tensor]:
    def put(vectors: Tensor) -> Tensor:
        wrong = vectors.copy()
        wrong[-1, -1] = value
        return wrong

    return put


def _signalling(vectors: Tensor) -> Tensor:
    """Return vectors with a NaN that processors warn of; such bytes come from damage."""
    wrong = vectors.copy()
    wrong.view("uint32")[-1, -1] = 0x7F800001
    return wrong


def _longer(vectors: Tensor) -> Tensor:
    import numpy as np

    return np.concatenate([vectors, vectors[:, :1]], axis=1)


_FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "longer": _longer,
    "shorter": lambda vectors: vectors[:, :-1].copy(),
    "one vector": lambda vectors: vectors[0],
    "nan": _with_last(float("nan")),
    "infinity": _with_last(float("inf")),
    "signalling nan": _signalling,
    "a stack": lambda vectors: vectors[None],
    "no width": lambda vectors: vectors[:, :0],
    "complex": lambda vectors: vectors.astype("complex64"),
    "texts": lambda vectors: vectors.astype(str),
}
#: What is no vector of ids.
_NO_IDS: dict[str, Callable[[Tensor], Any]] = {
    "one id": lambda ids: ids[0],
    "a table": lambda ids: ids[None],
    "floats": lambda ids: ids.astype("float64"),
    "texts": lambda ids: ids.astype(str),
}


def _check_ids(ids: Tensor, shape: tuple[int, ...], what: str) -> None:
    import numpy as np

    assert isinstance(ids, np.ndarray), f"{what} returned a {type(ids).__name__}, not an array"
    assert ids.dtype == np.int64, f"{what} returned ids of {ids.dtype}, not int64"
    assert ids.shape == shape, f"{what} returned ids of shape {ids.shape}, not {shape}"


def _check_own(index: Index, vectors: Tensor, ids: Tensor, why: str) -> None:
    """Assert that each vector is its own nearest neighbour."""
    found, _ = index.search(FakeContext(), vectors, k=1)
    assert found[:, 0].tolist() == ids.tolist(), (
        f"vectors {ids.tolist()} found {found[:, 0].tolist()} instead of themselves; {why}"
    )


def _bits(found: Found) -> tuple[bytes, bytes]:
    return found[0].tobytes(), found[1].tobytes()


def _frozen(index: Index) -> tuple[dict[str, bytes], str]:
    state = index.save()
    return {name: tensor.tobytes() for name, tensor in state.tensors.items()}, repr(state.data)
