"""What can go wrong that is not a diagnosis, each with the exit code that scripts rely on."""

from __future__ import annotations


class DiagnoseError(Exception):
    """A fault of usage, configuration or input. The message is one line that names the thing and the way out."""

    exit_code = 2


class SubjectError(DiagnoseError):
    """The subject's own code raised.

    Attributes:
        doing: what the examination was doing when it happened, e.g. "building the Learner".
        original: the user's exception with its traceback.
        diagnosis: what had been found by then, if an examination had begun; None otherwise.
    """

    exit_code = 3
    diagnosis = None

    def __init__(self, doing: str, error: BaseException):
        self.doing, self.original = doing, unmasked(error)
        super().__init__(f"{doing}: {type(self.original).__name__}: {self.original}")


def unmasked(error: BaseException) -> BaseException:
    """The exception that a fastai callback really raised.

    fastai 2.8 reads the first argument of any exception that leaves a callback; one that has none (a bare `assert`)
    comes out as IndexError, with the original behind it (fastai#4019).
    """
    masked = isinstance(error, IndexError) and "tuple index out of range" in str(error)
    behind = error.__context__
    return behind if masked and behind is not None and not behind.args else error


class NotApplicable(Exception):
    """A check, cause or change cannot handle this subject. The message is the reason shown to the user."""
