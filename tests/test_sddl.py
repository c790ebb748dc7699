"""Access lists of Windows as text: who else is let in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.edge.sddl import OPEN_FOLDER, PRIVATE, lets_others_in

ME = "S-1-5-21-1004336348-1177238915-682003330-1001"


@pytest.mark.parametrize(
    "text",
    [PRIVATE, f"O:{ME}{PRIVATE}", f"O:{ME}D:PAI(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{ME})", "O:BAD:P", "O:SYD:",
     "D:P(A;;FA;;;S-1-3-4)(A;;FA;;;S-1-5-18)(A;;FA;;;S-1-5-32-544)", f"O:{ME}D:P(D;;FA;;;WD)(A;;FA;;;SY)",
     f"O:{ME}D:P(A;OICIIO;FA;;;BU)(A;;FA;;;SY)", f"O:{ME}G:DUD:P(A;;FA;;;SY)S:(AU;SAFA;FA;;;WD)"],
)  # fmt: skip
def test_a_list_for_owner_system_and_administrators_is_private(text: str) -> None:
    """However they are written; denials and what only folders inherit let nobody in."""
    assert not lets_others_in(text)


@pytest.mark.parametrize(
    "text",
    [OPEN_FOLDER, "", "O:BA", "D:NO_ACCESS_CONTROL", f"{PRIVATE}(A;;FR;;;BU)", f"O:{ME}D:AI(A;ID;FR;;;WD)", "D:(A;;FR)",
     f"O:SYD:P(A;;FA;;;{ME})", f"{PRIVATE}(XA;;FR;;;AU;(a==1))"],
)  # fmt: skip
def test_a_list_for_more_than_them_is_not(text: str) -> None:
    """Users, everybody, another account, no list at all, an entry that cannot be read."""
    assert lets_others_in(text)


@given(st.text(alphabet="OGDSABUWYPI:();-15,X", max_size=60))
def test_no_text_breaks_it(text: str) -> None:
    assert lets_others_in(text) in (True, False)
