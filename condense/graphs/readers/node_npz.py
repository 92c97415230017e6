"""One graph in a plain `.npz`: features in compressed rows, edges, labels and three index sets, no pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condense.graphs.readers.raw import RawNodes, checked_parts
from condense.runtime.errors import CondenseError
from condense.runtime.numpy_files import MOST_BYTES, NpzFile, only_names

_WANTED = (
    "an .npz with attr_data, attr_indices, attr_indptr and attr_shape (features in compressed rows) or features, edges "
    "[E, 2], labels, and perhaps idx_train, idx_val and idx_test"
)
_SPARSE = ("attr_data", "attr_indices", "attr_indptr", "attr_shape")
_SPLIT = ("idx_train", "idx_val", "idx_test")


def read_node_npz(path: Path) -> RawNodes:
    """Read the file; each edge stands there in one direction or in both, and label -1 says that a node has none.

    Raises `CondenseError` for pickled objects, for arrays that lack or do not fit together, and for more than is read.
    """
    file, name = NpzFile(path, _WANTED), path.stem
    lacking = [key for key in ("edges", "labels") if key not in file.names]
    if lacking:
        raise CondenseError(f"{path} lacks {' and '.join(lacking)}, it has {only_names(file.names)}; give {_WANTED}")
    labels = _whole(file.array("labels"), "labels", path)
    if labels.ndim != 1 or not len(labels):
        raise CondenseError(f"the labels of {path} have shape {list(labels.shape)}; they are one for each node")
    edges = _whole(file.array("edges"), "edges", path)
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise CondenseError(f"the edges of {path} have shape {list(edges.shape)}; they are [E, 2]")
    features = _features(file, path, len(labels))
    classes = tuple(str(label) for label in range(int(labels.max()) + 1)) if labels.max() < len(labels) else ()
    parts = None
    if all(key in file.names for key in _SPLIT):
        parts = checked_parts([_whole(file.array(key), key, path) for key in _SPLIT], len(labels), name)
    return RawNodes(name=name, features=features, edges=edges.T, labels=labels, classes=classes, parts=parts)


def _whole(array: np.ndarray, what: str, path: Path) -> np.ndarray:
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 8:
        raise CondenseError(f"the {what} of {path} are {array.dtype}; they are whole numbers")
    return array.astype(np.int64)


def _features(file: NpzFile, path: Path, nodes: int) -> np.ndarray | None:
    """Float32 [n, F], from compressed rows or as they are; None where there are none."""
    if "features" in file.names:
        features = file.array("features")
        if features.dtype.kind not in "biuf" or features.ndim != 2 or len(features) != nodes:
            raise CondenseError(f"the features of {path} are no numbers [{nodes}, F]")
        return features.astype(np.float32)
    if not any(key in file.names for key in _SPARSE):
        return None
    lacking = [key for key in _SPARSE if key not in file.names]
    if lacking:
        raise CondenseError(f"{path} lacks {' and '.join(lacking)}; give {_WANTED}")
    values = file.array("attr_data")
    columns, pointers, shape = (_whole(file.array(key), key, path) for key in _SPARSE[1:])
    if shape.shape != (2,) or shape[0] != nodes or not 0 < shape[1] <= MOST_BYTES // (4 * nodes):
        raise CondenseError(
            f"attr_shape of {path} is {shape.tolist()[:4]}; it is [{nodes}, F], at most {MOST_BYTES:,} bytes"
        )
    return dense_rows(values, columns, pointers, (nodes, int(shape[1])), f"the features of {path}")


def dense_rows(
    values: np.ndarray, columns: np.ndarray, pointers: np.ndarray, shape: tuple[int, int], what: str
) -> np.ndarray:
    """Float32 `shape` of compressed rows; raises `CondenseError` where pointers and columns do not fit it."""
    fits = (
        pointers.shape == (shape[0] + 1,)
        and columns.ndim == 1
        and values.shape == columns.shape
        and values.dtype.kind in "biuf"
        and pointers[0] == 0
        and pointers[-1] == len(columns)
        and bool((np.diff(pointers) >= 0).all())
        and (not len(columns) or 0 <= int(columns.min()) <= int(columns.max()) < shape[1])
    )
    if not fits:
        raise CondenseError(f"{what} are no compressed rows of {list(shape)}: pointers, columns and values do not fit")
    dense = np.zeros(shape, np.float32)
    dense[np.repeat(np.arange(shape[0]), np.diff(pointers)), columns] = values
    return dense
