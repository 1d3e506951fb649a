"""Which folder holds the cameras' folders: for `hsi up`, and for commands that work beside it.

`hsi up` may have been given another folder than the settings name, or have taken one in its state
folder; it notes there which one it is, so that a replay finds the pictures of the same log.
"""

import os
from pathlib import Path
from typing import Final

from inference.pictures import PictureStore
from runtime.settings import Settings

NOTE: Final = "camera-folder"


def camera_folder(settings: Settings, state: Path, wished: Path | None = None) -> Path:
    """Return the folder that `hsi up` watches: what was wished, else chosen, else one of its own.

    Without one that was chosen or exists that is `cameras` in the state folder.
    """
    chosen = settings.sources.get("foscam_base_path", "default") != "default"
    if wished is not None:
        folder = wished
    elif chosen or settings.foscam_base_path.is_dir():
        folder = settings.foscam_base_path
    else:
        folder = state / "cameras"
    return folder.expanduser().absolute()


def note(state: Path, cameras: Path) -> None:
    """Note which folder `hsi up` watches; its state folder is there by now."""
    (state / NOTE).write_bytes(os.fsencode(cameras))


def pictures_of(settings: Settings) -> PictureStore:
    """Return where the pictures lie that the log of these settings tells of.

    With a Redis of one's own nobody noted anything that counts here: the settings decide.
    """
    base = settings.foscam_base_path
    if settings.redis_url is None:
        noted = settings.state_dir / NOTE
        base = (
            Path(os.fsdecode(noted.read_bytes()))
            if noted.is_file()
            else camera_folder(settings, settings.state_dir)
        )
    return PictureStore(base, settings.state_dir / "frames")
