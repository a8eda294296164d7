"""Errors that a user can fix: they end a command with status 2, and only their message is shown."""


class InputError(ValueError):
    """Wrong input; each line of the message says what is wrong and what to do."""


class ConfigError(InputError):
    """A configuration that cannot be run; the message says which field and what it may be."""


class ImageError(InputError):
    """An image or a folder of images that cannot be used; the message names it."""
