"""Virtual keys for a test proxy: LiteLLM's custom-auth hook, reading a file that tests edit.

``general_settings.custom_auth: tests.adapters.litellm.custom_auth.authenticate``; the file is named
by ``TEST_KEYS_FILE``: a JSON mapping of key to the fields that ``UserAPIKeyAuth`` gets, read anew
for each request, so that a key can be revoked under way.
"""

import json
import os
from pathlib import Path
from typing import Any

from litellm.proxy._types import ProxyException, UserAPIKeyAuth, hash_token
from starlette.requests import Request

__all__ = ["authenticate"]


async def authenticate(request: Request, api_key: str) -> Any:
    """Return whom a key belongs to.

    Raises:
        ProxyException: 401: nobody has that key (any more).
    """
    file = Path(os.environ["TEST_KEYS_FILE"])
    fields = json.loads(file.read_text(encoding="utf-8")).get(api_key)  # noqa: ASYNC240 - small
    if fields is None:
        raise ProxyException(message="unknown key", type="auth_error", param="key", code=401)
    hashed = hash_token(api_key)
    return UserAPIKeyAuth(api_key=hashed, token=hashed, **fields)
