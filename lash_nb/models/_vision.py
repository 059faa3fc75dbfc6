"""Which models see: a table over families of names, as of 2026-11.

What is decided here: a model is shown images only when its name says that it takes them; an unknown one is not.
Imports nothing.
"""

from __future__ import annotations

import re

__all__ = ["sees"]

_BLIND = re.compile(
    r"^(o1-(mini|preview)|o3-mini|gpt-4o?-(audio|transcribe|realtime)|gpt-oss|claude-(1|2|v1|v2|instant)"
    r"|gemini-(1\.0|embedding)|gemma-?3[-:](1b|270m))|embed|-tts|whisper|-audio"
)
_FAMILIES = re.compile(
    r"^(gpt-4o|gpt-4\.[15]|gpt-4-turbo|gpt-([5-9]|\d\d)|chatgpt-4o|o[134](-|$)|claude-|gemini-|gemma-?[34]|llama-?4"
    r"|mistral-(small-3|medium-3|large-3)|minicpm-v|moondream|internvl|phi-4-multimodal|phi-?3\.5-vision)"
)
_WORDS = re.compile(r"(^|[^a-z])(vl|vision|llava|pixtral|multimodal|omni)([^a-z]|$)|\dvl|bakllava")


def sees(model: str) -> bool:
    """Whether a model of that name takes images; what stands before a slash (`openai/gpt-6`) is its publisher."""
    name = model.strip().lower().rpartition("/")[2]
    if _BLIND.search(name):
        return False
    return bool(_FAMILIES.search(name) or _WORDS.search(name))
