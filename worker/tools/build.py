"""Builds tools from their configuration; reports every fault in it at the start."""

import importlib
import json
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

from worker.domain.errors import SettingsError
from worker.domain.tools import ToolConfig
from worker.net.dial import tls_context
from worker.net.post_once import parse_url
from worker.net.proxy import proxy_for
from worker.net.signing import signer_from
from worker.tools.http import HttpTool
from worker.tools.python import PythonTool
from worker.tools.tool import Tool


def build_tools(configs: Mapping[str, ToolConfig], environ: Mapping[str, str]) -> dict[str, Tool]:
    """Build them all; imports the modules of functions.

    Raises `SettingsError`: one line that names the tool, the fault and the fix. `environ` has the
    variables of `secret_env`, and perhaps SSL_CERT_FILE and HTTPS_PROXY.
    """
    tls = cache(lambda: tls_context(environ))
    built: dict[str, Tool] = {}
    for name, config in configs.items():
        try:
            built[name] = _build(config, environ, tls)
        except ValueError as error:
            raise SettingsError(f"AGENTS_FILE: tools.{name}: {error}") from error.__cause__
    return built


def _build(
    config: ToolConfig, environ: Mapping[str, str], tls: Callable[[], ssl.SSLContext]
) -> Tool:
    _check_parameters(config)
    if config.function is not None:
        return PythonTool(config, _function(config.function))
    url = parse_url(config.url or "")
    variables = () if config.secret_env is None else (config.secret_env,)
    files = () if config.secret_file is None else (config.secret_file,)
    signer = signer_from(variables=variables, files=files, environ=environ)
    return HttpTool(config, url, signer, tls(), proxy=proxy_for(url, environ))


def _check_parameters(config: ToolConfig) -> None:
    schema = config.parameters
    if schema is None:  # a function brings them in its signature
        return
    if schema.get("type") != "object":
        raise ValueError('parameters: the schema needs type = "object"')
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        raise ValueError("parameters: properties must be a table")  # noqa: TRY004 a setting is at fault
    if not isinstance(required, list) or not set(map(str, required)) <= properties.keys():
        raise ValueError("parameters: required must list names of properties")
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError):
        # TOML has dates of its own, JSON has none.
        raise ValueError("parameters: not JSON; put dates and times into quotes") from None


def _function(path: str) -> Callable[..., object]:
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module's own code may raise anything
        missing = f": {error}" if isinstance(error, ImportError) else ""
        fault = (
            f"function: {module_name} cannot be imported ({type(error).__name__}{missing}): "
            "install it, or name its folder in PYTHONPATH"
        )
        raise ValueError(fault) from error
    function = getattr(module, name, None)
    if not callable(function):
        fault = f"function: {module_name} has no function {name}: give module:function"
        raise ValueError(fault)  # noqa: TRY004 a setting is at fault
    return cast("Callable[..., object]", function)
