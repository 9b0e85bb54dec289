"""The numbers that charts are drawn from."""

import pytest

from api.web import charts
from api.web.charts import COUNT, DURATION, MONEY, Column, Item, Series

DOLLAR = 1_000_000_000
DAYS = [Column(str(day), f"{day} Nov") for day in range(1, 31)]


def stacked(values: list[list[int]], unit: charts.Unit = MONEY) -> charts.StackedBars:
    columns = DAYS[: len(values[0])]
    return charts.stacked_bars("Spend", columns, [Series(f"m{n}", each) for n, each in enumerate(values)], unit)


@pytest.mark.parametrize(
    ("largest", "unit", "labels"),
    [
        (7 * DOLLAR, MONEY, ["$0", "$2", "$4", "$6", "$8"]),
        (930 * DOLLAR, MONEY, ["$0", "$250", "$500", "$750", "$1,000"]),
        (9_300 * DOLLAR, MONEY, ["$0", "$2.5k", "$5.0k", "$7.5k", "$10.0k"]),
        (9 * DOLLAR, MONEY, ["$0", "$2.50", "$5.00", "$7.50", "$10.00"]),
        (DOLLAR // 100, MONEY, ["$0", "$0.0025", "$0.0050", "$0.0075", "$0.0100"]),
        (3, COUNT, ["0", "1", "2", "3"]),
        (182_000, COUNT, ["0", "50k", "100k", "150k", "200k"]),
        (90 * 1_000_000, DURATION, ["0", "25\u202fs", "50\u202fs", "75\u202fs", "100\u202fs"]),
        (7 * 3600 * 1_000_000, DURATION, ["0", "2\u202fh", "4\u202fh", "6\u202fh", "8\u202fh"]),
    ],
)
def test_ticks_are_round_and_reach_above_the_highest_bar(largest: int, unit: charts.Unit, labels: list[str]) -> None:
    chart = stacked([[largest, 0]], unit)
    assert [tick.label for tick in chart.ticks] == labels
    assert float(chart.ticks[-1].y) >= charts.PLOT_TOP - 0.1


def test_segments_stand_on_each_other_and_add_up_to_their_bar() -> None:
    chart = stacked([[3 * DOLLAR, 0], [1 * DOLLAR, 4 * DOLLAR]])
    lower, upper = chart.bars[0].segments
    assert float(lower.y) + float(lower.height) == chart.baseline
    assert float(upper.y) + float(upper.height) == pytest.approx(float(lower.y), abs=0.2)
    assert [bar.total for bar in chart.bars] == ["$4.00", "$4.00"]
    assert float(chart.bars[1].segments[0].height) == pytest.approx(charts.PLOT_HEIGHT)
    assert [entry.total for entry in chart.legend] == ["$3.00", "$5.00"]


def test_what_has_no_colour_of_its_own_is_summed_up() -> None:
    chart = stacked([[n * DOLLAR] for n in range(10, 0, -1)])
    assert [entry.shade for entry in chart.legend] == [1, 2, 3, 4, 5, 6, 0]
    assert (chart.legend[-1].name, chart.legend[-1].total) == ("Other (4)", "$10.00")
    assert chart.total == "$55.00"


def test_next_to_nothing_is_still_seen_and_below_nothing_is_not() -> None:
    chart = stacked([[1000 * DOLLAR, 0], [1, 0], [-5 * DOLLAR, 0]])
    assert [segment.shade for segment in chart.bars[0].segments] == [1, 2]
    assert float(chart.bars[0].segments[1].height) == 1
    assert chart.legend[2].values[0] == "\N{MINUS SIGN}$5.00"


def test_nothing_at_all_is_empty_and_draws() -> None:
    assert stacked([[0, 0]]).is_empty
    assert charts.stacked_bars("Spend", [], []).is_empty


def test_a_month_has_few_labels_and_today_is_one_of_them() -> None:
    chart = stacked([[DOLLAR] * 30])
    labelled = [bar for bar in chart.bars if bar.label]
    assert len(labelled) <= 8
    assert labelled[-1].column is DAYS[-1]
    assert sum(not bar.is_spare for bar in labelled) <= 4


def test_bars_are_not_wider_than_bars() -> None:
    assert stacked([[DOLLAR]]).bars[0].width == "6.000%"


def test_a_line_goes_through_all_values_from_left_to_right() -> None:
    assert charts.sparkline([0, 5, 10]) == "0.0,26.0 50.0,14.0 100.0,2.0"
    assert charts.sparkline([1]) == ""
    assert charts.sparkline([0, 0]) == "0.0,26.0 100.0,26.0"


def test_bars_of_a_list_are_measured_by_the_largest_and_shares_by_the_whole() -> None:
    rows = charts.bar_list([Item("a", 3 * DOLLAR), Item("b", DOLLAR), Item("c", 0)])
    assert [(row.width, row.share) for row in rows] == [
        ("100.000%", "75.0\u202f%"),
        ("33.333%", "25.0\u202f%"),
        ("0.000%", "0.0\u202f%"),
    ]
    assert [row.share for row in charts.bar_list([Item("a", 0)])] == ["–"]
