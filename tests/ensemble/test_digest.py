# SPDX-License-Identifier: BSD-3-Clause
from __future__ import annotations

import collections
import copy
import enum
import functools
import hashlib
import io
import json
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import Bunch, all_estimators

from sksmooth.ensemble._digest import digest
from sksmooth.exceptions import DigestError

# --- states made by hand --------------------------------------------------------------------------


class Plain:
    def __init__(self, **state):
        vars(self).update(state)

    def method(self):
        return self


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left, right):
        self.left, self.right = left, right


class Forgetful(BaseEstimator):
    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "cache"}


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    SMALL = 1


class Name(str):
    pass


class Marked(set):
    pass


Point = collections.namedtuple("Point", "x y")


def double(x):
    return 2 * x


A = np.array([[0.5, -1.25, 3e30], [0.0, -0.0, 2.0**-1074]])
RECORDS = np.array([(1, -2.5), (255, 0.1)], dtype=[("a", "u1"), ("b", "<f8")])

# Worked out once, on little-endian Linux with numpy 2.4; no library has a say in them. A change
# here changes the noise of every ensemble that was ever fitted: give _FORMAT a new number then.
VECTORS = {
    "scalars": (
        [None, True, False, 0, -1, 2**70, 1.5, -0.0, "aé\0", b"\x00b"],
        "357395c0d173cf0254f2f32dfc236d09710b9f41b161c6f74d1bbd8bfd94104e",
    ),
    "nested": (
        {"b": [1, (2, {"x": None})], "a": {3, "3", 3.5}, "c": {1: "one", (2, 3): []}},
        "62e1a28bb43831a0dd58e437e9ea5575ddcf061adb6d7d18056cfdd410fb0a66",
    ),
    "floats": (A, "8f46b80754d74d88b3a876b3fcc221123fcddafcb1683ecf8b5e89c2c130034d"),
    "big-endian": (
        A.astype(">f8"),
        "8f46b80754d74d88b3a876b3fcc221123fcddafcb1683ecf8b5e89c2c130034d",
    ),
    "columns first": (
        np.asfortranarray(A),
        "8f46b80754d74d88b3a876b3fcc221123fcddafcb1683ecf8b5e89c2c130034d",
    ),
    "single": (A.astype("f4"), "b52e4ac4630d061d0c7befd93ce7377d4c08cbe703c1f3445e37860e28d00135"),
    "integers": (
        np.arange(-3, 3, dtype="i8").reshape(3, 2),
        "93777d744306ea428b6f7b3bd963dd89fe74dabe459eb11f6a1f347a860e307c",
    ),
    "text": (
        np.array(["ham", "spam"]),
        "43df7f2cd3738f527c588cb0e5e879db7bb11c42b766d667594184855ab4c9b4",
    ),
    "records": (RECORDS, "8f3ae008e72a084acaca79853dc2f2a68b2a8e9bbaaa74b4b05f9a0cc74cd2bb"),
    "objects": (
        np.array([1, "a", None, (2.5,)], dtype=object),
        "87b49c138ec041f8ce19daaca9a24bfd19d3442ed41d6357402570c3fa4c967e",
    ),
    "dates": (
        np.array(["2020-02-29"], dtype="M8[D]"),
        "be63b7048cc1e7bfbacc0d710790c3a47e9e008c0ff418047c9f725c35611ba4",
    ),
    "object": (
        Plain(coef_=A[0], classes_=["ham", "spam"], kind=Colour.RED),
        "e968e75cd42c7c8a101a4e4e96f6359fc449cc61a81f8d8d810fa1dea4b97fac",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_fixed_vectors(name):
    state, expected = VECTORS[name]
    assert digest(state).hex() == expected


# --- a second implementation, straight from the description of the encoding -----------------------


def size(n):
    return struct.pack("<Q", n)


def naive_text(text):
    return size(len(text.encode())) + text.encode()


def naive(value):
    """Every byte that goes into the hash, for plain states; nothing is shared with the package."""
    kind = type(value)
    if value is None:
        return b"N"
    if kind is bool:
        return b"1" if value else b"0"
    if kind is int:
        n = 1
        while not -(2 ** (8 * n - 1)) <= value < 2 ** (8 * n - 1):
            n += 1
        # bit_length takes -128 for eight bits and a sign: one byte more than two's complement needs
        n += value == -(2 ** (8 * n - 1))
        return b"i" + size(n) + (value % 256**n).to_bytes(n, "little")
    if kind is float:
        return b"n" if value != value else b"f" + struct.pack("<d", value)
    if kind is str:
        return b"s" + naive_text(value)
    if kind is bytes:
        return b"b" + size(len(value)) + value
    if kind in (list, tuple):
        return (b"l" if kind is list else b"t") + size(len(value)) + b"".join(map(naive, value))
    if kind is dict and all(type(k) is str for k in value):
        entries = (naive_text(k) + naive(value[k]) for k in sorted(value))
        return b"d" + size(len(value)) + b"".join(entries)
    if kind is dict:
        return b"D" + naive_unordered(naive(k) + naive(v) for k, v in value.items())
    if kind in (set, frozenset):
        return (b"S" if kind is set else b"F") + naive_unordered(map(naive, value))
    assert kind is np.ndarray
    little = value.astype(value.dtype.newbyteorder("<"))
    head = b"aP" + naive_text(little.dtype.str) + size(value.ndim)
    return head + b"".join(map(size, value.shape)) + little.tobytes(order="C")


def naive_unordered(encoded):
    found = sorted(hashlib.sha256(e).digest() for e in encoded)
    return size(len(found)) + b"".join(found)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-300, 300)
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
)
ARRAYS = hnp.arrays(
    st.sampled_from(["<f8", ">f8", "<f4", "<i4", ">i8", "u1", "?", "<c16", ">c8", "S3"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
# Few values, so that two draws are often alike, or alike but for a type or a bracket.
FEW = st.sampled_from([None, False, True, 0, 1, 0.0, 1.0, -0.0, "", "0", "1", b"", b"0", b"1"])


def nested(leaves):
    keys = st.sampled_from(["", "0", "a", "b", 0, 1, (0,), None])
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(keys, inner, max_size=3)
            | st.sets(FEW, max_size=3)
            | st.frozensets(FEW, max_size=3)
        ),
        max_leaves=8,
    )


@given(nested(LEAVES | ARRAYS))
def test_agrees_with_the_naive_encoding(state):
    assert digest(state) == hashlib.sha256(b"sksmooth digest 1\n" + naive(state)).digest()


def same(a, b):
    """Whether two plain states are one: the same types all the way, and the same bits."""
    if type(a) is not type(b):
        return False
    if type(a) is float:
        return struct.pack("<d", a) == struct.pack("<d", b)
    if type(a) in (list, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) in (set, frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if type(a) is dict:
        return len(a) == len(b) and all(
            any(same(k, m) and same(v, w) for m, w in b.items()) for k, v in a.items()
        )
    return a == b


@given(nested(FEW), nested(FEW))
def test_equal_digests_mean_equal_states(a, b):
    assert (digest(a) == digest(b)) == same(a, b)


@given(nested(FEW), st.randoms(use_true_random=False))
def test_the_order_of_dicts_does_not_matter(state, random):
    def shuffled(value):
        if type(value) is dict:
            keys = list(value)
            random.shuffle(keys)
            return {k: shuffled(value[k]) for k in keys}
        return type(value)(map(shuffled, value)) if type(value) in (list, tuple) else value

    assert digest(shuffled(state)) == digest(state)


# Neighbours that an encoding without types or lengths would mix up: all digests differ.
DIFFERENT = [
    [1, 1.0, True, "1", b"1", np.int64(1), np.int32(1), np.float64(1), np.bool_(True), 1 + 0j],
    [np.array(1), np.array([1]), np.array([[1]]), np.array([1], "i4"), np.array([1.0]), [1], (1,)],
    [np.zeros((2, 3)), np.zeros((3, 2)), np.zeros(6), np.zeros((2, 3, 1)), np.zeros((0, 6))],
    [np.zeros((0, 2)), np.zeros((2, 0)), np.zeros((0, 2), "f4"), np.zeros(0), [], (), {}, set()],
    [["ab"], ["a", "b"], [["a"], "b"], ["", "ab"], ["ab", ""]],
    [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 5e-324],
    [np.array([0.0]), np.array([-0.0]), np.array([np.nan]), -np.array([np.nan])],
    [np.array(["a", "b"]), np.array(["a", "b"], "U2"), np.array([b"a", b"b"]), ["a", "b"]],
    [np.array(["a", "b"], object), np.array([["a"], ["b"]], object), np.array(["a", None], object)],
    [np.zeros(2, [("a", "f8")]), np.zeros(2, [("b", "f8")]), np.zeros(2, [("a", "i8")])],
    [np.zeros(1, [("a", "f8", 2)]), np.zeros(1, [("a", "f8", (1, 2))]), np.zeros(1, "f8,f8")],
    [np.array([0], "M8[D]"), np.array([0], "M8[s]"), np.array([0], "m8[D]"), np.array([0])],
    [np.dtype("f8"), np.dtype("f4"), "f8", np.float64, np.dtype([("a", "f8")])],
    [{"a": 1, "b": 2}, {"a": 2, "b": 1}, {"a": 1}, {"a": 1, "b": None}, Bunch(a=1, b=2)],
    [Plain(a=1, b=2), Plain(a=2, b=1), {"a": 1, "b": 2}, Slotted(1, 2), Slotted(2, 1)],
    [{1: 2}, {"1": 2}, {2: 1}, {1: 2, 3: 4}, {1: 4, 3: 2}, {(1,): 2}],
    [{1, 2}, frozenset([1, 2]), [1, 2], {1}, Marked([1, 2])],
    [Point(1, 2), Point(2, 1), (1, 2)],
    [Colour.RED, Colour.BLUE, Size.SMALL, 1, "RED"],
    [Name("a"), Name("b"), "a"],
    [double, digest, np.log1p, np.log, expit, np.mean, len, int, dict, Plain, double.__name__],
    [functools.partial(double), functools.partial(double, 1), functools.partial(double, x=1)],
    [slice(1, 2), slice(1, 2, 1), slice(2), range(1, 2), range(2)],
    [Plain(a=1).method, Plain(a=2).method, "a".upper, "a".lower, dict.fromkeys, str.upper],
    [collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1), {"a": 1, "b": 2}],
    [collections.deque([1]), collections.deque([1], 2), [1]],
    [collections.defaultdict(list, a=1), collections.defaultdict(int, a=1), {"a": 1}],
    [collections.Counter("ab"), collections.Counter("abb")],
    [re.compile("a"), re.compile("b"), re.compile("a", re.IGNORECASE)],
    [sp.csr_matrix(np.eye(2)), sp.csc_matrix(np.eye(2)), sp.csr_matrix(np.eye(2, 3)), np.eye(2)],
    [sp.csr_matrix(np.eye(2, dtype="f4")), sp.csr_matrix(2 * np.eye(2)), sp.csr_matrix((2, 2))],
    [np.random.RandomState(0), np.random.RandomState(1), np.random.default_rng(0)],
    [np.random.default_rng(1), np.random.Generator(np.random.Philox(1)), np.random.PCG64(1)],
    [np.ma.array([1.0, 2.0], mask=[0, 1]), np.ma.array([1.0, 2.0], mask=[1, 0]), np.ones(2)],
    [np.array([[1.0]]).view(np.matrix), np.array([[1.0]])],
    [np.longdouble(1), np.longdouble(1) + np.finfo(np.longdouble).eps, 1.0],
    [pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), pd.DataFrame({"a": [1.0]}), {"a": [1]}],
    [pd.Series([1, 2]), pd.Series([2, 1]), pd.Series([1, 2], name="a"), pd.Series([1, 2], [1, 0])],
    [pd.Series(["a"], dtype="category"), pd.Series(["a"]), pd.Categorical(["a"])],
    [pd.CategoricalIndex(["a"], ["a", "b"]), pd.CategoricalIndex(["a"], ["b", "a"])],
    [pd.Index([1, 2]), pd.Index([1.0, 2.0]), pd.Index([1, 2], name="n"), pd.RangeIndex(1, 3)],
    [LogisticRegression(), LogisticRegression(C=2), SVC(), LogisticRegression, {}],
]


@pytest.mark.parametrize("states", DIFFERENT, ids=lambda states: type(states[0]).__name__)
def test_tells_apart(states):
    found = [digest(state) for state in states]
    assert len(set(found)) == len(found)
    # Each is a function of the state alone, and survives being stored.
    assert [digest(copy.deepcopy(state)) for state in states] == found
    assert [digest(pickle.loads(pickle.dumps(state))) for state in states] == found


# --- what is layout and not state -----------------------------------------------------------------


def garbage_in_the_padding(seed):
    dtype = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    assert dtype.itemsize == 16
    raw = np.frombuffer(np.random.default_rng(seed).bytes(48), dtype).copy()
    raw["a"], raw["b"] = [1, 2, 3], [0.1, 0.2, 0.3]
    return raw


def extended_with_garbage(seed):
    x = np.array([1.5, -2.25], dtype=np.longdouble)
    if np.finfo(np.longdouble).nmant == 63:
        x.view("u1").reshape(2, -1)[:, 10:] = seed
    return x


def memory_mapped(tmp):
    mapped = np.memmap(tmp, dtype="f8", mode="w+", shape=A.shape)
    mapped[:] = A
    return mapped


def masked_over(value):
    return np.ma.array([1.0, value], mask=[False, True])


NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000123))[0]
SHARED = [1, 2]
ONE_STATE = {
    "byte order": [A, A.astype(">f8")],
    "byte order of dtypes": [np.dtype("<f8"), np.dtype(">f8")],
    "byte order of scalars": [np.float64(1.5), np.array([1.5], ">f8")[0]],
    "byte order of fields": [RECORDS, RECORDS.astype([("a", "u1"), ("b", ">f8")])],
    "byte order of text": [np.array(["ab"], "<U3"), np.array(["ab"], ">U3")],
    "columns first": [A, np.asfortranarray(A)],
    "strides": [A, np.repeat(A, 2, axis=1)[:, ::2], A[:, ::-1].copy()[:, ::-1]],
    "strides of objects": [
        np.array([[1, 2], [3, 4]], object),
        np.array([[1, 3], [2, 4]], object).T,
    ],
    "read only": [A, np.frombuffer(A.tobytes()).reshape(A.shape)],
    "offsets": [RECORDS, RECORDS.astype(np.dtype([("a", "u1"), ("b", "f8")], align=True))],
    "padding": [garbage_in_the_padding(0), garbage_in_the_padding(1)],
    "padding of extended floats": [extended_with_garbage(0), extended_with_garbage(255)],
    "nan of Python": [float("nan"), -float("nan"), NAN],
    "shared references": [[SHARED, SHARED], [[1, 2], [1, 2]]],
    "order of attributes": [Plain(a=1, b=2), Plain(b=2, a=1)],
    "order of keys": [{2: "b", 1: "a"}, {1: "a", 2: "b"}],
    "order of sets": [{8, 0, "a"}, {"a", 0, 8}],
    "under a mask": [masked_over(2.0), masked_over(np.nan)],
    "order of entries": [
        sp.csr_matrix(([3.0, 1.0, 2.0], [1, 0, 2], [0, 2, 3]), shape=(2, 3)),
        sp.csr_matrix(([1.0, 3.0, 2.0], [0, 1, 2], [0, 2, 3]), shape=(2, 3)),
        sp.csr_matrix(([1.0, 1.0, 2.0, 2.0], [0, 1, 1, 2], [0, 3, 4]), shape=(2, 3)),
        sp.csr_array(([1.0, 3.0, 2.0], [0, 1, 2], [0, 2, 3]), shape=(2, 3)),
    ],
}


@pytest.mark.parametrize("name", ONE_STATE)
def test_one_state(name):
    assert len({digest(state) for state in ONE_STATE[name]}) == 1


def test_memory_maps_are_arrays():
    with tempfile.TemporaryFile() as file:
        assert digest(memory_mapped(file)) == digest(A)


def test_sparse_matrices_are_left_as_they_are():
    state = sp.csr_matrix(([1.0, 1.0, 2.0, 2.0], [1, 0, 1, 2], [0, 3, 4]), shape=(2, 3))
    before = state.data.copy(), state.indices.copy(), state.indptr.copy()
    digest(state)
    for old, new in zip(before, (state.data, state.indices, state.indptr), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_masked_array_is_left_as_it_is():
    state = masked_over(2.0)
    digest(state)
    np.testing.assert_array_equal(state.data, [1.0, 2.0])
    assert state._fill_value is None  # made only when asked for


def test_what_a_class_leaves_out_of_its_state_is_left_out():
    kept, filled = Forgetful(), Forgetful()
    filled.cache = object()
    assert digest(kept) == digest(filled)
    filled.coef_ = 1.0
    assert digest(kept) != digest(filled)


def test_the_version_of_scikit_learn_has_no_say(monkeypatch):
    model = make_pipeline(StandardScaler(), CalibratedClassifierCV(GaussianNB(), method="isotonic"))
    model.fit(X, Y)
    before, state = digest(model), pickle.dumps(model)
    monkeypatch.setattr("sklearn.base.__version__", "0.1")
    assert pickle.dumps(model) != state
    assert digest(model) == before


# --- fitted estimators ----------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
Y = (X[:, 0] + 0.5 * RNG.normal(size=40) > 0).astype(int)
MIXED = np.column_stack([np.abs(X[:, :3]), RNG.integers(0, 3, 40)])
FRAME = pd.DataFrame(MIXED, columns=list("abcd"))
FRAME["d"] = FRAME["d"].map({0.0: "u", 1.0: "v", 2.0: "w"}).astype("category")

LINEAR, TREE = LogisticRegression(), DecisionTreeClassifier(max_depth=3, random_state=0)
# What all_estimators leaves to fill in; by position, because some names changed.
FIRST = {
    **dict.fromkeys(
        ["ClassifierChain", "MultiOutputClassifier", "FixedThresholdClassifier"], LINEAR
    ),
    **dict.fromkeys(["OneVsOneClassifier", "OneVsRestClassifier", "OutputCodeClassifier"], LINEAR),
    **dict.fromkeys(["SelfTrainingClassifier", "TunedThresholdClassifierCV"], LINEAR),
    **dict.fromkeys(["StackingClassifier", "VotingClassifier"], [("a", LINEAR), ("b", TREE)]),
}
SMALLER = {"n_estimators": 8, "max_iter": 20}


def columns(scaled, logged, encoded):
    return ColumnTransformer(
        [
            ("scale", StandardScaler(), scaled),
            ("log", FunctionTransformer(np.log1p), logged),
            ("encode", OneHotEncoder(), encoded),
        ]
    )


def every_classifier():
    found = {}
    for name, cls in all_estimators("classifier"):
        with warnings.catch_warnings():
            # Some say when they are made that they will go.
            warnings.simplefilter("ignore", FutureWarning)
            model = cls(*[FIRST[name]] if name in FIRST else [])
        params = model.get_params(deep=False)
        changes = {k: v for k, v in SMALLER.items() if isinstance(params.get(k), int)}
        if "random_state" in params:
            changes["random_state"] = 0
        found[name] = model.set_params(**changes), np.abs(X)
    return found


MORE = {
    "k-d tree": (KNeighborsClassifier(algorithm="kd_tree"), X),
    "ball tree": (KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"), X),
    "isotonic": (CalibratedClassifierCV(GaussianNB(), method="isotonic"), X),
    "sparse": (SVC(), sp.csr_matrix(X)),
    "boosted categories": (HistGradientBoostingClassifier(max_iter=5, random_state=0), FRAME),
    "search": (GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1]}), X),
    "search with gaps": (GridSearchCV(SVC(), [{"C": [0.1]}, {"kernel": ["linear"]}]), X),
    "random search": (RandomizedSearchCV(TREE, {"max_depth": [2, 3]}, n_iter=2, random_state=0), X),
    "pipeline": (make_pipeline(columns([0, 1], [2], [3]), LINEAR), MIXED),
    "pipeline of a frame": (make_pipeline(columns(["a", "b"], ["c"], ["d"]), LINEAR), FRAME),
}
MODELS = every_classifier() | MORE
STORED_BY_SKOPS = [
    *["LogisticRegression", "GaussianNB", "SVC", "NuSVC", "LinearSVC", "AdaBoostClassifier"],
    *["DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier"],
    *["ExtraTreesClassifier", "GradientBoostingClassifier", "HistGradientBoostingClassifier"],
    *["MLPClassifier", "KNeighborsClassifier", "BaggingClassifier", "StackingClassifier"],
    *["pipeline", "isotonic", "search", "sparse"],
]


@functools.cache
def fitted(name):
    model, data = MODELS[name]
    y = np.column_stack([Y, 1 - Y]) if name in ("ClassifierChain", "MultiOutputClassifier") else Y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(model).fit(data, y)


# Classes that will go say so when an object of theirs is made, by pickle too.
@pytest.mark.filterwarnings("ignore:Class .* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", MODELS)
def test_stored_and_used_models_keep_their_digest(name):
    model, data = fitted(name), MODELS[name][1]
    before = digest(model)
    assert len(before) == 32
    once = pickle.loads(pickle.dumps(model, protocol=2))
    assert digest(once) == before
    assert digest(pickle.loads(pickle.dumps(once))) == before
    with tempfile.TemporaryDirectory() as folder:
        joblib.dump(model, f"{folder}/model")
        assert digest(joblib.load(f"{folder}/model")) == before
        mapped = joblib.load(f"{folder}/model", mmap_mode="r")
        assert digest(mapped) == before
        del mapped
    for method in ("predict", "predict_proba", "decision_function"):
        if hasattr(model, method):
            getattr(model, method)(data)
    assert digest(model) == before


@pytest.mark.parametrize("name", MODELS)
def test_the_same_training_gives_the_same_digest(name):
    before = digest(fitted(name))
    assert digest(fitted.__wrapped__(name)) == before
    # ... and another one gives another: the last row's label is changed.
    Y[-1] ^= 1
    try:
        assert digest(fitted.__wrapped__(name)) != before or name == "DummyClassifier"
    finally:
        Y[-1] ^= 1


@pytest.mark.parametrize("name", STORED_BY_SKOPS)
def test_skops(name):
    model = fitted(name)
    data = skops.io.dumps(model)
    loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    assert digest(loaded) == digest(model)


def test_torch_networks():
    torch = pytest.importorskip("torch", reason="the extra [torch] is not installed")
    from skorch import NeuralNetClassifier

    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    net = NeuralNetClassifier(layers, max_epochs=2, criterion=torch.nn.CrossEntropyLoss, verbose=0)
    net.fit(X.astype("f4"), Y)
    before = digest(net)
    loaded = pickle.loads(pickle.dumps(net))
    assert digest(loaded) == before
    net.predict(X.astype("f4"))
    assert digest(net) == before
    with torch.no_grad():
        weights = loaded.module_[2].weight.numpy()
        weights[1, 2] = np.nextafter(weights[1, 2], np.float32(np.inf))
    assert digest(loaded) != before
    with pytest.raises(DigestError, match="has no numpy array"):
        digest([torch.zeros(2, dtype=torch.bfloat16)])


@pytest.mark.slow
def test_another_process_finds_the_same_digests(tmp_path):
    states = {name: fitted(name) for name in MODELS}
    states["sets"] = [{f"key {i}" for i in range(50)}, frozenset(range(50)), Marked("abcdef")]
    states["keys"] = {(i, str(i)): i for i in range(50)}
    (tmp_path / "states").write_bytes(pickle.dumps(states))
    code = (
        "import json, pickle, sys, pathlib\n"
        "from sksmooth.ensemble._digest import digest\n"
        f"states = pickle.loads(pathlib.Path({str(tmp_path / 'states')!r}).read_bytes())\n"
        "print(json.dumps({name: digest(state).hex() for name, state in states.items()}))"
    )
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {n: digest(s).hex() for n, s in states.items()}


def one_ulp(array, index=0):
    flat = array.reshape(-1)
    assert np.shares_memory(flat, array)
    flat[index] = np.nextafter(flat[index], np.inf)


ULPS = {
    "LogisticRegression": lambda m: one_ulp(m.coef_),
    "GaussianNB": lambda m: one_ulp(m.var_),
    "SVC": lambda m: one_ulp(m.dual_coef_, -1),
    "DecisionTreeClassifier": lambda m: m.tree_.threshold.__setitem__(
        0, np.nextafter(m.tree_.threshold[0], np.inf)
    ),
    "RandomForestClassifier": lambda m: one_ulp(m.estimators_[-1].tree_.value, -1),
    "HistGradientBoostingClassifier": lambda m: (
        m._predictors[-1][0]
        .nodes["value"]
        .__setitem__(-1, np.nextafter(m._predictors[-1][0].nodes["value"][-1], np.inf))
    ),
    "MLPClassifier": lambda m: one_ulp(m.coefs_[1]),
    "k-d tree": lambda m: one_ulp(np.asarray(m._tree.data), 7),
    "sparse": lambda m: one_ulp(m.support_vectors_.data, 3),
    "pipeline": lambda m: one_ulp(m[0].named_transformers_["scale"].mean_, 1),
    "isotonic": lambda m: one_ulp(m.calibrated_classifiers_[0].calibrators[0].y_thresholds_),
}


@pytest.mark.parametrize("name", ULPS)
def test_one_ulp_changes_the_digest(name):
    model = pickle.loads(pickle.dumps(fitted(name)))
    before = digest(model)
    ULPS[name](model)
    assert digest(model) != before


# --- what cannot be walked over -------------------------------------------------------------------


def local_function():
    def inner():
        pass

    return inner


def local_class():
    class Inner:
        pass

    return Inner()


def pipeline_with(function):
    model = make_pipeline(StandardScaler(), FunctionTransformer(function), LogisticRegression())
    return model.fit(X, Y)


def itself():
    state = {"a": [1, Plain()]}
    state["a"][1].back = state
    return state


def deep():
    state = []
    for _ in range(100_000):
        state = [state]
    return state


def impostor():
    function = functools.partial(double).func
    copied = type(function)(function.__code__, {}, "double")
    copied.__module__, copied.__qualname__ = double.__module__, "double"
    return copied


FAILURES = {
    "lambda": (
        lambda: pipeline_with(lambda x: x),
        "Pipeline: steps[1][1].func, of type builtins.function, cannot be imported",
    ),
    "local function": (lambda: {"f": local_function()}, "['f'], of type builtins.function"),
    "local class": (
        lambda: [0, local_class()],
        "[1] (its arguments)[0], of type builtins.type, cannot be imported as 'local_class",
    ),
    "another of that name": (impostor, "the object itself, of type builtins.function"),
    "a kernel": (
        lambda: Plain(estimators_=[0, 1, 2, Plain(kernel=lambda a, b: a)]),
        "estimators_[3].kernel, of type",
    ),
    "lock": (lambda: Plain(lock=threading.Lock()), "lock, of type _thread.lock, cannot be taken"),
    "stream": (lambda: [io.BufferedReader(io.BytesIO())], "[0], of type _io.BufferedReader"),
    "generator": (lambda: [i for i in range(2)] + [(i for i in range(2))], "[2], of type"),
    "module": (lambda: (json,), "[0], of type builtins.module"),
    "global generator": (
        lambda: MLPClassifier(max_iter=2).fit(X, Y),
        "_random_state, of type numpy.random.mtrand.RandomState, is numpy's global generator",
    ),
    "cycle": (itself, "['a'][1].back, of type builtins.dict, contains itself"),
    "cycle of arrays": (
        lambda: (lambda a: a.__setitem__(0, a) or a)(np.empty(1, object)),
        "[0], of type numpy.ndarray, contains itself",
    ),
    "under a number": (lambda: {3: local_function()}, "[3], of type builtins.function"),
    "deep": (deep, "the object itself, of type builtins.list, is nested too deeply"),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FAILURES)
def test_an_object_without_a_digest_is_named(name):
    make, expected = FAILURES[name]
    with pytest.raises(DigestError) as caught:
        digest(make())
    message = str(caught.value)
    assert expected in message
    assert 'test_noise="seed"' in message
    assert isinstance(caught.value, TypeError)
    assert len(message) < 600


def test_a_failure_leaves_nothing_behind():
    state = [1, local_function()]
    for _ in range(2):
        with pytest.raises(DigestError, match=r"list: \[1\]"):
            digest(state)
    assert digest(state[:1]) == digest([1])


def test_the_same_object_twice_is_no_cycle():
    inner = Plain(a=1)
    assert digest([inner, inner, (inner,)]) == digest([Plain(a=1), Plain(a=1), (Plain(a=1),)])


def test_a_forest_of_the_paper_s_size():
    # A thousand trees: the walk is no deeper, and no state of one tree leaks into the next.
    forest = RandomForestClassifier(1000, max_depth=2, random_state=0).fit(X, Y)
    before = digest(forest)
    forest.estimators_[500], forest.estimators_[501] = forest.estimators_[501:499:-1]
    assert digest(forest) != before
