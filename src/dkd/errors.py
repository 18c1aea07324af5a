"""Errors a person can act on."""


class UserError(Exception):
    """Bad input or a failed environment, told in one line.

    The message names the file, field or object and says what to do. The command line prints
    it as ``dkd: <message>`` and exits with status 2; nothing half-written is left behind.
    """
