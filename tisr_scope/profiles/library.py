"""Finding, reading and writing profiles."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from tisr_scope.errors import ProfileError
from tisr_scope.profiles.mistakes import in_words
from tisr_scope.profiles.schema import Profile

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_folder(kind: str) -> Path:
    """Folder of the data shipped with the package: ``acquisition_profiles`` or ``models``.

    In a checkout they stand beside the package, in a wheel inside it.
    """
    installed = _PACKAGE / "_data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def profile_names() -> list[str]:
    """Names of the shipped profiles."""
    return sorted(p.stem for p in shipped_folder("acquisition_profiles").glob("*.yaml"))


def find_profile(name_or_path: str | Path) -> Path:
    """Path of a profile given by file name or by the name of a shipped one.

    Raises
    ------
    ProfileError
        If there is neither such a file nor such a shipped profile.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ProfileError(
            "there is no such profile file",
            where=str(path),
            remedy="check the path, or list the shipped profiles with 'tisr profiles list'",
        )
    shipped = shipped_folder("acquisition_profiles") / f"{path}.yaml"
    if shipped.is_file():
        return shipped
    raise ProfileError(
        f"there is no shipped profile named {str(name_or_path)!r}",
        remedy=f"choose one of {', '.join(profile_names())}, or give the path of a .yaml file",
    )


def parse_profile(text: str, where: str) -> Profile:
    """Profile from YAML text.

    Raises
    ------
    ProfileError
        With every key that is wrong, and why.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ProfileError(
            f"not valid YAML: {error}", where=where, remedy="mend the line named above"
        ) from error
    if not isinstance(content, dict):
        raise ProfileError(
            "a profile is a mapping of keys to values",
            where=where,
            remedy="start from 'tisr profiles show simulated_microtubules'",
        )
    try:
        return Profile.model_validate(content)
    except ValidationError as error:
        raise ProfileError(
            f"the profile cannot be used: {'; '.join(in_words(error, Profile))}",
            where=where,
            remedy="mend these keys; 'tisr profiles show example_hardware' explains each one",
        ) from error


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a shipped profile by name, or any profile by path."""
    path = find_profile(name_or_path)
    return parse_profile(path.read_text(encoding="utf-8"), str(path))


def profile_yaml(profile: Profile) -> str:
    """YAML text that :func:`load_profile` reads back to an equal profile."""
    return yaml.safe_dump(
        profile.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True
    )


def config_path(profile: Profile, profile_path: Path | None = None) -> Path | str:
    """The Micro-Manager configuration a profile names.

    Looked for as an absolute path, beside the profile, among the shipped profiles; a bare name
    that is none of these is left to Micro-Manager's own search (``MMConfig_demo.cfg``).
    """
    config = Path(profile.microscope.config)
    if config.is_absolute():
        return config
    folders = [shipped_folder("acquisition_profiles")]
    if profile_path is not None:
        folders.insert(0, profile_path.parent)
    for folder in folders:
        if (folder / config).is_file():
            return folder / config
    return str(config)
