"""The base class of every section of a recipe.

A section is declared beside the component that reads it (``policy/config.py``, ``train/config.py``, ...) and put
together in ``recipe.py``. Sections import nothing heavy, so that a recipe is checked in well under a second.
"""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen, strict section: unknown keys are errors, and so are values of a wrong type."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
