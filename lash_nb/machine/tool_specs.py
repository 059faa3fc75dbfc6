"""Tools as a model is told of them: name, description, schemas, and how a schema is fitted to a provider's dialect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .wire import JSON, STRING, Codec, Json, array, enum, omit_empty, struct

__all__ = [
    "RUN_CODE",
    "TOOL_SCHEMA",
    "TOOL_SPEC",
    "LlmToolSpec",
    "ProjectionMode",
    "SchemaOverride",
    "SchemaProjection",
    "ToolSchema",
]

RUN_CODE = "run_code"
"""The tool by which a model that calls tools runs a cell in the managed kernel; drawn and recorded as a cell."""


class ProjectionMode(StrEnum):
    """How a tool's schema is fitted to a provider's dialect."""

    AUTO = "auto"
    EXPLICIT_ONLY = "explicit_only"
    EXACT = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaOverride:
    """A schema to use for one dialect instead of the canonical one."""

    dialect: str
    schema: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaProjection:
    """How a canonical schema becomes a provider's."""

    mode: ProjectionMode = ProjectionMode.AUTO
    overrides: tuple[SchemaOverride, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSchema:
    """A JSON Schema and how it may be projected."""

    canonical: Json
    projection: SchemaProjection = SchemaProjection()


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmToolSpec:
    """A tool as the model is told of it."""

    name: str
    description: str
    input_schema: ToolSchema
    output_schema: ToolSchema


_PROJECTION: Codec[SchemaProjection] = struct(
    SchemaProjection,
    mode=omit_empty(enum(ProjectionMode), ProjectionMode.AUTO),
    overrides=omit_empty(array(struct(SchemaOverride, dialect=STRING, schema=JSON))),
)
TOOL_SCHEMA: Codec[ToolSchema] = struct(
    ToolSchema, canonical=JSON, projection=omit_empty(_PROJECTION, SchemaProjection())
)
TOOL_SPEC: Codec[LlmToolSpec] = struct(
    LlmToolSpec, name=STRING, description=STRING, input_schema=TOOL_SCHEMA, output_schema=TOOL_SCHEMA
)
