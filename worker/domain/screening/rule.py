"""The base of the rules of screening, for texts and for mails."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

_Fits = TypeVar("_Fits", bound=Callable[..., bool])


@dataclass(slots=True)
class DecoratingRule(Generic[_Fits]):
    """A rule that decorates the function which decides whether it fits.

    That function's docstring says what the rule recognises, for the reference.
    """

    known: ClassVar[list[Any]]
    """All rules of this kind, in the order in which they apply."""
    fits: _Fits = field(init=False)

    def __call__(self, fits: _Fits) -> _Fits:
        """Add the rule of a function."""
        self.fits = fits
        self.known.append(self)
        return fits

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self.fits.__name__.lstrip("_")
