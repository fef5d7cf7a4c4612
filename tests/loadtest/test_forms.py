"""The program that measures what each form of delivery costs."""

from __future__ import annotations

import pytest

from loadtest import forms


@pytest.mark.timeout(120)
def test_every_form_is_delivered_and_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "ROUNDS", 1)
    status = forms.main(["--connections", "6", "--messages", "10"])
    said = capsys.readouterr().out
    assert status == 0, said
    rows = {form.name: next(line for line in said.splitlines() if f" {form.name} " in line) for form in forms.FORMS}
    sizes = {name: int(row.split("│")[2].replace(",", "")) for name, row in rows.items()}
    assert sizes["json, delta"] < sizes["json, deflate"] < sizes["json"]
    assert sizes["protobuf, delta"] < sizes["protobuf"] < sizes["json"]


def test_a_gateway_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert forms.main(["--gateway-command", "/nowhere/gateway"]) == 2
    assert "cannot be run" in capsys.readouterr().out
