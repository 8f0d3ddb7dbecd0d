"""The contract with Telnyx as JSON Schema: what the service may send and what it may get."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from tests.support.databases import ROOT

SCHEMAS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((ROOT / "tests" / "contract" / "schemas").glob("*.json"))
}
"""By the name of the file."""

_REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
)


@cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks documents, formats included."""
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(SCHEMAS[name], registry=_REGISTRY, format_checker=checker)


def faults_of(name: str, document: object) -> list[str]:
    """Return where and why a document does not fit; empty = it does."""
    return [f"{each.json_path}: {each.message}" for each in validator(name).iter_errors(document)]


def check(name: str, document: object) -> None:
    """Fail where a document does not fit."""
    assert not faults_of(name, document), (name, faults_of(name, document), document)
