"""Passes: signed permission to be forced into a variant, or to be told why. A JWT with HS256, as any JWT library makes."""

import base64
import hashlib
import hmac
import json
import time


def make_pass(key, *, seconds=3600, **claims):
    """A pass signed with `key` (text, at least 32 bytes) that holds for `seconds`; claims: `rollout` and `variant`, `explain`."""
    claims = {"exp": int(time.time()) + seconds, **claims}
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{_base64(hmac.digest(key.encode(), signed.encode(), hashlib.sha256))}"


def _part(value):
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
