"""The notebooks that come with lash_nb, made ready to run for `lash-nb demo`: copies of them, and the local model.

Decided here: they run in copies, in `lash-nb-demo/` under the working directory (a temporary one where that cannot be
written), and nothing that somebody changed there is overwritten; the local model is fetched only with consent.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from .errors import InputError, NotebookError, WeightsError
from .models.weights import find_weights
from .pulling import pull_command

__all__ = ["LOCAL", "QUICKSTART", "local_model", "unpack"]

QUICKSTART = "01_quickstart.ipynb"
LOCAL = "02_local_model.ipynb"
DIRECTORY = "lash-nb-demo"
_WITHOUT = "The second notebook is answered live by a small model on this machine, without a key."


def local_model(*, yes: bool, source: str) -> tuple[int, bool]:
    """Exit code, and whether the local model is ready: it is fetched if the user agrees, or it is said what to do.

    Raises: WeightsError when it cannot be fetched.
    """
    if find_spec("xllamacpp") is None:
        print(f"\n{_WITHOUT} It needs: pip install 'lash-nb[local]'", file=sys.stderr)
        return 0, False
    try:
        find_weights(os.environ)
    except WeightsError:
        if not yes and not sys.stdin.isatty():
            print(f"\n{_WITHOUT} `lash-nb demo --yes` fetches it (about 500 MB).", file=sys.stderr)
            return 0, False
        print(f"\n{_WITHOUT}", file=sys.stderr)
        code = pull_command(source=source, yes=yes, stdout=sys.stderr)
        return code, code == 0
    return 0, True


def unpack(name: str) -> Path:
    """A copy of that notebook to run in, with its cassette and its data.

    Raises:
        InputError: a file of that name is there already, and is another one.
        NotebookError: the installation lacks the notebook.
    """
    source = _source(name)
    stem = name.removesuffix(".ipynb")
    wanted = [source / name, source / f"{stem}.cassette.jsonl", *sorted(source.glob("data/**/*"))]
    files: Mapping[Path, Path] = {file.relative_to(source): file for file in wanted if file.is_file()}
    target = Path.cwd() / DIRECTORY
    try:
        target.mkdir(exist_ok=True)
    except FileExistsError:
        raise InputError(f"{target} is in the way: the demo makes a directory of that name") from None
    except OSError:
        target = Path(tempfile.mkdtemp(prefix=f"{DIRECTORY}-"))
    for relative, file in files.items():
        copy = target / relative
        if copy.exists() and copy.read_bytes() != file.read_bytes():
            raise InputError(f"{copy} is not the one that comes with lash_nb; move it away, or run the demo elsewhere")
    for relative, file in files.items():
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / relative)
    return target / name


def _source(name: str) -> Path:
    package = Path(__file__).resolve().parent
    for directory in (package / "notebooks", package.parent / "notebooks"):
        if (directory / name).is_file():
            return directory
    raise NotebookError(f"this installation of lash_nb has no {name}; install it anew")
