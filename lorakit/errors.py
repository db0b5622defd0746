"""The mistakes a user can make, as exceptions whose message is one plain sentence: what, where,
what to do next.

LorakitError
 +- SettingsError    a value in a form, on the command line or in project.toml
 +- DatasetError     pictures and captions
 +- CollectError     a picture or a source of pictures
 |   +- Refused      a source that answers nothing at all, as without a key
 +- BaseModelError   the checkpoint trained on
 +- LoraFileError    a LoRA file that is read
 +- TrainingError    a run that cannot start or go on
 +- SaveError        a file that could not be written
"""


class LorakitError(Exception):
    """Base of every error lorakit raises on purpose; the command line prints it and exits with code
    2.
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback (IPython looks for this name): the sentence
        alone.
        """
        return [str(self)]


class SettingsError(LorakitError):
    """A setting is unknown, out of range, or contradicts another."""


class DatasetError(LorakitError):
    """The dataset folder lacks something, or a picture or caption cannot be used."""


class CollectError(LorakitError):
    """A picture cannot be had, or a source of pictures cannot be read."""


class Refused(CollectError):
    """A source refuses every request: asking for the next picture is no use."""


class BaseModelError(LorakitError):
    """The base model is missing, damaged, or not one that lorakit trains."""


class LoraFileError(LorakitError):
    """A LoRA file cannot be read completely."""


class TrainingError(LorakitError):
    """Training cannot start or cannot go on."""


class SaveError(LorakitError):
    """A file could not be written, for example because the disk is full."""
