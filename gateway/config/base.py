"""What every section of the configuration is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0, le=31_536_000)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Secret = Annotated[str, Field(repr=False)]
"""A value that no message, log line or listing may show. `repr=False` is what marks a field as secret."""

TABLE_NAME = r"^[A-Za-z0-9_.\-]{1,64}$"
"""Name of a namespace, or of a limited API key."""


class Section(BaseModel):
    """Base of all sections: closed, immutable, with field docstrings as descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
