"""Secrets from files: `<key>_file` names a file that holds the value of the secret `<key>`.

One form for all of them: `hmac_secret_file = "/run/secrets/hmac"` under `[auth]`, or `GATEWAY_AUTH__HMAC_SECRET_FILE`;
so for `hmac_secret_previous`, `[redis] url` and `[control] api_keys` (one a line). A relative path starts at the
current folder, as with `jwks_url`. Files are read at the start and with each reload. The rule that is easiest to break:
a problem names the file, never what is in it.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final, NamedTuple, get_args

from pydantic.fields import FieldInfo

from gateway.config.schema import SettingPath, field_at, is_list

SUFFIX: Final = "_file"
MAX_BYTES: Final = 65_536
"""Size of a secret above which somebody has named the wrong file."""


class Secret(NamedTuple):
    """What a file holds. `warning`: what a person should know about it, or ""."""

    value: str | list[str]
    warning: str


def secret_at(path: SettingPath) -> SettingPath | None:
    """The secret that the setting at `path` names a file for; None = it is no such setting."""
    if not path[-1].endswith(SUFFIX):
        return None
    secret = (*path[:-1], path[-1].removesuffix(SUFFIX))
    field = field_at(secret)
    return secret if field is not None and not field.repr and _is_text(field) else None


def read_secret(file: object, field: FieldInfo) -> Secret:
    """The secret in `file`, without the line's end. Raises ValueError with what is wrong with the file."""
    if not isinstance(file, str) or not file:
        raise ValueError("must be the path of a file")
    path = Path(file)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"{path} is not a file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or 'cannot be read'}") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path} has more than {MAX_BYTES} bytes: is it the right file?")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path} is empty")
    warning = ""
    if mode & stat.S_IROTH:
        warning = f"{path} can be read by every user of this machine: take that right away with `chmod o-r`"
    if is_list(field):
        return Secret([line.strip() for line in lines if line.strip()], warning)
    return Secret(text.removesuffix("\n").removesuffix("\r"), warning)


def _is_text(field: FieldInfo) -> bool:
    """A text or a list of texts: what a file can hold."""
    return field.annotation is str or (is_list(field) and get_args(field.annotation)[0] is str)
