"""What a VRM file's author allows, in sentences: its terms travel inside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

USES = {
    "commercialUssageName": "commercial use", "violentUssageName": "violent use",
    "sexualUssageName": "sexual use",
}  # fmt: skip
RULES = {
    "avatarPermission": "who may use it", "commercialUsage": "commercial use",
    "modification": "modification", "creditNotation": "credit",
    "allowExcessivelyViolentUsage": "violent use", "allowExcessivelySexualUsage": "sexual use",
    "allowRedistribution": "redistribution",
}  # fmt: skip


def terms(extensions: Mapping[str, Any]) -> str:
    """One sentence with author, licence and rules; '' for what is no VRM."""
    new, old = extensions.get("VRMC_vrm"), extensions.get("VRM")
    if new is None and old is None:
        return ""
    meta = (new or old or {}).get("meta", {})
    said = _new(meta) if new is not None else _old(meta)
    rules = "; ".join(said) or "it states no terms"
    return f"Terms of this VRM: {rules}. Keep to them; whoever uses the LoRA must too."


def _new(meta: Mapping[str, Any]) -> list[str]:
    authors = ", ".join(map(str, meta.get("authors", ())))
    said = [f"by {authors}"] if authors else []
    said += [f"{label}: {_word(meta[key])}" for key, label in RULES.items() if key in meta]
    return said + [str(meta[key]) for key in ("licenseUrl", "otherLicenseUrl") if meta.get(key)]


def _old(meta: Mapping[str, Any]) -> list[str]:
    said = [f"by {meta['author']}"] if meta.get("author") else []
    said += [f"licence {meta['licenseName']}"] if meta.get("licenseName") else []
    said += [f"used by: {meta['allowedUserName']}"] if meta.get("allowedUserName") else []
    said += [f"{label}: {_word(meta[key])}" for key, label in USES.items() if key in meta]
    links = ("otherLicenseUrl", "otherPermissionUrl")
    return said + [str(meta[key]) for key in links if meta.get(key)]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "allowed" if value else "not allowed"
    return str(value)
