"""What a store's files hold: the columns of a shard and ``meta.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from skelgraph.data.content_hash import RollingHash
from skelgraph.errors import UserError

VERSION = 1
Splits = dict[str, dict[str, list[str]]]
Kind = Literal["frames", "sequence", "features"]
MODALITY = "modality_"
ModalityType = Literal["float32", "float64", "uint8", "int16", "uint16", "int32"]
MODALITY_DTYPES: tuple[str, ...] = get_args(ModalityType)


class Shard(BaseModel):
    """One Arrow file and how many clips it has, so that opening a store reads no shard."""

    file: str = Field(pattern=r"^(shard-\d+-of-\d+/)?clips-\d+\.arrow$")
    clips: int = Field(ge=0)


class ModalityFacts(BaseModel):
    """What a further modality is.

    Attributes:
        kind: ``frames`` (pictures: height, width and perhaps channels of each step), ``sequence`` (samples of a sensor)
            or ``features`` (what somebody's network made of each step).
        unit: of the values.
        rate: steps a second, where constant and known.
        lag: how many of its own steps it is late against the skeleton.
        spans: first and last step belong to first and last frame of the skeleton, whatever rates and lengths say.
        holes: 0 means that there is no value, as in depth pictures; None = so it is for integers of more than 8 bits.
        mirror: signs that make the values of a step those of a mirror image; None = only frames have one.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    unit: str = ""
    rate: float | None = Field(None, gt=0)
    lag: float = 0.0
    spans: bool = False
    holes: bool | None = None
    mirror: list[float] | None = None


class Meta(BaseModel):
    """``meta.json``.

    Attributes:
        schema_version: of this layout.
        topology: the joint layout, whole, so that a store needs no other file; its name under ``name``.
        dims: coordinates a joint has.
        units: of the coordinates, e.g. ``pixels`` or ``metres``.
        up: the axis that points up, e.g. ``+y`` or ``-y``; None = unknown.
        source, terms: where the data come from and what may be done with them.
        steps: every preprocessing step with its parameters, in order.
        modalities: dtype of each further column.
        modality_facts: what each of them is; without facts that follows from the first clip that has it.
        demo: made by a generator; every figure measured on it must say so.
        clips, shards: how many clips, in which files.
        clips_hash: of the clips alone, in order (`RollingHash`); empty in stores of earlier versions.
        content_hash: of clips, classes, joints and splits; independent of how clips lie in shards.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: int = VERSION
    topology: dict[str, Any]
    dims: Literal[2, 3]
    units: str = ""
    up: str | None = None
    source: str = ""
    terms: str = ""
    steps: list[dict[str, Any]] = Field(default_factory=list)
    modalities: dict[str, ModalityType] = Field(default_factory=dict)
    modality_facts: dict[str, ModalityFacts] = Field(default_factory=dict)
    demo: bool = False
    clips: int = 0
    shards: list[Shard] = Field(default_factory=list)
    clips_hash: str = ""
    content_hash: str = ""

    def set_hash(self, clips: RollingHash, classes: Sequence[str], splits: Mapping[str, Any]) -> None:
        """Both hashes, once everything is known."""
        facts = {name: item.model_dump() for name, item in sorted(self.modality_facts.items())}
        self.clips_hash = clips.text
        self.content_hash = clips.content(self.topology.get("joints"), list(classes), splits, facts)

    def differences(self, other: Meta) -> list[str]:
        """In what another store differs so that the clips of both cannot stand side by side."""
        pairs = {
            "joints": (self.topology.get("joints"), other.topology.get("joints")),
            "dims": (self.dims, other.dims),
            "units": (self.units, other.units),
            "modalities": (self.modalities, other.modalities),
            "facts on modalities": (self.modality_facts, other.modality_facts),
        }
        return [what for what, (one, another) in pairs.items() if one != another]

    @classmethod
    def read(cls, path: Path) -> Meta:
        """Read ``meta.json``.

        Raises:
            UserError: absent, damaged, or of a later version; names the file.
        """
        try:
            meta = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            shares = sorted(path.parent.glob("shard-*-of-*/meta.json"))
            if shares:
                count = int(shares[0].parent.name.rpartition("-")[2])
                raise UserError(
                    f"{path.parent}: {len(shares)} of {count} shards are there; it is one store once all are imported."
                ) from None
            raise UserError(
                f"{path.parent}: no store there ({path.name}: {error.strerror}); make one with 'skelgraph data import'."
            ) from None
        except (ValidationError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: damaged ({str(error).splitlines()[0]}).") from None
        if meta.schema_version > VERSION:
            raise UserError(f"{path}: written by a later skelgraph (schema {meta.schema_version}, known: {VERSION}).")
        return meta


def read_classes(folder: Path) -> list[str]:
    """``classes.json`` of a store.

    Raises:
        UserError: absent or damaged; names the file.
    """
    return _read(folder / "classes.json", TypeAdapter(list[str]))


def read_splits(folder: Path) -> Splits:
    """``splits.json`` of a store.

    Raises:
        UserError: absent or damaged; names the file.
    """
    return _read(folder / "splits.json", TypeAdapter(Splits))


def _read(path: Path, kind: TypeAdapter[Any]) -> Any:
    try:
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise UserError(f"{path}: damaged ({fault['msg'][:100]}).") from None


def columns(modalities: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of a shard.

    A modality is a nullable struct: either ``values`` (flat, row-major) with their ``shape``, or the ``path`` of a
    file, absolute or relative to the store; perhaps ``times``, the seconds of each step.
    """
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    segment = pa.struct([("start", whole), ("end", whole), ("label", whole)])
    fields = [
        pa.field("name", text, nullable=False),
        pa.field("label", whole),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("persons", pa.int32(), nullable=False),
        pa.field("fps", number),
        pa.field("timestamps", pa.large_list(number)),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        *(pa.field(name, text) for name in ("subject", "camera", "setup", "group")),
        pa.field("segments", pa.list_(segment)),
        pa.field("keypoints", pa.large_list(pa.float32()), nullable=False),
        pa.field("score", pa.large_list(pa.float32()), nullable=False),
    ]
    for name, dtype in modalities.items():
        values = pa.large_list(pa.from_numpy_dtype(dtype))
        parts = [("shape", pa.list_(whole)), ("values", values), ("path", text), ("times", pa.large_list(number))]
        fields.append(pa.field(modality_column(name), pa.struct(parts)))
    return pa.schema(fields)


def modality_column(name: str) -> str:
    """Name of the column that holds modality ``name``."""
    return f"{MODALITY}{name}"
