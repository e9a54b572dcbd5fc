"""Numbers as they are shown, on a page and in a terminal."""


class RecordsError(ValueError):
    """A file does not hold what was expected. The message is one line, for the person at the command line."""


def percent(fraction: float | None) -> str:
    """Return a fraction as a report shows it.

    Example:
        >>> percent(0.125), percent(None)
        ('12.5%', 'n/a')
    """
    return "n/a" if fraction is None else f"{100 * fraction:.1f}%"


def short(number: float | None) -> str:
    """Return a number in three digits, and nothing for none.

    Example:
        >>> short(0.012345), short(None)
        ('0.0123', '')
    """
    return "" if number is None else f"{number:.3g}"


def stepped(step: float) -> str:
    """Return a step in full.

    Example:
        >>> stepped(1_499_000.0), stepped(0.25)
        ('1,499,000', '0.25')
    """
    return f"{int(step):,}" if step == int(step) else f"{step:,g}"


def counted(number: int, what: str) -> str:
    """Return a number with what it counts, in the plural where there are several.

    Example:
        >>> counted(1, "reset"), counted(12000, "neuron")
        ('1 reset', '12,000 neurons')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"
