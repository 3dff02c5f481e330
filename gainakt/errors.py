"""The errors a user can act on: each says what is wrong, where, and what is allowed."""


class GainaktError(Exception):
    """Base of every error that is the user's to mend; printed without a traceback."""


class ConfigError(GainaktError, ValueError):
    """A parameter is unknown, of the wrong type, impossible, or contradicts another."""


class DataError(GainaktError, ValueError):
    """A source or a prepared data set is missing, malformed or does not match its manifest."""


class ExperimentError(GainaktError):
    """An experiment folder is missing, exists already, is damaged or not what it recorded."""


class TrainingError(GainaktError):
    """Training cannot go on: a loss or gradient stopped being finite, or a device is not there."""
