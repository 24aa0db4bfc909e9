"""A module that lies beside the script."""

_remembered = []


class BeyondError(ValueError):
    def __init__(self, *, limit):
        super().__init__(f"beyond {limit}")
        self.limit = limit


def double(x):
    return 2 * x


def remember(what):
    _remembered.append(what)


def remembered():
    return _remembered
