"""The one exception that is shown to a user as a single line."""


class UsageError(ValueError):
    """Something the user can put right: a setting, an environment's name, an output folder."""
