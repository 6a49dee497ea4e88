"""The columns of several datasets together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from llm_distill.errors import DataError

if TYPE_CHECKING:
    from datasets import Features


def union(of: Mapping[str, Features], but: Collection[str] = ()) -> Features:
    """All columns with their types, in order of first appearance.

    Types that hold each other's values come together: null and any, whole numbers and fractions,
    objects of which one has more keys.

    Args:
        of: By stage, its columns.
        but: Columns that are left out.

    Raises:
        DataError: a column has types that do not fit together, such as text and a number.
    """
    import pyarrow as pa
    from datasets import Features

    found: dict[str, tuple[str, Any]] = {}
    for name, features in of.items():
        for field in features.arrow_schema:
            if field.name in but:
                continue
            first, before = found.get(field.name, (name, field))
            try:
                (both,) = pa.unify_schemas(
                    [pa.schema([before]), pa.schema([field])], promote_options="permissive"
                )
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise DataError(
                    f"column '{field.name}' is {before.type} in '{first}' and {field.type} in "
                    f"'{name}'; give one of them another name, or both the same type, where they "
                    "are made (columns of load_dataset)"
                ) from error
            found[field.name] = first, both
    return Features.from_arrow_schema(pa.schema([field for _, field in found.values()]))
