"""Clips as rows of an Arrow record batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from skelgraph.data.clip import Clip
from skelgraph.data.schema import Meta, modality_column


def record_batch(clips: list[Clip], meta: Meta, schema: pa.Schema) -> pa.RecordBatch:
    """Clips as one Arrow record batch in the order of ``schema``."""
    data: dict[str, Any] = {
        name: [getattr(clip, name) for clip in clips]
        for name in ("name", "label", "frames", "persons", "fps", "timestamps", "subject", "camera", "setup", "group")
    }
    data["height"] = [clip.image_size[0] if clip.image_size else None for clip in clips]
    data["width"] = [clip.image_size[1] if clip.image_size else None for clip in clips]
    data["segments"] = [
        None if clip.segments is None else [{"start": s, "end": e, "label": k} for s, e, k in clip.segments]
        for clip in clips
    ]
    data["keypoints"] = _flat([clip.keypoints for clip in clips])
    data["score"] = _flat([clip.score for clip in clips])
    for name, dtype in meta.modalities.items():
        data[modality_column(name)] = [_modality(clip, name, dtype) for clip in clips]
    arrays = [
        data[field.name] if isinstance(data[field.name], pa.Array) else pa.array(data[field.name], field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def _flat(arrays: list[np.ndarray]) -> pa.LargeListArray:
    """Arrays of any shape as one ``large_list<float32>``."""
    offsets = np.cumsum([0, *(item.size for item in arrays)], dtype=np.int64)
    values = np.concatenate([np.asarray(item, dtype=np.float32).ravel() for item in arrays])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))


def _modality(clip: Clip, name: str, dtype: str) -> dict[str, Any] | None:
    item, times = clip.modalities.get(name), clip.modality_times.get(name)
    if item is None:
        return None
    if not isinstance(item, np.ndarray):
        return {"shape": None, "values": None, "path": str(item), "times": times}
    return {"shape": list(item.shape), "values": item.astype(dtype).ravel(), "path": None, "times": times}
