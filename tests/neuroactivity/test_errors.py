"""What an option says that can have some values only."""

import pytest

from neuroactivity.errors import check_choice


def test_a_choice_is_known_by_its_value_and_not_by_its_memory():
    check_choice("how", "".join(["he", "ads"]), ("channels", "heads"))
    thing = [float("nan")]
    check_choice("how", thing[0], (1, thing[0]))


@pytest.mark.parametrize("value", [1.0, True, 2])
def test_an_equal_value_of_another_type_is_no_choice(value):
    with pytest.raises(ValueError, match=f"how: expected 0 or 1, got {value}"):
        check_choice("how", value, (0, 1))
