"""Where things are kept: `blobs` holds bytes by their hash; `notebook` is the form of what a notebook carries of its
turns, `copies` brings it there, `documents` reads and writes notebook files, `summaries` tells what a record says.

The contract of a blob store is `machine.attachments.AttachmentStore`.
"""

from __future__ import annotations

__all__: list[str] = []
