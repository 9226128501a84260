"""The one exception for what a user can mend."""


class InputError(Exception):
    """Input, setting or file that cannot be used.

    The message is one line: it names the file (or field), says what was expected and what to do. Commands print it
    without a traceback and exit with status 2.
    """
