"""The charts of trends: bars at the right place, axes with round numbers, and a text for screen readers."""

import re
from datetime import UTC, datetime

import pytest

from worker.console.charts import DAY, WEEK, nice_top, trend_chart

NOW = datetime(2026, 11, 30, 14, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("largest", "top"), [(0, 4), (1, 4), (4, 4), (5, 10), (10, 10), (11, 20), (399, 400), (401, 1000)]
)
def test_the_axis_ends_at_a_round_number_above_the_largest_value(largest, top):
    assert nice_top(largest) == top


def test_a_bar_is_as_high_as_its_number_and_failures_stand_on_the_completed_ones():
    chart = str(trend_chart(DAY, [{"ago": 0, "stored": 5, "failed": 5}, {"ago": 99, "stored": 9, "failed": 0}], NOW))
    stored, failed = re.findall(r'<path class="bars(?: failed)?" d="M([\d.]+) ([\d.]+)v-([\d.]+)', chart)
    assert stored[0] == failed[0]
    assert float(stored[1]) - float(stored[2]) == pytest.approx(float(failed[1]), abs=0.2)
    assert stored[2] == failed[2] == "80.0"
    assert "tasks per 30 minutes: 5 completed, 5 failed or partial, at most 10" in chart


def test_the_axes_are_labelled_with_whole_hours_and_days_in_utc():
    assert re.findall(r">([\d:]+)</text>", str(trend_chart(DAY, [], NOW)))[5:] == [
        *("12:00", "08:00", "04:00", "00:00", "20:00", "16:00"),
    ]
    assert re.findall(r">(\d\d \w+)</text>", str(trend_chart(WEEK, [], NOW))) == [
        *("30 Nov", "29 Nov", "28 Nov", "27 Nov", "26 Nov", "25 Nov", "24 Nov"),
    ]
