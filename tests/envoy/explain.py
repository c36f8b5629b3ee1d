"""Reads `x-mulkko-explain`, and asks for it."""

import re

from passes import make_pass
from stage import PASS_KEY

MEMBER = re.compile(r'([a-z][a-z0-9-]*)="([^"]*)";reason=([A-Z_]+)(?:;bucket=(\d+))?')


def explain_pass():
    """A request header: a pass that forces nothing and asks why."""
    return ("x-mulkko-pass", make_pass(PASS_KEY, explain=True))


def decisions(response):
    """What a response explains: `{rollout: [variant, reason]}`."""
    return {rollout: [variant, reason] for rollout, variant, reason, _ in _members(response)}


def buckets(response):
    """The buckets that a response explains: `{rollout: bucket}`, for those that were computed."""
    return {rollout: int(bucket) for rollout, _, _, bucket in _members(response) if bucket}


def _members(response):
    value = response.header("x-mulkko-explain") or ""
    members = [member for member in value.split(", ") if member]
    matches = [MEMBER.fullmatch(member) for member in members]
    assert all(matches), f"not an explanation: {value}"
    return [match.groups() for match in matches]
