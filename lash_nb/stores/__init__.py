"""Where things are kept: `blobs` holds bytes by their hash; journals and notebook copies will stand beside it.

The contract of a blob store is `machine.attachments.AttachmentStore`.
"""

from __future__ import annotations

__all__: list[str] = []
