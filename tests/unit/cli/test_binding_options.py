"""The options of `outlast init` for stored URLs, buckets, folders and FAL's webhook, as the SQL of a binding."""

import pytest

from worker.cli.bindings import Binding
from worker.settings import Settings

SETTINGS = Settings(_env_file=None)


def binding(**options):
    return Binding.from_options(SETTINGS, {"binding": "posts", **options})


def test_options_become_columns_of_the_binding():
    made = binding(
        write_urls=["image_url = stored_url", "video_url", "output.images[0].url=it's"],
        bucket="posts",
        public_bucket=True,
        object_path="/images/{org_id}/{user_id}/",
        variants="thumb:256, card:40x30:webp",
        fal_finishes=True,
        failed_values=["failed", "cancelled"],
    )
    sql = made.sql()
    assert """'{"image_url": "stored_url", "video_url": "video_url", "output.images[0].url": "it''s"}'::jsonb""" in sql
    kept = "'images/{org_id}/{user_id}', 'thumb:256,card:40x30:webp'"
    assert f"'posts', true, {kept}, true, array['failed', 'cancelled']::text[])" in sql
    assert "object_path = excluded.object_path" in sql


def test_defaults_leave_bucket_folders_and_rows_as_they_were():
    made = binding()
    assert (made.write_urls, made.bucket, made.object_path, made.fal_finishes) == ({}, None, None, False)
    assert made.failed_values == ()
    assert binding(object_path="{user_id}").object_path is None
    assert (made.variants, binding(variants="none").variants) == (None, "")
    assert binding(fal_finishes=True).failed_values == ("failed",)
    assert binding(fal_finishes=True, failed_values=["none"]).failed_values == ()
    assert binding(fal_finishes=True, status_column="none").failed_values == ()
    of_all = Binding.from_options(SETTINGS, {"binding": None, "bucket": "all"})
    assert of_all.bucket is None, "STORAGE_BUCKET is the bucket of the first binding"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write_urls": ["a=b=c"]}, "--write-url"),
        ({"write_urls": ["=b"]}, "--write-url"),
        ({"write_urls": ["a=x", "b=x"]}, "x is named twice"),
        ({"write_urls": ["a=x", "a=y"]}, "a is named twice"),
        ({"bucket": "a/b"}, "--bucket"),
        ({"bucket": "../x"}, "--bucket"),
        ({"object_path": "../{user_id}"}, "--object-path"),
        ({"object_path": "{a}-{b}"}, "--object-path"),
        ({"object_path": "a/b/c/d/e"}, "--object-path"),
        ({"variants": "thumb:0"}, "--variants 'thumb:0': the size must be"),
        ({"failed_values": ["failed"]}, "--fal-finishes"),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        binding(**options)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"forward_webhooks": "https://x.example/hook"}, "FORWARD_SECRET"),
        ({"forward_webhooks": "https://x.example/hook", "forward_secret": "whsec_short"}, "FORWARD_SECRET"),
        (
            {"forward_webhooks": "https://x", "forward_secret": f"whsec_{'A' * 32}", "webhook_max_body_mb": 17},
            "WEBHOOK_MAX_BODY_MB",
        ),
        ({"forward_webhooks": "x.example"}, "FORWARD_WEBHOOKS"),
    ],
)
def test_forwarding_needs_an_address_and_a_secret(given, name):
    with pytest.raises(ValueError, match=name):
        Settings.load(**given)
