"""Why a replay of dead letters is expected to fail, by the code of their error."""

from typing import Final

REPLAY_PROBLEMS: Final = {
    "corrupted": "the source file is damaged, so it fails again unless the source has replaced it",
    "type_not_supported": "this file type is not supported, so it fails again",
    "size_exceeded": "the file is too large: raise MAX_FILE_SIZE_MB first",
    "decoder_limit": "the image is too large to decode: raise MAX_IMAGE_PIXELS first",
    "storage_rejected": "Storage refuses the file: correct what the bucket allows, or its name, first",
    "row_rejected": "the generation's row, or a trigger on its table, refuses the media: correct that first",
    "too_many_files": "the output has more files than MAX_EVENT_FILES: raise it, and fetch the generation again",
    "output_too_large": "the output is too large to be read, so it fails again",
    "row_unreadable": "the generation's row cannot be read, so it fails again until the row is corrected",
    "worker_killed": "it ended its worker each time: check the workers' memory and logs first",
    "source_forbidden": "the host is not allowed: add it to SOURCE_ALLOWLIST first",
    "undecodable": "this version cannot decode the message",
    "newer_version": "a newer version published the message: update the workers first",
}
