"""The options that all commands share, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from petiole_tools.failure import CliError

if TYPE_CHECKING:
    from petiole_gateway.settings.config import Config


@dataclass(frozen=True, slots=True)
class Target:
    """A NATS server and the site that is meant there."""

    url: str
    site: str
    user: str | None = None
    password: str | None = None
    credentials: Path | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """Global options; None where one was not given."""

    config: Path | None = None
    state_dir: Path | None = None
    server: str | None = None
    credentials: Path | None = None
    user: str | None = None
    password: str | None = None
    site: str | None = None
    as_json: bool = False
    debug: bool = False

    def settings(self, overrides: dict[str, Any] | None = None) -> Config:
        """The settings file (or none) with --site and --state-dir on top, and `overrides` on top of those."""
        from petiole_gateway.settings.config import load  # noqa: PLC0415 - pydantic costs a tenth of a second

        changed: dict[str, Any] = {}
        if self.site is not None:
            changed["site"] = self.site
        if self.state_dir is not None:
            changed["state_dir"] = str(self.state_dir.absolute())
        return load(self.config, changed | (overrides or {}))

    def target(self) -> Target:
        """--server if given, else the server of the settings, else the leaf server of the gateway on this machine."""
        from petiole_gateway.nats.errors import KeyFileError  # noqa: PLC0415 - the same
        from petiole_gateway.nats.leaf_access import ACCESS_FILE, read_access  # noqa: PLC0415

        config = self.settings()
        if self.server is not None:
            if self.credentials is not None and not self.credentials.is_file():
                raise CliError(f"there is no credentials file {self.credentials}", "check the path given with --creds")
            user, _, password = (self.user or "").partition(":")
            return Target(
                url=self.server,
                site=config.site,
                user=user or None,
                password=password or self.password,
                credentials=self.credentials,
            )
        nats = config.nats
        if nats.url is not None:
            return Target(nats.url, config.site, nats.user, nats.password, nats.credentials)
        path = config.leaf_dir / ACCESS_FILE
        try:
            access = read_access(config.leaf_dir)
        except KeyFileError as error:
            if "permission" in error.reason.lower():
                raise CliError(
                    str(error),
                    "run this as the user of the gateway, with sudo if it is a service, or give --server and --creds",
                ) from error
            if path.exists():
                raise
            raise CliError(
                f"no gateway has run here: there is no {path}",
                "start one with `petiole gateway run`, or name a server with --server nats://HOST:PORT",
            ) from error
        return Target(access.url, self.site or access.site, access.user, access.password)

    def as_site(self, site: str) -> Options:
        """The same for another site."""
        return replace(self, site=site)
