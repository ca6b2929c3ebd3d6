"""Every error that a person may meet, as one line, what to do next, and an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from rich.console import Console
from rich.text import Text

FAILED: Final = 1
WRONG_USE: Final = 2
UNREACHABLE: Final = 3
NOT_ALLOWED: Final = 4
NO_CREDITS: Final = 5
STILL_RUNNING: Final = 6


@dataclass(frozen=True, slots=True)
class Told:
    message: str
    hint: str = ""
    exit_code: int = FAILED


def explained(error: Exception) -> Told | None:
    """What to say of it; None for a mistake in our own code, which deserves its traceback."""
    from safelight.sdk import errors

    error = _alone(error)
    if isinstance(error, errors.SafelightError):
        return Told(_sdk_message(error), error.hint, _sdk_exit_code(error))
    return _of_the_machine(error)


def tell(told: Told) -> None:
    """One red line on standard error, and a plain one with what to do."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(_one_line(told.message), style="red"))
    if told.hint:
        console.print(Text(_one_line(told.hint)))


def _sdk_message(error: Exception) -> str:
    from safelight.sdk import InsufficientCredits, InvalidInput

    if isinstance(error, InsufficientCredits):
        return f"Too few credits: {error.required} needed, {error.available} there."
    if isinstance(error, InvalidInput) and error.errors:
        return f"Invalid input: {'; '.join(_fault(dict(each)) for each in error.errors[:5])}."
    text = str(error)
    return text[:1].upper() + text[1:]


def _fault(fault: dict[str, object]) -> str:
    loc = fault.get("loc")
    path = [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return f"{'.'.join(path)}: {fault.get('msg', '')}" if path else str(fault.get("msg", ""))


def _sdk_exit_code(error: Exception) -> int:
    from safelight.sdk import errors

    table = (
        ((errors.Unreachable, errors.NotConfigured, errors.UnexpectedAnswer), UNREACHABLE),
        ((errors.Unauthorized, errors.Forbidden), NOT_ALLOWED),
        ((errors.InsufficientCredits,), NO_CREDITS),
        ((errors.WaitTimeout,), STILL_RUNNING),
    )
    return next((code for kinds, code in table if isinstance(error, kinds)), FAILED)


def _of_the_machine(error: Exception) -> Told | None:
    """The database, the files, the network of this machine."""
    import asyncpg
    from pydantic import ValidationError

    from safelight.access.errors import AccessError
    from safelight.db.embedded import EmbeddedError
    from safelight.db.migrate import MigrationError

    match error:
        case EmbeddedError() | MigrationError():
            return Told(str(error), exit_code=UNREACHABLE)
        case ValidationError():
            faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
            return Told(f"Wrong {error.title.lower()}: {faults}.", exit_code=WRONG_USE)
        case AccessError():
            return Told(str(error), exit_code=FAILED)
        case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
            return Told(f"PostgreSQL refused us: {error}", "Check SAFELIGHT_DATABASE_URL.", UNREACHABLE)
        case asyncpg.UndefinedTableError():
            return Told("This database has no Safelight yet.", "Run `safelight db upgrade`.", UNREACHABLE)
        case asyncpg.PostgresError() | asyncpg.InterfaceError():
            return Told(f"PostgreSQL: {error}", exit_code=UNREACHABLE)
        case ConnectionError():
            return Told(
                f"No connection: {error}", "Is the database running? Check SAFELIGHT_DATABASE_URL.", UNREACHABLE
            )
        case OSError():
            where = f" ({error.filename})" if error.filename else ""
            return Told(f"{error.strerror or error}{where}")
        case _:
            return None


def _alone(error: Exception) -> Exception:
    """The one error that a task group wrapped."""
    while isinstance(error, ExceptionGroup):
        inside = cast("ExceptionGroup[Exception]", error).exceptions
        if len(inside) != 1:
            break
        error = inside[0]
    return cast(Exception, error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
