"""Providers described in TOML files (P2); docs/how-to/add-a-provider.md says how."""

from safelight.providers.http_template.provider import HttpTemplateProvider, capabilities_of
from safelight.providers.http_template.reading import Template, TemplateError, load_templates, read_template

__all__ = ["HttpTemplateProvider", "Template", "TemplateError", "capabilities_of", "load_templates", "read_template"]
