"""Training in double precision."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.plugins import DoublePrecision

from skelgraph.batch import Batch


class DoubleBatches(DoublePrecision):
    """Lightning's ``64-true`` for our batches: it converts fields in place, and a `Batch` is never changed in place."""

    def convert_input(self, data: Any) -> Any:
        if isinstance(data, Batch):
            return data.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
        return super().convert_input(data)
