"""Settings of a service, which may come from files. For gateway and role services; nothing else in `umi` needs it."""

import os

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource

FILES = "UMI_SETTINGS_DIRECTORY"
"""Names a directory that holds settings as files, such as /run/secrets with umi_role_token in it."""


class FileSettings(BaseSettings):
    """Settings that are arguments before they are environment variables, and files after that."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then files."""
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, os.environ.get(FILES))
