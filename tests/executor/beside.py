"""A module that lies beside the script."""

_remembered = []


def double(x):
    return 2 * x


def remember(what):
    _remembered.append(what)


def remembered():
    return _remembered
