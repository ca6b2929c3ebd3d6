"""A model's input as JSON Schema (2020-12), made from the fields that validation goes by (pure).

What it says of a named field is what `validate_input` holds to; names it does not know pass through, there as here.
"""

from __future__ import annotations

from typing import Any

from safelight.providers.base import JSON
from safelight.providers.model import Field, Model
from safelight.providers.model_input import TEXT_LENGTH_MAX, URL_LENGTH_MAX


def input_schema(model: Model) -> JSON:
    """Of `input` in a submit. The start image may come beside it, so it is never required here."""
    properties = {field.name: _property(field) for field in model.fields}
    properties |= {name: {"const": value} for name, value in model.extra.items()}
    required = [
        field.name
        for field in model.fields
        if field.required and field.default is None and field.name != model.start_field
    ]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": model.name,
        "type": "object",
        "properties": properties,
        "required": required,
    }


def _property(field: Field) -> JSON:
    about: JSON = {"title": field.label}
    if field.help is not None:
        about["description"] = field.help
    if field.default is not None:
        about["default"] = field.default
    return about | _shape(field)


def _shape(field: Field) -> JSON:
    match field.type:
        case "text":
            blank = {"pattern": r"\S"} if field.required else {}
            return {"type": "string", "maxLength": field.max_length or TEXT_LENGTH_MAX, **blank}
        case "int" | "number":
            return {"type": "integer" if field.type == "int" else "number", **_bounds(field)}
        case "bool":
            return {"type": "boolean"}
        case "select":
            options: JSON = {"enum": list(field.options or ())}
            return {"anyOf": [options, _size(field)]} if field.custom_size else options
        case "image":
            one: JSON = {"type": "string", "anyOf": [_HTTP_URL, {"pattern": "^data:image/"}]}
            return {"anyOf": [one, {"type": "array", "items": one, **_count(field)}]} if field.many else one


_HTTP_URL: JSON = {"pattern": r"^https?://\S*$", "maxLength": URL_LENGTH_MAX}


def _bounds(field: Field) -> JSON:
    given: dict[str, Any] = {"minimum": field.min, "maximum": field.max}
    return {name: value for name, value in given.items() if value is not None}


def _count(field: Field) -> JSON:
    most = {} if field.max_items is None else {"maxItems": field.max_items}
    return {**({"minItems": 1} if field.required else {}), **most}


def _size(field: Field) -> JSON:
    side = {"type": "integer", **_bounds(field)}
    return {
        "type": "object",
        "properties": {"width": side, "height": side},
        "required": ["width", "height"],
        "additionalProperties": False,
    }
