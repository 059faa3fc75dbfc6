"""`lash-nb strip`, `embed` and `eject`: what is ours taken out of closed notebooks, put in, or made into plain cells.

Decided here: what is printed. Results go to stdout, what is wrong to stderr, one sentence each; with several files the
others are still done. A file that was changed meanwhile, or that nothing can be done with, is left as it is.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import InputError, LashError

__all__ = ["add"]

_FAILED, _BAD_INPUT = 1, 2

_GIT = """\
to keep turns out of a git repository, and have them in the working copy all the same:
  git config filter.lash-nb.clean "lash-nb strip --git-filter -- %f"
  echo "*.ipynb filter=lash-nb" >> .gitattributes
what git checks out again comes without them. A file that is not read as a notebook is kept as it is; to have git
refuse it instead:
  git config filter.lash-nb.clean "lash-nb strip --git-filter --strict -- %f"
  git config filter.lash-nb.required true
"""


def add(commands: Any) -> None:
    """Add them to the command line."""
    strip = commands.add_parser(
        "strip",
        help="take what is of lash_nb out of notebooks",
        description=inspect.cleandoc(_strip.__doc__ or ""),
        epilog=_GIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    strip.set_defaults(run=_strip)
    strip.add_argument("files", metavar="FILE", type=Path, nargs="*", help="notebooks, which are written anew")
    strip.add_argument("-o", dest="out", metavar="OUT", type=Path, help="write this file, and leave FILE as it is")
    strip.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 when there is something to take"
    )
    strip.add_argument("--all", dest="everything", action="store_true", help="the suggested model, too")
    strip.add_argument("--git-filter", action="store_true", help="from stdin to stdout, for git; FILE is only a name")
    strip.add_argument("--strict", action="store_true", help="with --git-filter: exit code 1 for what is no notebook")
    embed = commands.add_parser("embed", help="put a session's turns into its notebook", description=_embed.__doc__)
    embed.set_defaults(run=_embed)
    embed.add_argument("notebook", metavar="FILE", type=Path, help="a closed notebook, which is written anew")
    embed.add_argument("session", metavar="SESSION", nargs="?", help="its id, or how that begins; default: FILE's own")
    embed.add_argument("-o", dest="out", metavar="OUT", type=Path, help="write this file, and leave FILE as it is")
    eject = commands.add_parser(
        "eject", help="make a plain notebook, which runs without lash_nb", description=_eject.__doc__
    )
    eject.set_defaults(run=_eject)
    eject.add_argument("notebook", metavar="FILE", type=Path, help="a notebook; it is never written")
    eject.add_argument("out", metavar="OUT", type=Path, nargs="?", help="default: NAME.plain.ipynb beside it")
    eject.add_argument("--force", action="store_true", help="write over OUT")
    for parser in (embed, eject):
        parser.add_argument("--state-dir", metavar="DIR", type=Path, help="where sessions are kept")


def _say(sentence: str) -> None:
    print(f"lash-nb: {sentence}", file=sys.stderr)


# --------------------------------------------------------------------------------------------------------------- strip


def _strip(options: argparse.Namespace) -> int:
    """Take the turns and everything else of lash_nb out of notebooks: `metadata.lash_nb`, and the same in the metadata
    of outputs. Outputs stay, and so does the model that a notebook's author suggests. Nothing else is changed."""
    if options.git_filter:
        return _filter(options)
    if options.strict:
        raise InputError("--strict goes with --git-filter")
    if not options.files:
        raise InputError("name a notebook")
    if options.out is not None and len(options.files) > 1:
        raise InputError(f"-o is for one notebook; {len(options.files)} were named")
    return max(_each(path, lambda path: _strip_one(path, options)) for path in options.files)


def _each(path: Path, work: Callable[[Path], int]) -> int:
    """The exit code for one of several files."""
    try:
        return work(path)
    except LashError as error:
        _say(str(error))
        return _BAD_INPUT if isinstance(error, InputError) else _FAILED


def _strip_one(path: Path, options: argparse.Namespace) -> int:
    from .errors import NotebookError
    from .stores.closed import ClosedNotebook
    from .stripping import stripped

    file = ClosedNotebook(path)
    try:
        made = stripped(file.text, everything=options.everything)
    except NotebookError as error:
        raise NotebookError(f"{path} is not a notebook: {error}") from None
    if options.check:
        print(f"{path}: {made.sentence.replace('taken out', 'would be taken out')}")
        return _FAILED if made.size else 0
    if options.out is not None:
        file.write_to(options.out, made.text)
    else:
        file.replace(made.text)
    print(f"{path}: {made.sentence}")
    return 0


def _filter(options: argparse.Namespace) -> int:
    from .stripping import filtered

    data = sys.stdin.buffer.read()
    made, problem = filtered(data, everything=options.everything)
    name = " ".join(map(str, options.files)) or "the file"
    if problem and options.strict:
        _say(f"{name} is refused: {problem}")
        return _FAILED
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()
    if problem:
        _say(f"{name} is kept as it is, with all that is in it: {problem}")
    return 0


# --------------------------------------------------------------------------------------------------------------- embed


def _embed(options: argparse.Namespace) -> int:
    """Put what the journal has of a session into the notebook's metadata, where a frontend without the extension did
    not: its turns, also one that has not ended. The notebook must be closed, and the session not in use. Nothing is
    run."""
    from .embedding import embedded
    from .stores.closed import ClosedNotebook

    file = ClosedNotebook(options.notebook)
    made = embedded(file, which=options.session, state_dir=options.state_dir)
    if options.out is not None:
        file.write_to(options.out, made.text)
    else:
        file.replace(made.text)
    for sentence in made.notes:
        _say(sentence)
    for sentence in made.sentences:
        print(f"{options.notebook}: {sentence}")
    return 0


# --------------------------------------------------------------------------------------------------------------- eject


def _eject(options: argparse.Namespace) -> int:
    """Make a plain notebook that gives the same results without lash_nb: each request becomes the words and the code
    of its answer, in order. Exit code 1 when something of it had to be left out or cannot be made plain, or stands in
    another order than it was asked in, which is said. Nothing is run."""
    from .ejecting import ejected
    from .stores.closed import ClosedNotebook

    file = ClosedNotebook(options.notebook)
    out = options.out or options.notebook.with_name(f"{options.notebook.stem}.plain.ipynb")
    made = ejected(file, state_dir=options.state_dir)
    file.write_to(out, made.text, force=options.force)
    for sentence in (*made.left_out, *made.notes):
        _say(sentence)
    print(f"{out}: {made.sentence}")
    return _FAILED if made.left_out else 0
