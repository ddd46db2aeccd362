"""The types of notices, and the hosts that get Slack's form. Imported by the settings, so it imports nothing else."""

from typing import Final, Literal, get_args

NoticeType = Literal["generation.completed", "generation.partial", "generation.failed", "dead_letters.added"]
NOTICE_TYPES: Final[tuple[NoticeType, ...]] = get_args(NoticeType)
SLACK_HOSTS: Final = ("hooks.slack.com", "hooks.slack-gov.com")
