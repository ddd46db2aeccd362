"""VARIANTS: how it is read, and what the worker accepts about the files that a codec process made."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from handlers.codec import variants as codec_variants
from handlers.codec.operations import poster_request, poster_variants, prepare_request
from handlers.codec.request import InvalidAnswerError
from handlers.media import Limits, PreparedPoster, PreparedVariant
from handlers.settings import MediaSettings, SettingsError
from handlers.storage.variants import store_variants, variant_paths
from schemas.formats import ImageFormat
from schemas.jobs import Job, Profile
from schemas.submissions import Submission, TaskOptions
from schemas.variants import Variant, parse_variants, variants_text
from tests.codec_answers import RESULT, content

TEXT = "thumb:256,card:400x300:webp:80,moving:64:animated,wide:100x50:avif:animated,audio:waveform"
WRONG = {
    "thumb": "size",
    "thumb:": "size",
    "thumb:0": "1 to 4096",
    "thumb:4097": "1 to 4096",
    "thumb:10x": "size",
    "thumb:10x5000": "1 to 4096",
    "Thumb:10": "name",
    "../x:10": "name",
    "a" * 31 + ":10": "name",
    "thumb:10:gif": "jpeg, webp, avif",
    "thumb:10:auto": "jpeg, webp, avif",
    "thumb:10:webp:0": "1 to 100",
    "thumb:10:webp:101": "1 to 100",
    "thumb:10:webp:80:extra": "too many parts",
    "audio:waveform:80": "size",
    "audio:waveform:animated": "size",
    "thumb:10,thumb:20": "two variants",
    ",".join(f"v{number}:10" for number in range(11)): "at most 10",
}


def test_variants_are_read_and_written_as_text() -> None:
    found = parse_variants(TEXT.replace(",", " , "))
    assert variants_text(found) == TEXT
    assert found[1] == Variant(name="card", width=400, height=300, format=ImageFormat.WEBP, quality=80)
    assert (found[2].animated, found[2].format, found[3].format) == (True, None, ImageFormat.AVIF)
    assert (found[4].waveform, found[4].width, found[4].height) == (True, 1024, 256)
    profile = Profile().with_variants(TEXT)
    assert profile.key == f"auto-q85-strip+{TEXT}"
    assert Profile.model_validate_json(profile.model_dump_json()) == profile
    assert profile.with_variants("").key == Profile().key == profile.picture_key


@pytest.mark.parametrize("text", WRONG)
def test_an_error_names_the_setting_the_problem_and_the_remedy(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIANTS", text)
    with pytest.raises(SettingsError, match=WRONG[text]) as caught:
        MediaSettings.load(_env_file=None)
    assert "VARIANTS: " in str(caught.value)
    assert "for example" in str(caught.value).lower()
    with pytest.raises(ValidationError, match=WRONG[text]):
        TaskOptions(variants=text)


@pytest.mark.parametrize("value", [[{"name": "a", "width": 10**9}], {"a": 1}, 7, ["thumb:10"], True])
def test_only_text_is_read(value: Any) -> None:
    with pytest.raises(ValidationError, match="variants are a text"):
        TaskOptions(variants=value)


def test_the_setting_and_the_options_of_a_task_become_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIANTS", TEXT)
    assert MediaSettings.load(_env_file=None).profile.key == f"auto-q85-strip+{TEXT}"
    fields: dict[str, Any] = {"urls": ["https://fal.media/a.png"], "user_id": None, "generation_id": "g"}
    plain, other = Submission(**fields), Submission(**fields, task_options={"variants": "thumb:10"})
    assert plain.fingerprint != other.fingerprint
    assert plain.task_options.variants is None
    assert "own_variants" in Job.model_fields


REQUESTED = Profile(quality=70).with_variants("thumb:4,card:2x2:webp:50")
THUMB = {"name": "thumb", "file": 0, "content_type": "image/jpeg", "width": 4, "height": 3, "frames": 1}
CARD = {"name": "card", "file": 1, "content_type": "image/webp", "width": 2, "height": 2}
ITSELF = THUMB | {"file": None}


def parsed(folder: Path, *variants: dict[str, Any], profile: Profile = REQUESTED) -> tuple[PreparedVariant, ...]:
    target = folder / "prepared"
    for name in ("prepared", "prepared-0", "prepared-1"):
        target.with_name(name).write_bytes(name.encode())
    request = prepare_request(target, target, "image/png", profile, Limits(1, 1, 1, 1, 1))
    return request.parse_answer(content(result=RESULT | {"variants": list(variants)})).result().variants


async def test_a_valid_answer_becomes_files_with_their_own_hashes(tmp_path: Path) -> None:
    thumb, card = parsed(tmp_path, THUMB, CARD)
    assert (thumb.path, thumb.file_size, thumb.extension) == (tmp_path / "prepared-0", 10, "jpg")
    assert len({thumb.sha256, card.sha256}) == 2
    (itself,) = parsed(tmp_path, ITSELF)
    assert (itself.path, itself.is_picture) == (tmp_path / "prepared", True)
    paths = variant_paths("u/ab/abc.png", (thumb, card, itself))
    assert paths == {
        "thumb": f"u/ab/abc.thumb-{thumb.sha256[:12]}.jpg",
        "card": f"u/ab/abc.card-{card.sha256[:12]}.webp",
    }


@pytest.mark.parametrize(
    "variants",
    [
        [THUMB, THUMB],
        [THUMB | {"name": "other"}],
        [THUMB | {"name": "../../etc"}],
        [THUMB | {"file": 1}],
        [THUMB | {"file": 2}],
        [THUMB | {"file": "0"}],
        [THUMB | {"file": -1}],
        [THUMB | {"width": 5}],
        [THUMB | {"height": 0}],
        [CARD | {"height": 3}],
        [THUMB | {"content_type": "image/svg+xml"}],
        [THUMB | {"content_type": "text/html"}],
        [THUMB | {"path": "/etc/passwd"}],
        [THUMB | {"sha256": "0" * 64}],
        [CARD | {"file": None}],
        [ITSELF | {"content_type": "image/webp"}],
        [{name: value for name, value in THUMB.items() if name != "file"}],
        [THUMB] * 11,
        [None],
    ],
)
def test_an_invalid_answer_about_variants_is_refused(tmp_path: Path, variants: list[Any]) -> None:
    with pytest.raises(InvalidAnswerError):
        parsed(tmp_path, *variants)


def test_variants_that_were_not_requested_or_are_too_large_or_missing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidAnswerError, match="not requested"):
        parsed(tmp_path, THUMB, profile=Profile())
    monkeypatch.setattr(codec_variants, "MAX_VARIANT_BYTES", 9)
    with pytest.raises(InvalidAnswerError, match="10 bytes"):
        parsed(tmp_path, THUMB)
    request = prepare_request(tmp_path / "prepared", tmp_path / "none", "image/png", REQUESTED, Limits(1, 1, 1, 1, 1))
    with pytest.raises(InvalidAnswerError, match="cannot be read"):
        request.parse_answer(content(result=RESULT | {"file": "source", "variants": [THUMB]}))


POSTER = Profile().with_variants("thumb:4,audio:waveform")
WAVE = {"name": "audio", "file": 0, "content_type": "image/png", "width": 1024, "height": 256}


def parsed_poster(folder: Path, content_type: str, result: Any) -> PreparedPoster:
    (folder / "poster-0").write_bytes(b"picture")
    request = poster_request(folder / "film", folder / "poster", content_type, POSTER, Limits(1, 1, 1, 1, 1))
    return request.parse_answer(content(result=result)).result()


def test_a_video_has_the_variants_of_pictures_and_audio_has_waveforms(tmp_path: Path) -> None:
    for kind, variant, extension in (("video/mp4", THUMB, "jpg"), ("audio/mpeg", WAVE, "png")):
        (made,) = parsed_poster(tmp_path, kind, {"thumbhash": None, "variants": [variant]}).variants
        assert (made.path, made.extension, made.is_picture) == (tmp_path / "poster-0", extension, False)
    for other in ("image/png", "model/obj", "application/octet-stream"):
        assert poster_variants(other, POSTER) is None
    assert poster_variants("audio/mpeg", REQUESTED) is None
    assert poster_variants("video/mp4", Profile()) == ()


@pytest.mark.parametrize(
    ("content_type", "result"),
    [
        ("video/mp4", {"variants": [ITSELF]}),
        ("video/mp4", {"variants": [ITSELF | {"content_type": "video/mp4"}]}),
        ("video/mp4", {"variants": [WAVE]}),
        ("video/mp4", {"variants": [THUMB | {"content_type": "image/png"}]}),
        ("audio/mpeg", {"variants": [THUMB]}),
        ("audio/mpeg", {"variants": [WAVE | {"content_type": "image/jpeg"}]}),
        ("audio/mpeg", {"variants": [WAVE | {"content_type": "image/svg+xml"}]}),
        ("audio/mpeg", {"variants": [WAVE | {"width": 1025}]}),
        ("video/mp4", {"thumbhash": "<script>"}),
        ("video/mp4", {"file": "source"}),
        ("video/mp4", None),
    ],
)
def test_an_invalid_answer_about_a_poster_is_refused(tmp_path: Path, content_type: str, result: Any) -> None:
    with pytest.raises(InvalidAnswerError):
        parsed_poster(tmp_path, content_type, result)


class Recorder:
    """A storage that has the thumbnail already."""

    async def put(self, path: str, *_: Any, **__: Any) -> bool:
        return "thumb" not in path


@pytest.mark.parametrize("verify", [False, True])
async def test_only_new_variants_are_compared_by_the_database(tmp_path: Path, *, verify: bool) -> None:
    made = parsed(tmp_path, THUMB, CARD)
    stored = await store_variants(Recorder(), "u/ab/abc.png", made, verify=verify)  # type: ignore[arg-type]
    assert [variant.name for variant in stored] == ["thumb", "card"]
    assert [variant.md5 is None for variant in stored] == [True, verify]
    assert "md5" not in stored[0].model_dump()
