"""Argument checks that say which argument is wrong, what was expected and what came."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike


def check_array(name: str, value: ArrayLike, shape: tuple[int | None, ...], dtype: type = np.float64) -> np.ndarray:
    """Return `value` as a finite array of this shape.

    Args:
        name: The argument's name, for the message.
        value: Anything that numpy turns into an array.
        shape: Expected shape; None stands for any length.
        dtype: Type of the returned array.

    Raises:
        ValueError: Another shape, or a value that is not finite.
    """
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers of shape {list(shape)}, got {value!r}.") from error
    fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(array.shape)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got NaN or infinity.")
    return array


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above zero.

    Raises:
        ValueError: It is not.
    """
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a number above zero, got {value}.")
    return value


def check_choice(name: str, value: str, choices: Collection[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: It is not.
    """
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}.")
    return value
