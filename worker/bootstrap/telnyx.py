"""Builds the client of Telnyx, from settings and from the environment's rule for all HTTP."""

import os

from pydantic import SecretStr

from worker.config.settings import Settings
from worker.domain.errors import SettingsError
from worker.telnyx.client import TelnyxClient


def build_telnyx(settings: Settings) -> TelnyxClient:
    """Build a client; the caller closes it. Raises `SettingsError`."""
    key, url = SecretStr(settings.telnyx_api_key), settings.telnyx_base_url
    try:
        return TelnyxClient(key, base_url=url, environ=os.environ)
    except ValueError as error:
        # Those of SSL_CERT_FILE and HTTPS_PROXY name themselves; the key was checked as a setting.
        fault = str(error).replace("url: ", "TELNYX_BASE_URL: ", 1)
    raise SettingsError(fault)
