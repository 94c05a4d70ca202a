from __future__ import annotations

import pytest

from movl_monai.readers.dicom.flags import FLAGS, Flags


def test_flags_are_kept_once_in_the_order_they_came_up() -> None:
    flags = Flags()
    for code in ("padding_only", "excess_pixel_data", "padding_only"):
        flags.add(code)
    flags.add("empty", "WindowCenter")
    assert flags.codes == ["padding_only", "excess_pixel_data", "empty:WindowCenter"]


def test_a_flag_outside_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="code must be one of inferred, .* got 'odd'"):
        Flags().add("odd")


def test_the_table_of_flags_is_closed() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        FLAGS["odd"] = "no"  # type: ignore[index]
